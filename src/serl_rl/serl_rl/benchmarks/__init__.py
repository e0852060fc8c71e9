# SPDX-License-Identifier: Apache-2.0
"""How fast the learning library is, and what it notices of damaged files."""
