# SPDX-License-Identifier: Apache-2.0
"""Cameras as ROS topics, and the page on which a crop is chosen."""
