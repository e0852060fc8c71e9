# SPDX-License-Identifier: Apache-2.0
"""Planned motions of `arm/move_to`: straight in joint space, or straight in space.

A motion is checked as a whole before it begins; then each control period takes it one increment further, with a speed
that grows and falls within the acceleration limit and ends at the goal exactly.
"""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serl_robots.control.control_step import Measured
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose, Quaternion, Vector3, quaternion_exp, quaternion_multiply
from serl_robots.safety.braking import braked, stoppable_speed
from serl_robots.safety.joint_filter import joint_speed_limit
from serl_robots.safety.limits import SafetyLimits
from serl_robots.safety.tool_filter import ToolFilter
from serl_robots.safety.walls import KeepOut

_PATH_RESOLUTION: Final = 0.02  # [rad] of the fastest joint between two checked points of a path
_CHORD_MARGIN: Final = 1.01  # the tool's speed is sampled by chords, which are a little shorter than the path
_CURVE_MARGIN: Final = 1.1  # the same for its change of direction
INSIDE: Final = 1e-6
POSITION_TOLERANCE: Final = 0.005  # [m]
ANGLE_TOLERANCE: Final = 0.03  # [rad]
JOINT_TOLERANCE: Final = 0.02  # [rad]
_RESTING_PERIODS: Final = 2  # in which the end is commanded: to get there, and to stand there
_SETTLE_TIME: Final = 2.0  # [s] that the arm may take to arrive where it was commanded to


_WAY_OUT: Final = "; send a goal between, lead the arm there, or launch with planner:=ompl"


class MoveRejected(ValueError):
    """A goal that is not reachable within the limits."""


class Profile:
    """Progress along a path from 0 to 1, speeding up and braking within limits, exact at 1."""

    def __init__(self, speed: float, acceleration: float, period: float) -> None:
        self.progress = 0.0
        self.speed = 0.0  # [1/s]
        self._limit = speed
        self._change = acceleration * period
        self._period = period

    def advance(self, *, stopping: bool = False) -> None:
        """One control period on; with `stopping` it brakes."""
        left = 1.0 - self.progress
        if stopping:
            self.speed = braked(self.speed, self._change)
        else:
            affordable = stoppable_speed(left, self._change, self._period)
            self.speed = min(self.speed + self._change, self._limit, affordable)
        if self.speed * self._period >= left * (1.0 - 1e-9):
            self.progress, self.speed = 1.0, 0.0
        else:
            self.progress += self.speed * self._period


class Ending(NamedTuple):
    """Why a motion is over."""

    reason: str  # one of the action's termination reasons
    message: str


@dataclass(frozen=True, slots=True)
class MoveOutcome:
    """How a motion ended; `termination_reason` is one of those of the action."""

    success: bool
    termination_reason: str
    message: str
    error: float  # [m], or the largest joint error [rad]


class Move(ABC):
    """A planned motion under way."""

    is_there = True  # False of what stands for a move that is still to come

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self.stopping = False

    @abstractmethod
    def error(self, measured: Measured) -> float:
        """What is left to the goal, [m] or [rad]."""

    @abstractmethod
    def reached(self, measured: Measured) -> bool:
        """Is the arm where it should be?"""

    def advance(self) -> None:
        """One control period on."""
        self._profile.advance(stopping=self.stopping)

    def stand(self) -> None:
        """The arm has come to rest on its way: it speeds up anew."""
        self._profile.speed = 0.0

    @property
    def ended(self) -> bool:
        """Nothing more is to be commanded: at the goal, or stopped."""
        return self._profile.progress >= 1.0 or (self.stopping and self._profile.speed == 0.0)


class PoseMove(Move):
    """Straight line of the tool with a rotation about one axis."""

    def __init__(self, safety: ToolFilter, start: Pose, goal: Pose, scaling: float) -> None:
        """Plan from `start`, with the share `scaling` in (0, 1] of the filter's speed limits.

        Raises:
            MoveRejected: the goal is outside workspace box or orientation cone, or a keep-out box is in the way.
        """
        limits = safety.limits
        check_goal(limits, goal)
        check_way(safety.keep_out, (start, goal))
        self._start_position = start.position
        self._offset = goal.position - start.position
        self._turn = start.rotation_vector_to(goal)
        qx, qy, qz, qw = start.quaternion.tolist()
        self._start_quaternion: Quaternion = (qx, qy, qz, qw)
        self.goal = goal
        length, angle = float(np.linalg.norm(self._offset)), float(np.linalg.norm(self._turn))
        turn_acceleration = limits.max_angular_acceleration
        super().__init__(
            Profile(
                scaling * min(_ratio(safety.speed_limit, length), _ratio(safety.turn_limit, angle)),
                min(_ratio(safety.deceleration, length), _ratio(turn_acceleration, angle)),
                safety.period,
            )
        )

    @property
    def desired(self) -> tuple[Vector3, Quaternion]:
        """Tool position [m] and orientation (xyzw) wanted now."""
        progress = self._profile.progress
        x, y, z = (self._start_position + progress * self._offset).tolist()
        rx, ry, rz = (progress * self._turn).tolist()
        return (x, y, z), quaternion_multiply(quaternion_exp((rx, ry, rz)), self._start_quaternion)

    def error(self, measured: Measured) -> float:
        """Distance left [m]."""
        return self.goal.distance(measured.tcp)

    def reached(self, measured: Measured) -> bool:
        """Is the tool where it should be?"""
        return self.error(measured) <= POSITION_TOLERANCE and self.goal.angle(measured.tcp) <= ANGLE_TOLERANCE


class JointMove(Move):
    """Straight line in joint space; the tool keeps to workspace box, cone and speed limits on the way."""

    def __init__(
        self,
        kinematics: Kinematics,
        safety: ToolFilter,
        start: NDArray[np.float64],
        goal: NDArray[np.float64],
        scaling: float,
    ) -> None:
        """Plan from joint positions `start` to `goal`, float64 (n,) [rad].

        Args:
            kinematics: of the arm.
            safety: filter of the tool, which knows its limits.
            start: joint positions at which the motion begins.
            goal: joint positions at which it ends.
            scaling: share of the speed limits of joints and tool, in (0, 1].

        Raises:
            MoveRejected: the goal is too near a joint limit or outside box or cone, the path leaves them, or a keep-out
                box is in the way.
        """
        limits = safety.limits
        low, high = kinematics.lower + limits.joint_margin, kinematics.upper - limits.joint_margin
        for name, value, least, most in zip(kinematics.joints, goal.tolist(), low.tolist(), high.tolist(), strict=True):
            if not least <= value <= most:
                raise MoveRejected(f"joint {name}: expected a position in [{least:.4f}, {most:.4f}], found {value:.4f}")
        self._start, self._delta, self.goal = start, goal - start, goal
        largest = float(np.abs(self._delta).max())
        count = 2 + math.ceil(largest / _PATH_RESOLUTION)
        poses = [kinematics.tcp(start + share * self._delta) for share in np.linspace(0.0, 1.0, count)]
        check_goal(limits, poses[-1])
        check_path(limits, poses)
        check_way(safety.keep_out, poses)
        steps = [(a.position_to(b), a.rotation_vector_to(b)) for a, b in itertools.pairwise(poses)]
        length, bend = path_derivatives([step for step, _ in steps])
        angle, twist = path_derivatives([turn for _, turn in steps])
        speeds = joint_speed_limit(kinematics, limits, safety.period) / np.maximum(np.abs(self._delta), 1e-12)
        acceleration, turn_acceleration = safety.deceleration, limits.max_angular_acceleration
        # half of what the tool may accelerate is for speeding up and braking, half for the curve of its path
        curve = min(_ratio(0.5 * acceleration, bend), _ratio(0.5 * turn_acceleration, twist))
        fastest = min(_ratio(safety.speed_limit, length), _ratio(safety.turn_limit, angle), math.sqrt(curve))
        super().__init__(
            Profile(
                scaling * min(float(speeds.min()), fastest),
                min(
                    _ratio(limits.joint_acceleration, largest),
                    _ratio(0.5 * acceleration, length),
                    _ratio(0.5 * turn_acceleration, angle),
                ),
                safety.period,
            )
        )

    @property
    def positions(self) -> NDArray[np.float64]:
        """Joint positions wanted now, float64[n] [rad]."""
        return self._start + self._profile.progress * self._delta

    def error(self, measured: Measured) -> float:
        """Largest joint distance left [rad]."""
        return float(np.abs(self.goal - measured.joints).max())

    def reached(self, measured: Measured) -> bool:
        """Are the joints where they should be?"""
        return self.error(measured) <= JOINT_TOLERANCE


class Motion:
    """A move from its beginning to its outcome.

    Attributes:
        move: as it was planned when the goal came, until the motion begins.
        begun: whether it is under way: a moving arm has to brake first.
        waited: control periods before it began.
    """

    def __init__(
        self, plan: Callable[[Measured], Move], measured: Measured, done: Callable[[MoveOutcome], None]
    ) -> None:
        """`plan` makes the move from where the arm is; `done` is called once, when the motion is over.

        Raises:
            MoveRejected: there is no way from here.
        """
        self.move = plan(measured)
        self.begun = False
        self.waited = 0
        self._plan = plan
        self._done = done
        self._ended_at_ns = 0
        self._rests = 0  # periods in which its end was commanded

    def begin(self, measured: Measured) -> None:
        """Plans anew, from where the arm came to rest; it has begun unless its move is still to come.

        Raises:
            MoveRejected: there is no way from here.
        """
        stopping = self.move.stopping
        self.move = self._plan(measured)
        self.move.stopping = stopping
        self.begun = self.move.is_there

    def advance(self, measured: Measured) -> Ending | None:
        """One control period on. When it is over: how it ends; then nothing is to be commanded."""
        move = self.move
        move.advance()
        if not move.ended:
            return None
        if self._rests < _RESTING_PERIODS:
            self._ended_at_ns = self._ended_at_ns or measured.stamp_ns
            self._rests += 1
            return None
        if move.stopping:
            return Ending("canceled", "the motion was canceled")
        if move.reached(measured):
            return Ending("reached", "")
        if measured.stamp_ns - self._ended_at_ns > _SETTLE_TIME * 1e9:
            return Ending("timeout", f"the arm did not arrive within {_SETTLE_TIME:g} s after its target")
        return None

    def end(self, reason: str, message: str, measured: Measured) -> None:
        """Tells how it ended."""
        self._done(MoveOutcome(reason == "reached", reason, message, self.move.error(measured)))


def path_derivatives(steps: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """Largest first and second derivative, by the share of the way, of a path that was sampled evenly.

    `steps` float64[n, 3] are the differences of neighbouring samples.
    """
    count = len(steps)
    first = max(float(np.linalg.norm(step)) for step in steps)
    second = max((float(np.linalg.norm(b - a)) for a, b in itertools.pairwise(steps)), default=0.0)
    return _CHORD_MARGIN * count * first, _CURVE_MARGIN * count**2 * second


def _ratio(limit: float, extent: float) -> float:
    return limit / max(extent, 1e-12)


def _reference(limits: SafetyLimits) -> Pose:
    return Pose((0.0, 0.0, 0.0), limits.reference_orientation)


def check_goal(limits: SafetyLimits, goal: Pose) -> None:
    """Refuses a goal of the tool, base frame, that is outside box or cone.

    Raises:
        MoveRejected: with the reason.
    """
    _check_position("the goal is", goal.position, np.array(limits.workspace_min), np.array(limits.workspace_max))
    angle = _reference(limits).angle(goal)
    if angle > limits.orientation_cone + INSIDE:
        raise MoveRejected(
            f"the goal is outside the orientation cone: {angle:.3f} rad from the reference orientation, at most "
            f"{limits.orientation_cone:.3f} rad allowed"
        )


def check_path(limits: SafetyLimits, poses: Sequence[Pose], *, planned: bool = False) -> None:
    """Refuses a way of the tool unless every pose is inside box and cone, or no further out than the first one.

    Args:
        limits: box and cone.
        poses: of the tool, in a row.
        planned: whether somebody has looked for this way, so that none else is to be expected.

    Raises:
        MoveRejected: with the reason.
    """
    start, reference = poses[0], _reference(limits)
    way_out = "" if planned else _WAY_OUT
    low = np.minimum(limits.workspace_min, start.position)
    high = np.maximum(limits.workspace_max, start.position)
    cone = max(limits.orientation_cone, reference.angle(start))
    for pose in poses:
        _check_position("the way to the goal goes", pose.position, low, high, way_out)
        if reference.angle(pose) > cone + INSIDE:
            raise MoveRejected(
                f"the way to the goal leaves the orientation cone: {reference.angle(pose):.3f} rad from the reference "
                f"orientation, at most {cone:.3f} rad allowed{way_out}"
            )


def check_way(keep_out: KeepOut, poses: Sequence[Pose]) -> None:
    """Refuses a way of the tool with a keep-out box between two poses.

    Raises:
        MoveRejected: with the box.
    """
    for before, after in itertools.pairwise(pose.position.tolist() for pose in poses):
        box = keep_out.crossed(before, after)
        if box is not None:
            x, y, z = after
            raise MoveRejected(
                f"a keep-out box is in the way: {box[:3]} to {box[3:]} m (limits.keep_out, with "
                f"limits.keep_out_distance round it), at or before ({x:.3f}, {y:.3f}, {z:.3f})"
            )


def _check_position(
    what: str,
    position: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    way_out: str = "",
) -> None:
    for axis, value, least, most in zip("xyz", position.tolist(), low.tolist(), high.tolist(), strict=True):
        if not least - INSIDE <= value <= most + INSIDE:
            beyond = 1e3 * max(least - value, value - most)
            found = f"{value:.3f}" if abs(value) < 1e3 else f"{value:.3g}"
            little = f", {beyond:.2g} mm beyond" if beyond < 1.0 else ""  # which three decimals do not show
            raise MoveRejected(
                f"{what} outside the workspace box: {axis} = {found} m, allowed {least:.3f} to {most:.3f} m{little}"
                f"{way_out}"
            )
