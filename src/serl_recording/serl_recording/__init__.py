# SPDX-License-Identifier: Apache-2.0
"""Recordings of episodes: one schema, readers and writers of several formats, conversion and checks. No ROS."""
