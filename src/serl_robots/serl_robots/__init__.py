# SPDX-License-Identifier: Apache-2.0
"""Robot models, kinematics and the safety filter, and the arm controller node."""
