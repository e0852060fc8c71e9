# SPDX-License-Identifier: Apache-2.0
"""The walls of the room in which the tool may move, and boxes that it keeps out of.

A box that is kept out of is convex, so a tool outside of it is on the free side of one of its six faces at least. For
each step the filter of the tool takes one of these faces for each box, and what is beyond it is no part of the room for
that step. The face is one on whose free side the tool also comes to rest when it brakes from now on, so there always is
one, and that of the step before is among them. Two poses on the free side of one face have no part of the box between
them: nothing is jumped over. Along a face the tool slides, and round an edge it gets by changing the face.

A tool that starts inside is not pulled out, but it gets no deeper below the face that is nearest.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from serl_robots.model.pose import Vector3

NUMBERS: Final = 6
"""That say a box: its lower corner, then its upper one."""
_SLACK: Final = 1e-9  # [m]

Room = tuple[Vector3, Vector3]
"""Lower and upper corner [m]."""


class Bounds(NamedTuple):
    """What one limit leaves of the room."""

    limit: str
    room: Room


class _Face(NamedTuple):
    """Where the tool may be relative to one face of a box: ``sign * (x[axis] - bound) >= 0``."""

    axis: int
    sign: float  # 1 above the box, -1 below it
    bound: float  # [m]

    def clearance(self, position: Sequence[float]) -> float:
        """How far a position is on the free side [m]; negative where it is not."""
        return self.sign * (position[self.axis] - self.bound)


class KeepOut:
    """Boxes in the frame of the arm's base, each larger by a distance on all sides.

    Attributes:
        boxes: as they were given, numbers in sixes [m].
    """

    def __init__(self, boxes: Sequence[float], distance: float) -> None:
        """Keep out of `boxes`, `NUMBERS` for each [m], and `distance` [m] away from them."""
        self.boxes = tuple(boxes)
        self._faces: list[tuple[_Face, ...]] = []
        for first in range(0, len(boxes), NUMBERS):
            low, high = boxes[first : first + 3], boxes[first + 3 : first + NUMBERS]
            below = tuple(_Face(axis, -1.0, bound - distance) for axis, bound in enumerate(low))
            above = tuple(_Face(axis, 1.0, bound + distance) for axis, bound in enumerate(high))
            self._faces.append(below + above)

    def room(self, position: Vector3, rest: Vector3, desired: Vector3, room: Room) -> Room:
        """The part of `room` in which the tool may move in this step.

        Args:
            position: of the tool now [m].
            rest: where it comes to rest when it brakes from now on, each axis by itself [m].
            desired: where it wants to be [m]; it decides which side of a box is taken.
            room: that the tool keeps to anyway, with `position` and `rest` in it.
        """
        (low, high) = ([*corner] for corner in room)
        for faces in self._faces:
            face = self._face(faces, position, rest, desired)
            axis = face.axis
            if face.sign > 0.0:  # outside its free side the room reaches out to the tool, and no further
                low[axis] = max(low[axis], min(face.bound, position[axis], rest[axis]))
            else:
                high[axis] = min(high[axis], max(face.bound, position[axis], rest[axis]))
        return (low[0], low[1], low[2]), (high[0], high[1], high[2])

    @staticmethod
    def _face(faces: tuple[_Face, ...], position: Vector3, rest: Vector3, desired: Vector3) -> _Face:
        """The face that is least in the way, of those whose free side the tool keeps to while it brakes."""
        kept = [face for face in faces if min(face.clearance(position), face.clearance(rest)) >= -_SLACK]
        if kept:
            return max(kept, key=lambda face: face.clearance(desired))
        return max(faces, key=lambda face: face.clearance(position))

    def allows(self, before: Sequence[float], after: Sequence[float]) -> bool:
        """Whether the tool may go straight from one position (3,) to another [m]."""
        return next(self._crossed(before, after), None) is None

    def crossed(self, before: Sequence[float], after: Sequence[float]) -> tuple[float, ...] | None:
        """The first box, `NUMBERS` of it [m], that forbids the straight way between two positions (3,) [m]."""
        number = next(self._crossed(before, after), None)
        return None if number is None else self.boxes[NUMBERS * number : NUMBERS * (number + 1)]

    def _crossed(self, before: Sequence[float], after: Sequence[float]) -> Iterator[int]:
        for number, faces in enumerate(self._faces):
            nearest = max(face.clearance(before) for face in faces)
            if nearest < -_SLACK:  # inside: no deeper below the nearest face
                out = any(
                    face.clearance(after) >= nearest - _SLACK for face in faces if face.clearance(before) == nearest
                )
            else:
                out = not _enters(faces, before, after)
            if not out:
                yield number


def _enters(faces: tuple[_Face, ...], before: Sequence[float], after: Sequence[float]) -> bool:
    """Whether the straight way between two positions gets into a box: Liang and Barsky's clipping of a line."""
    first, last = 0.0, 1.0
    for face in faces:
        start, end = face.clearance(before) + _SLACK, face.clearance(after) + _SLACK
        if start >= 0.0 and end >= 0.0:
            return False  # on the free side all the way
        if start >= 0.0:
            first = max(first, start / (start - end))
        elif end >= 0.0:
            last = min(last, start / (start - end))
    return first < last


def name(limit: str, acted: list[str]) -> None:
    """A limit acts."""
    if limit not in acted:
        acted.append(limit)


def part(desired: Vector3, bounds: Bounds, acted: list[str]) -> Vector3:
    """The part of a desired position [m] within bounds, whose limit is named where it acts."""
    (x, y, z), ((lx, ly, lz), (hx, hy, hz)) = desired, bounds.room
    part = min(max(x, lx), hx), min(max(y, ly), hy), min(max(z, lz), hz)
    if part != desired and math.dist(part, desired) > _SLACK:
        name(bounds.limit, acted)
    return part


def least(a: Vector3, *others: Vector3) -> Vector3:
    """The least of the values on each axis."""
    x, y, z = map(min, a, *others)
    return x, y, z


def most(a: Vector3, *others: Vector3) -> Vector3:
    """The largest of the values on each axis."""
    x, y, z = map(max, a, *others)
    return x, y, z
