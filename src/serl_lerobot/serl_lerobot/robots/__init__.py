# SPDX-License-Identifier: Apache-2.0
"""Robots of LeRobot: made by the name of their type, their numbers in our units, driven, and as an environment."""
