# SPDX-License-Identifier: Apache-2.0
"""Keys with which the machines of a run know each other."""
