# SPDX-License-Identifier: Apache-2.0
"""Two arms whose hands keep a distance from each other, though each has a safety filter of its own.

A hand is the line from the tool centre point back to where the last link begins. Before each command both arms put the
same plane between the two hands as they are commanded now: across the shortest way between them, in its middle. Each
stays on its own side, half the distance away from it. Whatever both do in that step, they stay apart, and where they
are after it there is such a plane again. This is the buffered Voronoi cell of Zhou et al., "Fast, On-line Collision
Avoidance for Dynamic Vehicles Using Buffered Voronoi Cells", IEEE RA-L 2(2), 2017.

Where the two are controlled by two processes, each knows where the other one was commanded to be a moment ago. Each
then keeps its hand, up to its next command, as much farther from there as the other one may come nearer meanwhile.

Hands that are nearer than that already come no nearer. What is behind the hands, the links, is kept apart by where the
bases stand and by the boxes of the tools.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serl_robots.model.pose import Pose, Quaternion, Vector3, quaternion_rotate
from serl_robots.safety.limits import SafetyLimits
from serl_robots.safety.tool_target import ToolTarget

_SLACK: Final = 1e-9  # [m]
_SQRT3: Final = math.sqrt(3.0)

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Wall:
    """A half space in the frame of an arm's base, in which its hand stays: ``normal . x <= bound``.

    Attributes:
        normal: unit vector that points towards the other arm.
        bound: [m].
        wrist: where the hand begins, in the frame of the tool [m].
    """

    normal: Vector3
    bound: float
    wrist: Vector3

    def excess(self, position: Vector3, quaternion: Quaternion) -> float:
        """How far a hand would be beyond the wall [m]; negative where it is behind."""
        (nx, ny, nz), (x, y, z) = self.normal, position
        wx, wy, wz = quaternion_rotate(quaternion, self.wrist)
        return nx * x + ny * y + nz * z + max(0.0, nx * wx + ny * wy + nz * wz) - self.bound

    def allows(self, target: ToolTarget) -> bool:
        """Whether the hand of a tool pose stays behind it."""
        return self.excess(*target) <= _SLACK

    def nearest(self, position: Vector3, quaternion: Quaternion) -> Vector3:
        """The nearest position [m] to this one at which a hand of this orientation is behind it."""
        beyond = self.excess(position, quaternion)
        if not beyond > _SLACK:  # also of a position that is not finite, which the filter refuses
            return position
        (x, y, z), (nx, ny, nz) = position, self.normal
        return x - beyond * nx, y - beyond * ny, z - beyond * nz


class KeepApart:
    """Keeps the hand of one arm away from that of another, whose commanded pose it is told before each command."""

    def __init__(
        self, distance: float, base: Pose, other_base: Pose, wrist: ArrayLike, limits: SafetyLimits, period: float
    ) -> None:
        """Keep `distance` [m].

        Args:
            distance: between the two lines.
            base: of this arm, in the frame of the world.
            other_base: of the other arm, likewise.
            wrist: where the last link of either begins, (3,) in the frame of the tool [m].
            limits: of either arm.
            period: of control [s].

        Raises:
            ValueError: the limits do not let a tool stop within one period.
        """
        speed = min(limits.max_velocity, limits.max_step / period)
        turn = min(limits.max_angular_velocity, limits.max_rotation_step / period)
        if limits.max_acceleration * period / _SQRT3 < speed or limits.max_angular_acceleration * period < turn - 1e-9:
            raise ValueError(
                "keep_apart: expected limits that let a tool stop within one control period, found max_acceleration "
                f"{limits.max_acceleration:g} m/s^2 at {speed:g} m/s and max_angular_acceleration "
                f"{limits.max_angular_acceleration:g} rad/s^2 at {turn:g} rad/s in {period:g} s"
            )
        self._distance = distance
        self._base, self._other_base = base, other_base
        self._wrist = np.asarray(wrist, np.float64)
        x, y, z = self._wrist.tolist()
        self._plain_wrist = (x, y, z)
        self._to_base = base.inverse()
        self._other: Pose | None = None
        self._margin = 0.0
        self.reach = float(np.linalg.norm(self._wrist))
        """Length of a hand [m]."""
        self.hand_speed = speed + turn * self.reach
        """Of any point of a hand, at most [m/s]."""
        self.period, self.patience = period, limits.joint_state_timeout
        """Of control, and how long the other arm may say nothing [s]."""

    @property
    def is_known(self) -> bool:
        """Whether anything is known of the other arm; a tool that is to be kept apart stands until then."""
        return self._other is not None

    def see(self, other: Pose, margin: float = 0.0) -> None:
        """Hear where the tool of the other arm is commanded to be.

        Args:
            other: in the frame of its base.
            margin: how much nearer it may have come, and come before the next command of this arm [m].
        """
        self._other, self._margin = self._other_base.compose(other), margin

    def forget(self) -> None:
        """What was known of the other arm is too old."""
        self._other = None

    def wall(self, target: ToolTarget) -> Wall:
        """The wall between the two hands, where that of this arm is commanded to be at `target` now.

        Raises:
            RuntimeError: nothing is known of the other arm.
        """
        if self._other is None:
            raise RuntimeError("call see() with the pose of the other arm before an arm that keeps apart is commanded")
        own, other = self._base.compose(Pose.trusted(*target)), self._other
        mine = own.position, own.transform(self._wrist)
        theirs = other.position, other.transform(self._wrist)
        near, far = nearest_points(*mine, *theirs)
        way = far - near
        length = float(np.linalg.norm(way))
        if length < _SLACK:  # one through the other: away from each other's base
            way = self._other_base.position - self._base.position
            length = float(np.linalg.norm(way))
        normal = way / length
        mine_to, theirs_from = max(float(normal @ p) for p in mine), min(float(normal @ p) for p in theirs)
        bound = max(0.5 * (mine_to + theirs_from - self._distance - self._margin), mine_to)
        turned = self._to_base.rotate(normal)
        x, y, z = turned.tolist()
        return Wall((x, y, z), bound - float(normal @ self._base.position), self._plain_wrist)


def nearest_points(a: Vector, b: Vector, c: Vector, d: Vector) -> tuple[Vector, Vector]:
    """The nearest points (3,) of the line from `a` to `b` and of that from `c` to `d`, each (3,).

    The way between them is shortest inside of both lines or at an end of one of them.
    """
    candidates = [(end, _on_line(end, c, d)) for end in (a, b)] + [(_on_line(end, a, b), end) for end in (c, d)]
    u, v, w = b - a, d - c, a - c
    uu, uv, vv = float(u @ u), float(u @ v), float(v @ v)
    determinant = uu * vv - uv * uv
    if determinant > _SLACK * uu * vv:  # not parallel
        s = (uv * float(v @ w) - vv * float(u @ w)) / determinant
        t = (uu * float(v @ w) - uv * float(u @ w)) / determinant
        if 0.0 <= s <= 1.0 and 0.0 <= t <= 1.0:
            candidates.append((a + s * u, c + t * v))
    return min(candidates, key=lambda pair: float(np.linalg.norm(pair[1] - pair[0])))


def _on_line(point: Vector, start: Vector, end: Vector) -> Vector:
    """Nearest point (3,) to `point` (3,) of the line from `start` to `end`."""
    way = end - start
    length = float(way @ way)
    share = 0.0 if length == 0.0 else min(max(float(way @ (point - start)) / length, 0.0), 1.0)
    return start + share * way
