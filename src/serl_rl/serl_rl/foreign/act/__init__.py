# SPDX-License-Identifier: Apache-2.0
"""ACT policies (Zhao et al., arXiv 2304.13705) in the directories that LeRobot writes."""
