# SPDX-License-Identifier: Apache-2.0
"""Hand a stick from one arm to the other, with a sparse reward.

Neither arm has done it alone where the boxes of the tools end on either side of what stands between them: the stick
lies where only the arm that gives it gets to, and the other one reaches its end only when it is brought across.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from serl_config.schema import Field, config, model_validator
from serl_robots.control.action import GRIPPER, TRANSLATION
from serl_robots.model.pose import Pose, Vector3

from serl_tasks.arm_sample import ArmSample, tool_name
from serl_tasks.grasp import Reach, commanded_tool, reach
from serl_tasks.kind_registry import register
from serl_tasks.task import Judgement, Task, with_noise

STICK = "stick"

_COMPONENTS = (*TRANSLATION, GRIPPER)


@config(kw_only=True)
class HandoverSuccess:
    """When the stick counts as handed over."""

    lift: float = Field(gt=0.0, description="height of its middle above where it stood [m]")
    in_hand: float = Field(gt=0.0, description="largest distance of the taker's tool from where it should hold it [m]")
    released: float = Field(gt=0.0, description="least distance of the giver's tool from the middle line of it [m]")


@register("handover")
@config(kw_only=True)
class Handover(Task):
    """Reward 1 and the end when the taker holds the stick up and the giver has left it, else 0."""

    giver: str = Field(description="prefix of the arm that has the stick first")
    grips: float = Field(
        gt=0.0, description="distance along the stick, its y, from its middle to where a hand holds it [m]"
    )
    meeting: Vector3 = Field(description="where the middle of the stick is handed over, for the expert [m]")
    success: HandoverSuccess

    @model_validator(mode="after")
    def _has_a_stick(self) -> Handover:
        stick = self.objects.get(STICK)
        if stick is None or stick.mount != "free" or not stick.is_box:
            found = ", ".join(self.objects) or "none" if stick is None else f"{stick.mount}, {stick.shape}"
            raise ValueError(f"objects: expected a free box named {STICK!r}, found {found}")
        if not self.arms or any(self.action.of_arm(arm).names != _COMPONENTS for arm in self.arms):
            found = " ".join(self.action.names)
            raise ValueError(f"action.names: expected {' '.join(_COMPONENTS)} of each of two arms, found {found}")
        if self.giver not in self.arms:
            raise ValueError(f"giver: expected one of {', '.join(self.arms)}, found {self.giver!r}")
        if self.grips >= 0.5 * stick.size[1]:
            raise ValueError(f"grips: expected less than half of the stick's {stick.size[1]} m, found {self.grips}")
        if self.keep_apart is not None and 2.0 * self.grips <= self.keep_apart:
            raise ValueError(
                f"grips: expected more than half of keep_apart, {self.keep_apart} m, because two hands hold the stick "
                f"at once, found {self.grips}"
            )
        return self

    @property
    def taker(self) -> str:
        """Prefix of the arm that gets the stick."""
        return next(arm for arm in self.arms if arm != self.giver)

    def grip_points(self, stick: Pose) -> dict[str, NDArray[np.float64]]:
        """Where each arm should hold the stick (3,), by the arm's prefix: the one whose base is at larger y at its +y.

        A box looks the same from both sides: its +y is the end that is nearer to the world's.
        """
        ahead = 1.0 if stick.rotate((0.0, 1.0, 0.0))[1] >= 0.0 else -1.0
        ends = sorted(self.arms, key=lambda arm: -self.arms[arm].position[1])
        return {
            arm: stick.transform((0.0, ahead * sign * self.grips, 0.0))
            for arm, sign in zip(ends, (1.0, -1.0), strict=True)
        }

    def missing(self, stick: Pose) -> float:
        """What the stick has to rise [m]; none or less: it is high enough."""
        return self.objects[STICK].rest_height + self.success.lift - float(stick.position[2])

    def _ways(self, objects: Mapping[str, Pose]) -> dict[str, float]:
        """Ways of the tools to where they hold the stick [m]."""
        points = self.grip_points(objects[STICK])
        return {arm: float(np.linalg.norm(objects[tool_name(arm)].position - point)) for arm, point in points.items()}

    def _left(self, objects: Mapping[str, Pose]) -> float:
        """Distance of the giver's tool from the middle line of the stick [m]."""
        stick = objects[STICK]
        own = stick.inverse().transform(objects[tool_name(self.giver)].position)
        half = 0.5 * self.objects[STICK].size[1]
        return float(np.linalg.norm(own - (0.0, np.clip(own[1], -half, half), 0.0)))

    def judge(self, objects: Mapping[str, Pose]) -> Judgement:
        """See :meth:`Task.judge`."""
        held = self._ways(objects)[self.taker] <= self.success.in_hand and self.missing(objects[STICK]) <= 0.0
        success = held and self._left(objects) >= self.success.released
        return Judgement(reward=float(success), success=success, terminated=success)

    def distance_to_goal(self, objects: Mapping[str, Pose]) -> float:
        """Ways of the giver to the stick, of the stick to the meeting, of the taker to it, of the giver from it [m]."""
        ways, away = self._ways(objects), self.success.released
        if ways[self.taker] <= self.success.in_hand:
            return max(0.0, self.missing(objects[STICK])) + max(0.0, away - self._left(objects))
        meeting = float(np.linalg.norm(objects[STICK].position - self.meeting))
        return away + ways[self.giver] + meeting + ways[self.taker]

    def make_expert(self, rng: np.random.Generator, noise: float = 0.0) -> HandoverExpert:
        """See :meth:`Task.make_expert`."""
        return HandoverExpert(self, rng, noise)


class HandoverExpert:
    """One hand brings the stick, the other takes it, then the first leaves; which of these is read off the state."""

    THERE = 0.03  # distance from the meeting at which the stick is there [m]
    ALIGNED = 0.02  # largest horizontal distance at which the taker comes down, and closes [m]
    READY = 0.06  # height above where it will hold the stick at which the taker waits [m]
    FREE = 0.012  # by how much open fingers are farther apart than the stick is wide [m]
    GENTLY = 0.3  # share of its way that the stick goes in a step once it is there, where the taker aims at it
    HIGH = 0.02  # what the stick may lack in height when it goes sideways [m]
    SPARE = 0.02  # by how much the taker lifts it higher than it has to [m]

    def __init__(self, task: Handover, rng: np.random.Generator, noise: float) -> None:
        """Act in `task` with Gaussian `noise` on the normalized actions."""
        if not noise >= 0.0:
            raise ValueError(f"noise: expected a standard deviation from 0, found {noise}")
        self._task, self._rng, self._noise = task, rng, noise
        self._width = min(task.objects[STICK].size[::2])
        self._meeting = np.array(task.meeting)

    def reset(self) -> None:
        """Begin an episode: there is nothing to forget."""

    def act(self, arm: ArmSample, objects: Mapping[str, Pose]) -> NDArray[np.float32]:
        """See :meth:`serl_tasks.task.Expert.act`."""
        task = self._task
        hands = {name: arm.arms[name] for name in (task.giver, task.taker)}
        stick = objects[STICK]
        gives = reach(hands[task.giver], task.grip_points(stick)[task.giver], self._width)
        if gives.holds:  # then it goes where that hand is commanded to go
            giver = hands[task.giver]
            stick = Pose(stick.position + commanded_tool(giver) - giver.tcp.position, stick.quaternion)
        takes = reach(hands[task.taker], task.grip_points(stick)[task.taker], self._width, self.ALIGNED)
        plans = {
            task.giver: self._give(hands[task.giver], stick, gives, takes),
            task.taker: self._take(hands[task.taker], stick, gives, takes),
        }
        parts = {}
        for name, (way, closed) in plans.items():
            own = task.base(name).inverse().rotate(way) / np.array(task.action.of_arm(name).scale[:3])
            parts[name] = np.append(own, -1.0 if closed else 1.0)
        return with_noise(np.clip(task.action.join(parts), -1.0, 1.0), self._noise, self._rng)

    def _give(self, hand: ArmSample, stick: Pose, gives: Reach, takes: Reach) -> tuple[NDArray[np.float64], bool]:
        """Way of the giver's tool [m], and whether its fingers should be closed."""
        if takes.holds:
            is_open = hand.gripper_width > self._width + self.FREE
            return np.array((0.0, 0.0, 1.0 if is_open else 0.0)), False
        if not gives.holds:
            return gives.way, gives.closed
        way = self._meeting - stick.position
        if takes.closed:  # stand, and let the other one close
            return np.zeros(3), True
        if self._is_there(stick):
            return self.GENTLY * way, True
        if way[2] > self.HIGH:  # up first, over what stands between
            way[:2] = 0.0
        return way, True

    def _take(self, hand: ArmSample, stick: Pose, gives: Reach, takes: Reach) -> tuple[NDArray[np.float64], bool]:
        """Way of the taker's tool [m], and whether its fingers should be closed."""
        if takes.holds:
            return np.array((0.0, 0.0, max(0.0, self._task.missing(stick) + self.SPARE))), True
        if takes.closed or (gives.holds and self._is_there(stick)):
            return takes.way, takes.closed
        ready = self._task.grip_points(Pose(self._meeting, stick.quaternion))[self._task.taker]
        return ready + np.array((0.0, 0.0, self.READY)) - commanded_tool(hand), False

    def _is_there(self, stick: Pose) -> bool:
        return float(np.linalg.norm(stick.position - self._meeting)) < self.THERE
