# SPDX-License-Identifier: Apache-2.0
"""Knock a standing object over by a quick blow at its upper edge, with a sparse reward."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from serl_config.schema import Field, config, model_validator
from serl_robots.model.pose import Pose, Vector3

from serl_tasks.arm_sample import ArmSample
from serl_tasks.kind_registry import register
from serl_tasks.task import Judgement, Task, with_noise

SLAB = "slab"


@config(kw_only=True)
class FlipSuccess:
    """When the slab counts as flipped."""

    turned_deg: float = Field(gt=0.0, le=180.0, description="angle of its z axis from the vertical [deg]")


@register("flip")
@config(kw_only=True)
class Flip(Task):
    """Reward 1 and the end when the z axis of the free `slab` is far enough from the vertical, else 0."""

    hit: Vector3 = Field(description="where the tool hits it, along x of the slab, frame of the slab [m]")
    run_up: float = Field(gt=0.0, description="way in front of there that a blow takes to be fast enough [m]")
    success: FlipSuccess

    @model_validator(mode="after")
    def _has_a_slab(self) -> Flip:
        found = self.objects[SLAB].mount if SLAB in self.objects else "none"
        if found != "free":
            raise ValueError(f"objects: expected one named {SLAB!r} whose mount is free, found {found}")
        if self.action.names != ("dx", "dy", "dz"):
            raise ValueError(f"action.names: expected dx dy dz, found {' '.join(self.action.names)}")
        return self

    def turned(self, objects: Mapping[str, Pose]) -> float:
        """Angle of the slab's z axis from the vertical [rad]."""
        return math.acos(float(np.clip(objects[SLAB].rotation_matrix()[2, 2], -1.0, 1.0)))

    def judge(self, objects: Mapping[str, Pose]) -> Judgement:
        """See :meth:`Task.judge`."""
        success = self.turned(objects) >= math.radians(self.success.turned_deg)
        return Judgement(reward=float(success), success=success, terminated=success)

    def distance_to_goal(self, objects: Mapping[str, Pose]) -> float:
        """Way of the tool to where it hits, and of that place on its arc until the slab counts as flipped [m]."""
        slab = objects[SLAB]
        left = max(0.0, math.radians(self.success.turned_deg) - self.turned(objects))
        way = slab.transform(self.hit) - objects["tcp"].position
        return float(np.linalg.norm(way)) + left * math.hypot(*self.hit)

    def make_expert(self, rng: np.random.Generator, noise: float = 0.0) -> FlipExpert:
        """See :meth:`Task.make_expert`."""
        return FlipExpert(self, rng, noise)


class FlipExpert:
    """Takes a run-up in front of the slab and hits as fast as it may; which of these is read off the state."""

    ALIGNED = 0.02  # largest distance from the line of the blow at which it begins [m]
    SLOW = 0.1  # speed of the tool towards the slab below which a blow near it has failed [m/s]

    def __init__(self, task: Flip, rng: np.random.Generator, noise: float) -> None:
        """Act in `task` with Gaussian `noise` on the normalized actions."""
        if not noise >= 0.0:
            raise ValueError(f"noise: expected a standard deviation from 0, found {noise}")
        self._rng, self._noise = rng, noise
        self._scale = np.array(task.action.scale)
        self._hit, self._run_up = np.array(task.hit), task.run_up

    def reset(self) -> None:
        """Begin an episode: there is nothing to forget."""

    def act(self, arm: ArmSample, objects: Mapping[str, Pose]) -> NDArray[np.float32]:
        """See :meth:`serl_tasks.task.Expert.act`."""
        slab = objects[SLAB]
        x_axis = slab.rotation_matrix()[:2, 0]
        ahead = np.array((*(x_axis / np.linalg.norm(x_axis)), 0.0))  # where it is to fall
        aside = np.array((-ahead[1], ahead[0], 0.0))
        way = slab.position + self._hit[0] * ahead + self._hit[2] * np.array((0.0, 0.0, 1.0)) - arm.tcp.position
        along, across, rise = float(way @ ahead), float(way @ aside), float(way[2])
        aligned = math.hypot(across, rise) < self.ALIGNED
        fast = float(arm.tcp_velocity[:3] @ ahead) > self.SLOW
        if aligned and (fast or along > self._run_up):
            goal = 3.0 * float(self._scale[0]) * ahead + across * aside  # as fast as it may
            goal[2] = rise
        else:
            goal = (along - 1.2 * self._run_up) * ahead
            if along > 0.5 * self._run_up:  # else it would touch the slab from the side
                goal = goal + across * aside
                goal[2] = rise
        commanded = arm.tcp.position if arm.commanded is None else arm.commanded.position
        way_of_command = goal + arm.tcp.position - commanded
        return with_noise(np.clip(way_of_command / self._scale, -1.0, 1.0), self._noise, self._rng)
