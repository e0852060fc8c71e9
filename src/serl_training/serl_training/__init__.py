# SPDX-License-Identifier: Apache-2.0
"""The learning graph: actor, learner and reward nodes, and the ROS environment."""
