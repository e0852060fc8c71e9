# SPDX-License-Identifier: Apache-2.0
"""How callbacks are run, and what becomes of an error in one."""
