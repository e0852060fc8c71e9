# SPDX-License-Identifier: Apache-2.0
"""What LeRobot finds of us: a robot, a teleoperator and a camera of type `serl`, which stand for a running graph.

LeRobot looks for distributions by their names, so `lerobot_robot_serl` and its like stand in `src/` and import these.
It finds the class of a `config_*` module in the module of the same name without that.
"""
