# SPDX-License-Identifier: Apache-2.0
"""Runs standard ROS 2 XML launch files where upstream's launch is not installed; see docs/launch.md."""
