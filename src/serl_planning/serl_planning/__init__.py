# SPDX-License-Identifier: Apache-2.0
"""Motions that are computed ahead: inverse kinematics with limits, distances between shapes, planned ways. No ROS."""
