# SPDX-License-Identifier: Apache-2.0
"""Lift a bar that is too long for one arm with two, with a sparse reward."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from serl_config.schema import Field, config, model_validator
from serl_robots.control.action import GRIPPER, TRANSLATION
from serl_robots.model.pose import Pose

from serl_tasks.arm_sample import ArmSample, tool_name
from serl_tasks.grasp import reach
from serl_tasks.kind_registry import register
from serl_tasks.task import Judgement, Task, with_noise

BAR = "bar"

_COMPONENTS = (*TRANSLATION, GRIPPER)


@config(kw_only=True)
class LiftSuccess:
    """When the bar counts as lifted."""

    lift: float = Field(gt=0.0, description="height of both of its ends above where it stood [m]")
    in_hand: float = Field(gt=0.0, description="largest distance of each tool from where it should hold the bar [m]")


@register("lift_bar")
@config(kw_only=True)
class LiftBar(Task):
    """Reward 1 and the end when both ends of the bar are lifted, each in a hand, else 0."""

    grips: float = Field(
        gt=0.0, description="distance along the bar, its y, from its middle to where a hand holds it [m]"
    )
    success: LiftSuccess

    @model_validator(mode="after")
    def _has_a_bar(self) -> LiftBar:
        bar = self.objects.get(BAR)
        if bar is None or bar.mount != "free" or not bar.is_box:
            found = ", ".join(self.objects) or "none" if bar is None else f"{bar.mount}, {bar.shape}"
            raise ValueError(f"objects: expected a free box named {BAR!r}, found {found}")
        if not self.arms or any(self.action.of_arm(arm).names != _COMPONENTS for arm in self.arms):
            found = " ".join(self.action.names)
            raise ValueError(f"action.names: expected {' '.join(_COMPONENTS)} of each of two arms, found {found}")
        if self.grips >= 0.5 * bar.size[1]:
            raise ValueError(f"grips: expected less than half of the bar's {bar.size[1]} m, found {self.grips}")
        return self

    def grip_points(self, bar: Pose) -> dict[str, NDArray[np.float64]]:
        """Where each arm should hold the bar (3,), by the arm's prefix: the one whose base is at larger y at its +y."""
        ends = sorted(self.arms, key=lambda arm: -self.arms[arm].position[1])
        return {arm: bar.transform((0.0, sign * self.grips, 0.0)) for arm, sign in zip(ends, (1.0, -1.0), strict=True)}

    def _missing(self, points: Mapping[str, NDArray[np.float64]]) -> float:
        """What the lower one of the held points has to rise [m]; none or less: it is high enough."""
        goal = self.objects[BAR].rest_height + self.success.lift
        return goal - min(float(point[2]) for point in points.values())

    def judge(self, objects: Mapping[str, Pose]) -> Judgement:
        """See :meth:`Task.judge`."""
        points = self.grip_points(objects[BAR])
        held = all(_distance(objects[tool_name(arm)], point) <= self.success.in_hand for arm, point in points.items())
        success = held and self._missing(points) <= 0.0
        return Judgement(reward=float(success), success=success, terminated=success)

    def distance_to_goal(self, objects: Mapping[str, Pose]) -> float:
        """Ways of the tools to where they hold the bar, plus what the lower end has to rise [m]."""
        points = self.grip_points(objects[BAR])
        ways = sum(_distance(objects[tool_name(arm)], point) for arm, point in points.items())
        return ways + max(0.0, self._missing(points))

    def make_expert(self, rng: np.random.Generator, noise: float = 0.0) -> LiftBarExpert:
        """See :meth:`Task.make_expert`."""
        return LiftBarExpert(self, rng, noise)


class LiftBarExpert:
    """Both hands go to their ends and close; once both hold, they lift at one speed. Read off the state."""

    LEVELLED = 0.5  # share of what one end is higher than the other by which that one is slower

    def __init__(self, task: LiftBar, rng: np.random.Generator, noise: float) -> None:
        """Act in `task` with Gaussian `noise` on the normalized actions."""
        if not noise >= 0.0:
            raise ValueError(f"noise: expected a standard deviation from 0, found {noise}")
        self._task, self._rng, self._noise = task, rng, noise
        self._width = min(task.objects[BAR].size[::2])

    def reset(self) -> None:
        """Begin an episode: there is nothing to forget."""

    def act(self, arm: ArmSample, objects: Mapping[str, Pose]) -> NDArray[np.float32]:
        """See :meth:`serl_tasks.task.Expert.act`."""
        task = self._task
        points = task.grip_points(objects[BAR])
        plans = {name: reach(each, points[name], self._width) for name, each in arm.arms.items()}
        ways = {name: plan.way for name, plan in plans.items()}
        if all(plan.holds for plan in plans.values()):
            lowest = min(float(point[2]) for point in points.values())
            for name, point in points.items():
                ways[name] = np.array((0.0, 0.0, task.success.lift - self.LEVELLED * (float(point[2]) - lowest)))
        parts = {}
        for name, way in ways.items():
            scale = np.array(task.action.of_arm(name).scale[:3])
            own = task.base(name).inverse().rotate(way) / scale
            parts[name] = np.append(own, -1.0 if plans[name].closed else 1.0)
        return with_noise(np.clip(task.action.join(parts), -1.0, 1.0), self._noise, self._rng)


def _distance(tool: Pose, point: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(tool.position - point))
