# SPDX-License-Identifier: Apache-2.0
"""Runs what a launch file says: processes, their output and their end."""
