# SPDX-License-Identifier: Apache-2.0
"""Motions of `arm/move_to` along ways through joint space that somebody else plans, as the node `planner` does."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from serl_robots.control.control_step import Measured
from serl_robots.control.move_to import (
    INSIDE,
    JOINT_TOLERANCE,
    Move,
    MoveRejected,
    Profile,
    check_goal,
    check_path,
    check_way,
)
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose
from serl_robots.safety.braking import stoppable_speed
from serl_robots.safety.limits import SafetyLimits
from serl_robots.safety.tool_filter import ToolFilter

_SHARES: Final = (0.98, 0.5, 0.0, -0.5, -0.98)  # of what a step may change, that are tried
_STRENGTH: Final = 0.85  # of what joints may accelerate
_CORNER: Final = 0.1  # [rad] in joint space, from which on a way is not smooth
_AHEAD: Final = 40  # points of a way among which an arm that braked is looked for
_OFF_WAY: Final = 1e-3  # [rad] of a joint

Positions = NDArray[np.float64]


class AwaitedWay:
    """A way that somebody else plans: asked for once the arm stands, answered later."""

    def __init__(self, ask: Callable[[Positions], None]) -> None:
        """`ask` is called once, with the positions (n,) [rad] at which the arm stands; it may raise MoveRejected."""
        self._ask = ask
        self._asked = False
        self._answer: Positions | MoveRejected | None = None

    def answer(self, way: Positions | MoveRejected) -> None:
        """The way, joint positions (t, n) [rad] with a point for each control period, or why there is none."""
        self._answer = way

    def of(self, start: Positions) -> Positions | None:
        """The way from where the arm stands, `start` (n,) [rad]; None while it is waited for.

        Raises:
            MoveRejected: there is none.
        """
        if not self._asked:
            self._asked = True
            self._ask(start)
        if isinstance(self._answer, MoveRejected):
            raise self._answer
        return self._answer


class AwaitedMove(Move):
    """Stands for a move whose way is still being planned; so does the arm.

    Attributes:
        asked: whether the planner is at it.
    """

    is_there = False

    def __init__(self, error: Callable[[Measured], float], *, asked: bool) -> None:
        """`error` tells what is left to the goal, [m] or [rad]."""
        super().__init__(Profile(1.0, 1.0, 1.0))
        self._error, self.asked = error, asked

    def error(self, measured: Measured) -> float:
        """What is left to the goal, [m] or [rad]."""
        return self._error(measured)

    def reached(self, measured: Measured) -> bool:
        """It has not begun."""
        return False


class WayMove(Move):
    """Along a way through joint space that somebody else has planned, with a point for each control period.

    It is slowed along the way and never cut short: where the time of the way is too fast, each control period goes on
    by a shorter part of it, that the filter of the joints commands as it is and from which the arm can stop at the next
    corner (the time of a trajectory is scaled, and its path stays: Hollerbach, "Dynamic scaling of manipulator
    trajectories", ASME J. Dyn. Sys. Meas. Control 106, 1984; while it is followed: Dahl, Nielsen, "Torque-limited path
    following by online trajectory time scaling", IEEE Trans. Robotics and Automation 6(5), 1990). No step goes across a
    corner. Where the filter commands none of them the arm brakes along its checked stop, and goes on from the nearest
    point of the way.
    """

    def __init__(
        self,
        kinematics: Kinematics,
        safety: ToolFilter,
        start: NDArray[np.float64],
        way: NDArray[np.float64],
        admits: Callable[[NDArray[np.float64]], bool],
    ) -> None:
        """Follow `way` from where the arm stands.

        Args:
            kinematics: of the arm.
            safety: filter of the tool, which knows its limits.
            start: joint positions (n,) [rad] at which the arm stands.
            way: joint positions (t, n) [rad], a point for each control period, at rest at both ends; one point where
                the arm stands at its goal already.
            admits: whether the filter of the joints commands positions (n,) [rad] as they are.

        Raises:
            MoveRejected: it begins elsewhere, or a point of it is outside of limits.
        """
        super().__init__(Profile(1.0, 1.0, 1.0))
        if len(way) == 1:
            way = np.vstack([way, way])
        off = float(np.abs(way[0] - start).max())
        if off > JOINT_TOLERANCE:
            raise MoveRejected(
                f"the arm has moved while its way was planned, a joint by {off:.3f} rad; send the goal again"
            )
        limits = safety.limits
        lower = np.minimum(kinematics.lower + limits.joint_margin, start) - INSIDE
        upper = np.maximum(kinematics.upper - limits.joint_margin, start) + INSIDE
        for joint, values in enumerate(way.T):
            if values.min() < lower[joint] or values.max() > upper[joint]:
                raise MoveRejected(
                    f"joint {kinematics.joints[joint]}: expected a way in [{lower[joint]:.4f}, {upper[joint]:.4f}], "
                    f"found {values.min():.4f} to {values.max():.4f}"
                )
        poses = [kinematics.tcp(positions) for positions in way]
        check_goal(limits, poses[-1])
        check_path(limits, poses, planned=True)
        check_way(safety.keep_out, poses)
        self._way = np.vstack([start, way[1:]])
        self.goal = self._way[-1]
        self._admits, self._period = admits, safety.period
        self._corners = _corners(self._way)
        parts = np.abs(np.diff(self._way, axis=0)).max(axis=1)
        self._lengths = np.concatenate([[0.0], np.cumsum(parts)])  # of the fastest joint up to each point [rad]
        self._changes, self._keeps_limits = self._accelerations(limits, poses, parts)
        self._in_time = self._keeps_limits  # each control period has been one of the way's, up to now
        self._time = 0.0  # on the way, in control periods
        self._step = 0.0  # of the fastest joint in the last control period [rad]
        self._next: float | None = None  # time of what is commanded next; None: the arm brakes

    def _accelerations(
        self, limits: SafetyLimits, poses: Sequence[Pose], parts: NDArray[np.float64]
    ) -> tuple[list[float], bool]:
        """Largest change of the step in a period [rad] up to each corner, and whether the way keeps all of them.

        As in `JointMove`, half of what the tool may accelerate is for the curve of its path.
        """
        square = self._period**2
        moves = np.array([a.position_to(b) for a, b in itertools.pairwise(poses)])
        turns = np.array([a.rotation_vector_to(b) for a, b in itertools.pairwise(poses)])
        joints = np.diff(self._way, axis=0)
        keeps = True
        for steps, most in (
            (moves, limits.max_acceleration),
            (turns, limits.max_angular_acceleration),
        ):
            changes = np.linalg.norm(np.diff(steps, axis=0, prepend=0.0, append=0.0), axis=1)
            keeps &= bool(changes.max() <= most * square)
        changes = np.abs(np.diff(joints, axis=0, prepend=0.0, append=0.0))
        keeps &= bool(changes.max() <= limits.joint_acceleration * square)
        largest, first = [], 0
        for corner in self._corners.astype(int).tolist():
            per = np.maximum(parts[first:corner], 1e-9)
            length = float((np.linalg.norm(moves[first:corner], axis=1) / per).max())
            angle = float((np.linalg.norm(turns[first:corner], axis=1) / per).max())
            change = min(
                _STRENGTH * limits.joint_acceleration,
                0.5 * limits.max_acceleration / max(length, 1e-9),
                0.5 * limits.max_angular_acceleration / max(angle, 1e-9),
            )
            largest.append(change * square)
            first = corner
        return largest, keeps

    @property
    def positions(self) -> NDArray[np.float64] | None:
        """Joint positions (n,) [rad] wanted now; None where the arm is to brake."""
        return None if self._next is None else self._at(self._next)

    @property
    def is_lost(self) -> bool:
        """Whether the arm is commanded to where the way does not lead."""
        return self._time < 0.0

    def error(self, measured: Measured) -> float:
        """Largest joint distance left [rad]."""
        return float(np.abs(self.goal - measured.joints).max())

    def reached(self, measured: Measured) -> bool:
        """Are the joints where they should be?"""
        return self.error(measured) <= JOINT_TOLERANCE

    def advance(self) -> None:
        """One control period on, as far as the filter lets it."""
        number = min(int(np.searchsorted(self._corners, self._time, side="right")), len(self._corners) - 1)
        corner, change = float(self._corners[number]), self._changes[number]
        full, here = min(self._time + 1.0, corner), self._length(self._time)
        if self._in_time and not self.stopping and self._admits(self._at(full)):
            self._go(full, here)
            return
        self._in_time = False
        left = self._length(corner) - here
        most = min(self._length(full) - here, self._period * stoppable_speed(left, change / self._period, self._period))
        if self.stopping:
            most = min(most, max(self._step - change, 0.0))
        others = (self._step + share * change for share in _SHARES)
        for step in (most, *(step for step in others if 0.0 < step < most), 0.0):
            time = full if step >= self._length(full) - here else self._time_at(here + step)
            if self._admits(self._at(time)):
                self._go(time, here)
                return
        self._next = None

    def _go(self, time: float, here: float) -> None:
        self._step = self._length(time) - here
        self._next = self._time = time
        if time in self._corners:
            self._in_time = self._keeps_limits

    def stand(self) -> None:
        """The arm has come to rest on its way: it speeds up anew."""
        self._step, self._in_time = 0.0, False

    def rejoin(self, commanded: NDArray[np.float64]) -> None:
        """The arm braked: the way goes on from the point nearest to joint positions (n,) [rad], if it is there."""
        first, before = int(self._time), self._length(self._time)
        starts, ends = self._way[first:-1][:_AHEAD], self._way[first + 1 :][:_AHEAD]
        if not len(starts):
            return
        parts = ends - starts
        squares = np.maximum((parts * parts).sum(axis=1), 1e-18)
        shares = np.clip(((commanded - starts) * parts).sum(axis=1) / squares, 0.0, 1.0)
        gaps = np.abs(starts + shares[:, None] * parts - commanded).max(axis=1)
        nearest = int(np.argmin(gaps))
        if gaps[nearest] > _OFF_WAY:
            self._time = -1.0
            return
        self._time = max(self._time, first + nearest + float(shares[nearest]))
        self._step = self._length(self._time) - before

    @property
    def ended(self) -> bool:
        """Nothing more is to be commanded: at the goal."""
        return self._time >= len(self._way) - 1.0

    def _length(self, time: float) -> float:
        return float(np.interp(time, np.arange(len(self._lengths)), self._lengths))

    def _time_at(self, length: float) -> float:
        """When the fastest joint has gone so far [rad], if that is after now."""
        index = int(np.searchsorted(self._lengths, length, side="right")) - 1
        index = min(max(index, 0), len(self._lengths) - 2)
        part = float(self._lengths[index + 1] - self._lengths[index])
        return max(self._time, index + (length - float(self._lengths[index])) / max(part, 1e-12))

    def _at(self, time: float) -> NDArray[np.float64]:
        index = min(int(time), len(self._way) - 2)
        share = time - index
        positions: NDArray[np.float64] = self._way[index] + share * (self._way[index + 1] - self._way[index])
        return positions if share < 1.0 else self._way[index + 1]


def _corners(way: NDArray[np.float64]) -> NDArray[np.float64]:
    """Numbers of the points of a way (t, n) at which it turns sharply, and that of its end."""
    steps = np.diff(way, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    moving = np.flatnonzero(lengths > 1e-12)
    unit = steps[moving] / lengths[moving, None]
    sharp = (unit[1:] * unit[:-1]).sum(axis=1) < math.cos(_CORNER)
    return np.append(moving[1:][sharp], len(way) - 1).astype(np.float64)
