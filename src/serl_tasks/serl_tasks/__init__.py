# SPDX-License-Identifier: Apache-2.0
"""Tasks: spaces, observations, rewards, limits and scripted experts, without ROS and without a simulator."""
