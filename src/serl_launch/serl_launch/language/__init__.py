# SPDX-License-Identifier: Apache-2.0
"""The language of ROS 2's XML launch files, up to a plan of what to start."""
