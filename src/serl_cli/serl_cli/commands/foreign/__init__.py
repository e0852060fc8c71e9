# SPDX-License-Identifier: Apache-2.0
"""Commands for what other stacks made."""
