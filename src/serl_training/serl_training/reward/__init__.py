# SPDX-License-Identifier: Apache-2.0
"""Who says whether an episode has succeeded."""
