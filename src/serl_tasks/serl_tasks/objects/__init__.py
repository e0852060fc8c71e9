# SPDX-License-Identifier: Apache-2.0
"""What lies around in a task: solids, and how they are mounted."""
