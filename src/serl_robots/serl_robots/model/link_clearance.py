# SPDX-License-Identifier: Apache-2.0
"""Whether all links of an arm keep out of boxes, and not its tool alone.

Distances are those of the collision shapes of the robot's description, by MuJoCo. A step of the joints may be long, and
a box thin: between two configurations it is looked at so often that no point of a link can have been in a box
meanwhile, as it has not moved far enough for that (conservative advancement; Mirtich, "Impulse-based dynamic simulation
of rigid body systems", 1996).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import mujoco
import numpy as np
from numpy.typing import NDArray

from serl_robots.model.arm_shapes import ArmShapes
from serl_robots.model.pose import Pose
from serl_robots.model.robot import Box, RobotModel
from serl_robots.model.scene import Scene
from serl_robots.model.scene_shapes import describe

Vector = NDArray[np.float64]

_NOTICE: Final = 0.05  # [m] beyond the distance, within which it is measured exactly
_ROUNDING: Final = 1e-6  # [m]: MuJoCo finds distances of some shapes by iteration
_HALVINGS: Final = 6  # of a step, after which what is not known to be free counts as blocked
_REMEMBERED: Final = 64  # configurations: a filter comes back to the last one again and again


@dataclass(frozen=True, slots=True)
class _Placed:
    """The arm in one configuration."""

    centres: Vector  # (g, 3) of the shapes, frame of the base [m]
    gaps: Vector  # (g, b) from each shape to each box, or less [m]


class LinkClearance:
    """Boxes that the links of one arm keep out of, those links that can move. Not thread-safe.

    A link that is nearer to a box than the distance comes no nearer, and may go away. The gripper counts as open.
    """

    def __init__(self, robot: RobotModel, boxes: Sequence[float], distance: float) -> None:
        """Keep links out of `boxes`.

        Args:
            robot: whose collision shapes these are.
            boxes: lower corner, then upper one, six numbers for each, in the frame of the base [m].
            distance: that links keep [m].

        Raises:
            ValueError: MuJoCo refuses the robot's description.
        """
        corners = np.array(boxes, dtype=np.float64).reshape(-1, 2, 3)
        named = {f"keep_out_{index}": _box(*pair.tolist()) for index, pair in enumerate(corners)}
        scene = Scene(name="keep_out", boxes=named, posts={})
        self._shapes = ArmShapes(robot, describe(robot, scene), scene.names)
        model = self._shapes.model
        self._boxes = [int(model.geom(name).id) for name in named]
        self._geoms = np.flatnonzero(self._shapes.group > 0)
        self._radii = model.geom_rbound[self._geoms]
        self._low, self._high = corners[:, 0], corners[:, 1]
        self._distance = distance
        base = self._shapes.in_world(Pose.identity())
        self._origin, self._turned = base.position, base.rotation_matrix()
        self._reach = float(np.linalg.norm(model.body_pos, axis=1).sum()) + float(self._radii.max(initial=0.0))
        self._known: dict[bytes, _Placed] = {}

    def blocked(self, before: Vector, after: Vector) -> str:
        """Which link gets too near to a box as the joints go straight from one configuration to another.

        Args:
            before: joint positions (n,) [rad], where the arm is commanded to be.
            after: joint positions (n,) [rad] that are to follow.

        Returns:
            The link's name; empty: none does.
        """
        start, end = self._placed(before), self._placed(after)
        nearer = end.gaps < np.minimum(start.gaps, self._distance) - _ROUNDING
        if nearer.any():
            return self._called(nearer)
        return self._between(before, start, after, end, _HALVINGS)

    def gap(self, positions: Vector) -> float:
        """Distance of the nearest link from a box at joint positions (n,) [rad], or less where it is far [m]."""
        return float(self._placed(positions).gaps.min(initial=np.inf))

    def _between(self, before: Vector, start: _Placed, after: Vector, end: _Placed, halvings: int) -> str:
        """Which shape that is in no box at the start may be in one on the way; empty: none can."""
        turn = float(np.abs(after - before).sum())
        # a way of the joints that is straight bends that of a shape off its chord by reach * turn^2 / 8 at most
        way = np.linalg.norm(end.centres - start.centres, axis=1) + turn * self._radii + 0.25 * self._reach * turn**2
        unknown = (start.gaps + end.gaps < way[:, None]) & (start.gaps > 0.0)
        if not unknown.any():
            return ""
        if halvings == 0:
            return self._called(unknown)
        between = 0.5 * (before + after)
        middle = self._placed(between)
        inside = (middle.gaps < 0.0) & (start.gaps > 0.0)
        if inside.any():
            return self._called(inside)
        return self._between(before, start, between, middle, halvings - 1) or self._between(
            between, middle, after, end, halvings - 1
        )

    def _placed(self, positions: Vector) -> _Placed:
        key = positions.tobytes()
        placed = self._known.get(key)
        if placed is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            placed = self._known[key] = self._measure(positions)
        return placed

    def _measure(self, positions: Vector) -> _Placed:
        shapes = self._shapes
        shapes.place(positions)
        centres = (shapes.data.geom_xpos[self._geoms] - self._origin) @ self._turned
        outside = np.maximum(self._low - centres[:, None], centres[:, None] - self._high).clip(0.0)
        gaps = np.sqrt(np.einsum("gbi,gbi->gb", outside, outside)) - self._radii[:, None]
        notice = self._distance + _NOTICE
        for shape, box in np.argwhere(gaps < notice).tolist():
            gap = mujoco.mj_geomDistance(
                shapes.model, shapes.data, int(self._geoms[shape]), self._boxes[box], notice, None
            )
            gaps[shape, box] = max(gaps[shape, box], gap)
        return _Placed(centres, gaps)

    def _called(self, which: NDArray[np.bool_]) -> str:
        return self._shapes.called(int(self._geoms[np.argwhere(which)[0, 0]]))


def _box(lower: list[float], upper: list[float]) -> Box:
    (x, y, z), (u, v, w) = lower, upper
    return Box(lower=(x, y, z), upper=(u, v, w))
