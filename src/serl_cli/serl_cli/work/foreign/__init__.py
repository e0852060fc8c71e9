# SPDX-License-Identifier: Apache-2.0
"""What commands do with the files of other stacks."""
