# SPDX-License-Identifier: Apache-2.0
"""Policies that other stacks made, as files: read and written with numpy alone, and nothing of them is executed."""
