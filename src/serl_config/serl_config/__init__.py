# SPDX-License-Identifier: Apache-2.0
"""Reads files that anybody may have written: YAML, JSON, heads of pictures; with budgets. Knows no ROS."""
