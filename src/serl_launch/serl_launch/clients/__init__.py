# SPDX-License-Identifier: Apache-2.0
"""Programs that talk to a running graph."""
