# SPDX-License-Identifier: Apache-2.0
"""The keyboard of a terminal."""
