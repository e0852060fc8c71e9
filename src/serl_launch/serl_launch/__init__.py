# SPDX-License-Identifier: Apache-2.0
"""Runs launch files where upstream's launch is not installed, and talks to running graphs."""
