# SPDX-License-Identifier: Apache-2.0
"""Any arm that a native ros2_control moves, by its controllers' topics, actions and services."""
