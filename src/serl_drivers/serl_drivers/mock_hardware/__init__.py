# SPDX-License-Identifier: Apache-2.0
"""ros2_control without ros2_control: its topics, actions and services over an arm that is not there."""
