# SPDX-License-Identifier: Apache-2.0
"""What an arm is: description, kinematics, poses, joint states."""
