# SPDX-License-Identifier: Apache-2.0
"""Who may do what in a graph on a native ROS 2, and the certificates of a run. No ROS."""
