# SPDX-License-Identifier: Apache-2.0
"""The learning library: agents, replay, journal, checkpoints. Imports no ROS and knows no robot."""
