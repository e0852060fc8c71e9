# SPDX-License-Identifier: Apache-2.0
"""Carry a cube to another place and let go of it there, with a sparse reward.

Two such tasks whose places are each other's undo each other: where an episode of one ends, one of the other may begin.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from serl_config.schema import Field, config, model_validator
from serl_robots.model.pose import Pose

from serl_tasks.arm_sample import ArmSample
from serl_tasks.kind_registry import register
from serl_tasks.task import Judgement, Task, with_noise

CUBE = "cube"

_LOW = 0.006  # [m] above where it stands at which the cube counts as set down


@config(kw_only=True)
class RelocateSuccess:
    """When the cube counts as brought."""

    centre: tuple[float, float] = Field(description="middle of where its centre should be, base frame [m]")
    half_size: tuple[float, float] = Field(description="how far from there it may be [m]")
    released: float = Field(gt=0.0, description="least distance of the tool from its centre then [m]")


@register("relocate")
@config(kw_only=True)
class Relocate(Task):
    """Reward 1 and the end when the cube stands where it should and the tool has left it, else 0."""

    carry: float = Field(gt=0.0, description="height of the cube's centre at which it passes over what is between [m]")
    success: RelocateSuccess

    @model_validator(mode="after")
    def _has_a_cube(self) -> Relocate:
        cube = self.objects.get(CUBE)
        if cube is None or cube.mount != "free" or not cube.is_box:
            found = ", ".join(self.objects) or "none" if cube is None else f"{cube.mount}, {cube.shape}"
            raise ValueError(f"objects: expected a free box named {CUBE!r}, found {found}")
        if self.action.names != ("dx", "dy", "dz", "gripper"):
            raise ValueError(f"action.names: expected dx dy dz gripper, found {' '.join(self.action.names)}")
        if not all(size > 0.0 for size in self.success.half_size):
            raise ValueError(f"success.half_size: expected positive lengths, found {list(self.success.half_size)}")
        return self

    @property
    def gripped_width(self) -> float:
        """Width of the cube between the fingers [m]."""
        return min(self.objects[CUBE].size[:2])

    def is_there(self, cube: Pose) -> bool:
        """Whether the cube stands where it should."""
        return self.is_over(cube) and float(cube.position[2]) <= self.objects[CUBE].rest_height + _LOW

    def is_over(self, cube: Pose) -> bool:
        """Whether the cube is above where it should be, at whatever height."""
        (x, y), (a, b) = self.success.centre, self.success.half_size
        return bool(abs(cube.position[0] - x) <= a and abs(cube.position[1] - y) <= b)

    def judge(self, objects: Mapping[str, Pose]) -> Judgement:
        """See :meth:`Task.judge`."""
        cube = objects[CUBE]
        success = bool(self.is_there(cube) and cube.distance(objects["tcp"]) >= self.success.released)
        return Judgement(reward=float(success), success=success, terminated=success)

    def distance_to_goal(self, objects: Mapping[str, Pose]) -> float:
        """Way of the tool to the cube, of the cube to its place over what is between, and of the tool from it [m]."""
        cube, tool = objects[CUBE], objects["tcp"]
        apart = cube.distance(tool)
        if self.is_there(cube):
            return max(0.0, self.success.released - apart)
        x, y, z = cube.position.tolist()
        height = z - self.objects[CUBE].rest_height
        down = height if self.is_over(cube) else max(0.0, self.carry - z) + self.carry
        way = math.hypot(self.success.centre[0] - x, self.success.centre[1] - y)
        return self.success.released + apart + way + down

    def make_expert(self, rng: np.random.Generator, noise: float = 0.0) -> RelocateExpert:
        """See :meth:`Task.make_expert`."""
        return RelocateExpert(self, rng, noise)


class RelocateExpert:
    """Picks the cube up, carries it over, sets it down and leaves; which of these is read off the state."""

    APPROACH = 0.06  # height above the cube's centre from which the open fingers come down [m]
    ALIGNED = 0.012  # largest horizontal distance at which they come down, and close [m]
    LEVEL = 0.012  # vertical distance at which they close [m]
    LOST = 0.03  # distance at which what closed fingers hold is not the cube [m]
    FREE = 0.012  # by how much open fingers are farther apart than the cube is wide [m]
    CENTRED = 0.6  # share of the place within which the cube is set down
    LAG = 0.05  # how far the commanded tool is ahead of the measured one [s]

    def __init__(self, task: Relocate, rng: np.random.Generator, noise: float) -> None:
        """Act in `task` with Gaussian `noise` on the normalized actions."""
        if not noise >= 0.0:
            raise ValueError(f"noise: expected a standard deviation from 0, found {noise}")
        self._task, self._rng, self._noise = task, rng, noise
        self._scale = np.array(task.action.scale[:3])
        self._rest = task.objects[CUBE].rest_height

    def reset(self) -> None:
        """Begin an episode: there is nothing to forget."""

    def act(self, arm: ArmSample, objects: Mapping[str, Pose]) -> NDArray[np.float32]:
        """See :meth:`serl_tasks.task.Expert.act`."""
        tool = arm.tcp.position + self.LAG * arm.tcp_velocity[:3]
        way, closed = self._plan(arm, objects[CUBE], tool)
        action = np.append(self._task.in_action_frame(way, arm) / self._scale, -1.0 if closed else 1.0)
        return with_noise(np.clip(action, -1.0, 1.0), self._noise, self._rng)

    def _plan(self, arm: ArmSample, cube: Pose, tool: NDArray[np.float64]) -> tuple[NDArray[np.float64], bool]:
        """Where to go from the commanded `tool` [m], and whether the fingers should be closed."""
        width, place = self._task.gripped_width, cube.position
        is_open = arm.gripper_width > width + self.FREE
        if self._task.is_there(cube):
            return np.array((0.0, 0.0, self._scale[2] if is_open else 0.0)), False
        dx, dy, dz = (place - arm.tcp.position).tolist()
        horizontal, closing = math.hypot(dx, dy), arm.gripper_target < 0.9 * width
        if closing and horizontal < self.LOST and abs(dz) < self.LOST:
            gripped = arm.gripper_width < width + 0.004
            return (self._carry(place, tool) if gripped else place - tool), True
        if horizontal < self.ALIGNED and abs(dz) < self.LEVEL:
            return place - tool, True
        if is_open and math.hypot(*(place - tool)[:2].tolist()) < self.ALIGNED:
            return place - tool, False
        above = place + np.array((0.0, 0.0, self.APPROACH)) - tool
        if above[2] > 0.02:  # first up, or the fingers push the cube away
            above[:2] = 0.0
        return above, False

    def _carry(self, place: NDArray[np.float64], tool: NDArray[np.float64]) -> NDArray[np.float64]:
        """Way of the tool that holds the cube [m]."""
        success, task = self._task.success, self._task
        way = np.append(np.array(success.centre) - place[:2], 0.0)
        if np.all(np.abs(way[:2]) < self.CENTRED * np.array(success.half_size)):
            way[2] = self._rest - place[2] - 0.003
            return way
        way[2] = task.carry - place[2]
        if way[2] > 0.02:  # over the rims first
            way[:2] = 0.0
        return way
