# SPDX-License-Identifier: Apache-2.0
"""Ways of an arm through joint space, and when it is where on them."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Final

import numpy as np
from numpy.typing import NDArray
from serl_config.optional import optional_module
from serl_robots.control.move_to import path_derivatives
from serl_robots.model.pose import Pose

Vector = NDArray[np.float64]
Way = NDArray[np.float64]

_SAMPLES: Final = 0.02  # [rad] of the fastest joint between two poses of the tool that are looked at
_SAME: Final = 1e-9

EXTRA: Final = "planning"


class PlanningError(ValueError):
    """There is no way, or none was found; the reason is for people."""


class MissingPlanner(PlanningError):
    """A library that plans is not installed."""


@dataclass(frozen=True, kw_only=True)
class MotionLimits:
    """How fast joints and tool may move on a way."""

    velocity: Vector  # of each joint, (n,) [rad/s]
    acceleration: float  # of each joint [rad/s^2]
    jerk: float  # of each joint [rad/s^3]
    tool_speed: float  # [m/s]
    tool_turn: float  # [rad/s]
    tool_acceleration: float  # [m/s^2]
    tool_turn_acceleration: float  # [rad/s^2]


@dataclass(frozen=True, eq=False)
class TimedWay:
    """Joint positions at even times, at rest at both ends."""

    period: float  # between two points [s]
    positions: Way  # (t, n) [rad]

    @property
    def duration(self) -> float:
        """[s]."""
        return self.period * (len(self.positions) - 1)


def library(name: str) -> ModuleType:
    """An optional library that plans.

    Raises:
        MissingPlanner: it is not installed.
    """
    module: ModuleType = optional_module(name, extra=EXTRA, needed_by="a planned motion", error=MissingPlanner)
    return module


def timed(way: Way, limits: MotionLimits, period: float, tool: Callable[[Vector], Pose]) -> TimedWay:
    """When the arm is where: it goes straight from point to point of the way (p, n) [rad], and stands at each.

    On each straight part all joints move in proportion, by Ruckig's time-optimal profile with limited jerk (Berscheid,
    Kroeger, "Jerk-limited real-time trajectory generation with arbitrary target states", RSS 2021), which is computed
    here: Ruckig asks a server only for ways with waypoints, and is given none.

    Args:
        way: from point to point.
        limits: of joints and tool.
        period: between two points of the answer [s].
        tool: its pose for joint positions (n,).

    Raises:
        MissingPlanner: Ruckig is not installed.
        PlanningError: Ruckig refuses the limits.
    """
    ruckig = library("ruckig")
    points = [np.asarray(way[0])]
    for start, end in itertools.pairwise(way):
        delta = end - start
        if float(np.abs(delta).max()) < _SAME:
            continue
        profile = ruckig.InputParameter(1)  # of the share of this part, which keeps all joints on the line
        profile.current_position, profile.target_position = [0.0], [1.0]
        speed, acceleration, jerk = _shares(start, delta, limits, tool)
        profile.max_velocity, profile.max_acceleration, profile.max_jerk = [speed], [acceleration], [jerk]
        trajectory = ruckig.Trajectory(1)
        result = ruckig.Ruckig(1).calculate(profile, trajectory)
        if result not in (ruckig.Result.Working, ruckig.Result.Finished):
            raise PlanningError(f"Ruckig found no times for {np.round(delta, 4).tolist()} rad: {result}")
        for index in range(1, max(math.ceil(trajectory.duration / period), 1)):
            points.append(start + trajectory.at_time(index * period)[0][0] * delta)
        points.append(np.asarray(end))
    return TimedWay(period, np.array(points))


def _shares(
    start: Vector, delta: Vector, limits: MotionLimits, tool: Callable[[Vector], Pose]
) -> tuple[float, float, float]:
    """Largest first, second and third derivative by time of the share of a straight part that all limits leave.

    Half of what the tool may accelerate is for speeding up and braking, half for the curve of its path, as in
    `serl_robots.control.move_to.JointMove`.
    """
    largest = float(np.abs(delta).max())
    count = 2 + math.ceil(largest / _SAMPLES)
    poses = [tool(start + share * delta) for share in np.linspace(0.0, 1.0, count)]
    length, bend = path_derivatives([a.position_to(b) for a, b in itertools.pairwise(poses)])
    angle, twist = path_derivatives([a.rotation_vector_to(b) for a, b in itertools.pairwise(poses)])
    linear, angular = 0.5 * limits.tool_acceleration, 0.5 * limits.tool_turn_acceleration
    speed = min(
        1.0 / float((np.abs(delta) / limits.velocity).max()),
        limits.tool_speed / max(length, _SAME),
        limits.tool_turn / max(angle, _SAME),
        math.sqrt(linear / max(bend, _SAME)),
        math.sqrt(angular / max(twist, _SAME)),
    )
    acceleration = min(limits.acceleration / largest, linear / max(length, _SAME), angular / max(angle, _SAME))
    return speed, acceleration, limits.jerk / largest
