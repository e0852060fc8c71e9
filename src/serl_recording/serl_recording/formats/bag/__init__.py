# SPDX-License-Identifier: Apache-2.0
"""MCAP in the layout of rosbag2: episodes as messages of ROS 2, written and read without ROS."""
