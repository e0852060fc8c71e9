# SPDX-License-Identifier: Apache-2.0
"""Pull a drawer open by its handle, with closed fingers that reach behind it, and a sparse reward."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from serl_config.schema import Field, config, model_validator
from serl_robots.model.pose import Pose, Vector3

from serl_tasks.arm_sample import ArmSample
from serl_tasks.kind_registry import register
from serl_tasks.objects.mounts import SlideMount
from serl_tasks.task import Judgement, Task, with_noise

DRAWER = "drawer"


@config(kw_only=True)
class DrawerSuccess:
    """When the drawer counts as open."""

    opening: float = Field(gt=0.0, description="way of the drawer since it was closed [m]")


@register("open_drawer")
@config(kw_only=True)
class OpenDrawer(Task):
    """Reward 1 and the end when the sliding `drawer` is far enough open, else 0."""

    gap: Vector3 = Field(
        description="middle of the gap behind the handle, where the tool pulls, frame of the drawer [m]"
    )
    gap_half_size: Vector3 = Field(description="how far from there the tool still is behind the handle [m]")
    clearance: float = Field(gt=0.0, description="height above the gap at which the tool passes over the handle [m]")
    success: DrawerSuccess

    @model_validator(mode="after")
    def _has_a_drawer(self) -> OpenDrawer:
        item = self.objects.get(DRAWER)
        if item is None or item.slide is None:
            found = "none" if item is None else f"one that is {item.mount}"
            raise ValueError(f"objects: expected one named {DRAWER!r} whose mount is sliding, found {found}")
        if self.success.opening > item.slide.reach:
            raise ValueError(
                f"success.opening: expected at most the reach of the drawer, {item.slide.reach} m, found "
                f"{self.success.opening}"
            )
        if not all(size > 0.0 for size in self.gap_half_size):
            raise ValueError(f"gap_half_size: expected positive lengths, found {list(self.gap_half_size)}")
        if self.action.names != ("dx", "dy", "dz"):
            raise ValueError(f"action.names: expected dx dy dz, found {' '.join(self.action.names)}")
        return self

    @property
    def slide(self) -> SlideMount:
        """How the drawer slides."""
        slide = self.objects[DRAWER].slide
        assert slide is not None  # checked when the task is made
        return slide

    def opening(self, objects: Mapping[str, Pose]) -> float:
        """Way of the drawer since it was closed [m]."""
        slide = self.slide
        place = objects[slide.base].inverse().transform(objects[DRAWER].position)
        return float(np.dot(place - np.array(slide.position), slide.axis))

    def judge(self, objects: Mapping[str, Pose]) -> Judgement:
        """See :meth:`Task.judge`."""
        success = bool(self.opening(objects) >= self.success.opening)
        return Judgement(reward=float(success), success=success, terminated=success)

    def distance_to_goal(self, objects: Mapping[str, Pose]) -> float:
        """Way of the tool to the gap behind the handle, and what the drawer still has to go [m]."""
        left = max(0.0, self.success.opening - self.opening(objects))
        gap = objects[DRAWER].transform(self.gap)
        return float(np.linalg.norm(gap - objects["tcp"].position)) + left

    def make_expert(self, rng: np.random.Generator, noise: float = 0.0) -> DrawerExpert:
        """See :meth:`Task.make_expert`."""
        return DrawerExpert(self, rng, noise)


class DrawerExpert:
    """Goes over the handle, down behind it, and pulls; which of these is read off the state."""

    ALIGNED = 0.4  # share of the gap within which the tool may come down
    PULL = 0.06  # how far before the measured tool the commanded one pulls [m]
    DEEP = 0.25  # share of the gap's half height above its middle at which the tool is deep enough to pull

    def __init__(self, task: OpenDrawer, rng: np.random.Generator, noise: float) -> None:
        """Act in `task` with Gaussian `noise` on the normalized actions."""
        if not noise >= 0.0:
            raise ValueError(f"noise: expected a standard deviation from 0, found {noise}")
        self._rng, self._noise = rng, noise
        self._task = task
        self._scale = np.array(task.action.scale)
        self._gap, self._half = np.array(task.gap), np.array(task.gap_half_size)
        self._axis = np.array(task.slide.axis)
        self._clearance = task.clearance

    def reset(self) -> None:
        """Begin an episode: there is nothing to forget."""

    def act(self, arm: ArmSample, objects: Mapping[str, Pose]) -> NDArray[np.float32]:
        """See :meth:`serl_tasks.task.Expert.act`."""
        drawer = objects[DRAWER]
        place = drawer.inverse().transform(arm.tcp.position) - self._gap  # of the tool, frame of the drawer
        way = drawer.rotation_matrix() @ self._way(place)
        commanded = arm.tcp.position if arm.commanded is None else arm.commanded.position
        goal = arm.tcp.position + way
        way = self._task.in_action_frame(goal - commanded, arm)
        return with_noise(np.clip(way / self._scale, -1.0, 1.0), self._noise, self._rng)

    def _way(self, place: NDArray[np.float64]) -> NDArray[np.float64]:
        """Way from the measured tool at `place`, relative to the gap, to where it should be commanded [m]."""
        behind = np.all(np.abs(place[:2]) < self._half[:2])
        if behind and place[2] < self.DEEP * self._half[2]:
            sideways = np.array((0.0, -place[1], -place[2]))
            return sideways + self.PULL * self._axis
        if (behind and place[2] < self._half[2]) or math.hypot(*(place[:2] / self._half[:2])) < self.ALIGNED:
            return np.array((-place[0], -place[1], -place[2] - 0.005))
        rise = self._clearance - place[2]
        if rise > 0.01:  # first up, or the handle is in the way
            return np.array((0.0, 0.0, rise))
        return np.array((-place[0], -place[1], rise))
