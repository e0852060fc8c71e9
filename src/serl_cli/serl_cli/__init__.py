# SPDX-License-Identifier: Apache-2.0
"""The command line of SERL for ROS 2."""

__version__ = "0.1.0"
