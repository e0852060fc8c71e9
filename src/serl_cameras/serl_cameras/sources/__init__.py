# SPDX-License-Identifier: Apache-2.0
"""Where pictures come from: one module for each kind of source."""
