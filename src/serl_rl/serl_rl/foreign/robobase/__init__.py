# SPDX-License-Identifier: Apache-2.0
"""DrQ-v2 policies of RoboBase: its snapshots, and the directories of the LeRobot fork that took its network over."""
