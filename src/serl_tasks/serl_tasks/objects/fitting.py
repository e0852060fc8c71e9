# SPDX-License-Identifier: Apache-2.0
"""Whether a solid that goes into a hole fits: found by points of it that would be inside of what is around the hole.

A point inside is proof that it does not fit, so nothing that fits is ever refused.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from serl_robots.model.pose import Pose, quaternion_exp

from serl_tasks.objects.solid import Solid

_TOUCHING = 1e-5  # [m] that points may be inside of a solid
_STEP = 1e-4  # [m] with which the width of a hole is measured
_WIDEST = 0.5  # [m]

Points = NDArray[np.float64]


def fits(inner: Sequence[Solid], outer: Sequence[Solid], places: Iterable[Pose]) -> bool:
    """Whether solids `inner` are outside of all `outer` ones at one of these `places`, poses of their common frame."""
    few, all_of_them = (
        points_of(inner, count) for count in (2, 13)
    )  # corners, where most of what does not fit is seen
    return any(
        not inside(outer, moved(place, few)).any() and not inside(outer, moved(place, all_of_them)).any()
        for place in places
    )


def points_of(solids: Sequence[Solid], count: int = 13) -> Points:
    """Points (n, 3) on the surfaces of solids, in their common frame [m]; `count` along each edge."""
    return np.concatenate([moved(solid.pose, _surface(solid, count)) for solid in solids])


def places_around(middle: Pose, within: float, turns: Sequence[float]) -> Iterable[Pose]:
    """The pose `middle`, then others that are up to `within` [m] beside it, turned about z by each of `turns` [rad]."""
    offsets = sorted(
        itertools.product(np.linspace(-within, within, 5).tolist(), repeat=2), key=lambda at: np.hypot(*at)
    )
    for turn, (x, y) in itertools.product(turns, offsets):
        turned = Pose((0.0, 0.0, 0.0), quaternion_exp((0.0, 0.0, turn))).compose(middle)
        yield Pose(np.add(middle.position, (x, y, 0.0)), turned.quaternion)


def free_width(outer: Sequence[Solid], middle: Points, axis: int) -> float:
    """Room around the point `middle` (3,) between solids, along axis 0 or 1 [m]; at most 1 m."""
    ways = np.arange(0.0, _WIDEST, _STEP)
    width = 0.0
    for side in (-1.0, 1.0):
        points = np.tile(middle, (len(ways), 1))
        points[:, axis] += side * ways
        blocked = np.flatnonzero(inside(outer, points))
        width += max(float(ways[blocked[0]]) - _STEP, 0.0) if len(blocked) else _WIDEST
    return width


def inside(solids: Sequence[Solid], points: Points) -> NDArray[np.bool_]:
    """Whether points (n, 3) are inside of one of the solids, all in one frame, (n,)."""
    found = np.zeros(len(points), np.bool_)
    for solid in solids:
        half = np.array(solid.half_extents)
        local = moved(solid.pose.inverse(), points)
        if solid.shape == "box":
            found |= (np.abs(local) < half - _TOUCHING).all(axis=1)
            continue
        radius, beside = half[0] - _TOUCHING, np.hypot(local[:, 0], local[:, 1])
        if solid.shape == "cylinder":
            found |= (beside < radius) & (np.abs(local[:, 2]) < half[2] - _TOUCHING)
        else:  # a sphere is a capsule without a cylinder
            found |= np.hypot(beside, np.maximum(np.abs(local[:, 2]) - (half[2] - half[0]), 0.0)) < radius
    return found


def _surface(solid: Solid, count: int) -> Points:
    """Points all over the surface of a solid, corners and edges among them, in its own frame."""
    x, y, z = solid.half_extents
    share = np.linspace(-1.0, 1.0, count)
    if solid.shape == "box":
        grid = np.array(list(itertools.product(share, repeat=3)))
        return grid[np.abs(grid).max(axis=1) == 1.0] * (x, y, z)
    around = np.linspace(0.0, 2.0 * np.pi, 48, endpoint=False)
    heights = z * share
    radii = np.full_like(heights, x)
    if solid.shape != "cylinder":
        radii = np.sqrt(np.maximum(x**2 - np.maximum(np.abs(heights) - (z - x), 0.0) ** 2, 0.0))
    return np.array(
        [(r * np.cos(a), r * np.sin(a), h) for h, r in zip(heights, radii, strict=True) for a in around.tolist()]
    )


def moved(pose: Pose, points: Points) -> Points:
    """Points (n, 3) of the frame at `pose` in the frame that it is given in."""
    return points @ pose.rotation_matrix().T + pose.position
