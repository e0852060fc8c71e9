# SPDX-License-Identifier: Apache-2.0
"""LeRobot beside this workspace: its robots in our environments and graph, and our graph as a robot of LeRobot.

LeRobot is optional (`./serl setup lerobot`) and reached through `serl_lerobot.compat` alone.
"""
