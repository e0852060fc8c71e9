# SPDX-License-Identifier: Apache-2.0
"""Ways with times that the arm controller's filter of the joints commands as they are: proven by that filter itself."""

from collections.abc import Callable
from typing import Final

import numpy as np
from serl_robots.model.kinematics import Kinematics
from serl_robots.safety.joint_filter import JointFilter, joint_speed_limit
from serl_robots.safety.limits import SafetyLimits

from serl_planning.way import MotionLimits, PlanningError, TimedWay

_SLOWER: Final = (1.0, 0.9, 0.75, 0.5, 0.3)
_AS_IT_IS: Final = 1e-9  # [rad]

Timing = Callable[[float], TimedWay]
"""Gives a way its times, slower by a factor."""


def motion_limits(
    limits: SafetyLimits, kinematics: Kinematics, period: float, jerk: float, scaling: float
) -> MotionLimits:
    """How fast a way may be gone within the limits of the arm controller.

    With its time scaled by a constant c, all speeds are scaled by c, accelerations by c^2, jerks by c^3 (Hollerbach,
    "Dynamic scaling of manipulator trajectories", ASME J. Dyn. Sys. Meas. Control 106, 1984).

    Args:
        limits: of joints and tool.
        kinematics: of the arm.
        period: of control [s].
        jerk: of each joint [rad/s^3].
        scaling: c, in (0, 1].
    """
    speed = min(limits.max_velocity, limits.max_step / period)
    turn = min(limits.max_angular_velocity, limits.max_rotation_step / period)
    return MotionLimits(
        velocity=scaling * joint_speed_limit(kinematics, limits, period),
        acceleration=scaling**2 * limits.joint_acceleration,
        jerk=scaling**3 * jerk,
        tool_speed=scaling * speed,
        tool_turn=scaling * turn,
        tool_acceleration=scaling**2 * limits.max_acceleration,
        tool_turn_acceleration=scaling**2 * limits.max_angular_acceleration,
    )


def paced(timing: Timing, kinematics: Kinematics, limits: SafetyLimits) -> TimedWay:
    """The fastest of a few scalings of a way that the filter commands as it is.

    Args:
        timing: gives it its times.
        kinematics: of the arm.
        limits: of joints and tool.

    Raises:
        PlanningError: it commands none.
    """
    problem = ""
    for factor in _SLOWER:
        way = timing(factor)
        problem = problem_of(way, kinematics, limits)
        if not problem:
            return way
    raise PlanningError(f"the way that was found breaks limits.* of the arm controller: {problem}")


def problem_of(way: TimedWay, kinematics: Kinematics, limits: SafetyLimits) -> str:
    """Which limits keep the arm controller's filter from commanding a way as it is, and where; empty: none does."""
    joint_filter = JointFilter(kinematics, limits, way.period)
    joint_filter.reset(way.positions[0], limits.max_gripper_width)
    for index, positions in enumerate([*way.positions[1:], way.positions[-1]]):
        acted = joint_filter.limit(positions, limits.max_gripper_width).limits
        if acted or float(np.abs(joint_filter.target - positions).max()) > _AS_IT_IS:
            return f"{', '.join(acted)} after {index * way.period:.2f} s"
    return "" if joint_filter.at_rest else "it does not end at rest"
