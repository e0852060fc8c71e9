# SPDX-License-Identifier: Apache-2.0
"""Pick up a cube and lift it, with a sparse reward."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from serl_config.schema import Field, config, model_validator
from serl_robots.model.pose import Pose
from serl_robots.model.robot import load_robot

from serl_tasks.arm_sample import ArmSample
from serl_tasks.kind_registry import register
from serl_tasks.task import Judgement, Task, with_noise

CUBE = "cube"

_LEAST_CLEARANCE = 0.004  # [m] on either side of the cube
_FROM_FIXED_JAW = 0.8  # of the way from the tool centre point to the middle between open jaws of which one stays


@config(kw_only=True)
class PickSuccess:
    """When the cube counts as picked up."""

    lift: float = Field(gt=0.0, description="height of the cube above where it stood [m]")
    in_hand: float = Field(gt=0.0, description="largest distance of its centre from the tool centre point [m]")


@register("pick_cube")
@config(kw_only=True)
class PickCube(Task):
    """Reward 1 and the end when the cube is lifted and in the hand, else 0."""

    success: PickSuccess
    expert_knows_command: bool = Field(
        default=False,
        description="the scripted person goes by where the tool is commanded to be, and not by what its speed tells of "
        "that, as where an arm follows later than within 0.05 s",
    )

    @model_validator(mode="after")
    def _has_a_cube(self) -> "PickCube":
        if CUBE not in self.objects:
            raise ValueError(f"objects: expected one named {CUBE!r}, found {', '.join(self.objects) or 'none'}")
        cube = self.objects[CUBE]
        if cube.mount != "free" or not cube.is_box:
            raise ValueError(f"objects.{CUBE}: expected a box that is free, found {cube.mount}, {cube.shape}")
        if self.action.names != ("dx", "dy", "dz", "gripper"):
            raise ValueError(f"action.names: expected dx dy dz gripper, found {' '.join(self.action.names)}")
        return self

    def asked_widths(self) -> dict[str, float]:
        """See :meth:`serl_robots.control.arm_task.ArmTask.asked_widths`: the open fingers pass by the cube."""
        passing = self.gripped_width + 2.0 * _LEAST_CLEARANCE
        return {**super().asked_widths(), f"objects.{CUBE}.size, with room for the fingers,": passing}

    @property
    def gripped_width(self) -> float:
        """Width of the cube between the fingers [m]."""
        return min(self.objects[CUBE].size[:2])

    @property
    def open_width(self) -> float:
        """Width to which an action of 1 opens the gripper [m]."""
        _, scale = self.action.gripper or (0, 0.0)
        return self.limits.width_within(scale)

    @property
    def side(self) -> float:
        """Where on the tool's y axis the cube is to be as the open fingers come down [m].

        At the tool centre point, 0, but where that lies near a jaw that stays: then farther away from this jaw.
        """
        return _FROM_FIXED_JAW * load_robot(self.robot).gripper.middle(self.open_width)

    @property
    def clearance(self) -> float:
        """Room between the cube at `side` and the nearer finger of the open gripper [m]."""
        return load_robot(self.robot).gripper.room(self.open_width, self.gripped_width, self.side)

    @property
    def _goal_height(self) -> float:
        return 0.5 * self.objects[CUBE].size[2] + self.success.lift

    def judge(self, objects: Mapping[str, Pose]) -> Judgement:
        """See :meth:`Task.judge`."""
        cube = objects[CUBE]
        success = bool(cube.position[2] >= self._goal_height and cube.distance(objects["tcp"]) <= self.success.in_hand)
        return Judgement(reward=float(success), success=success, terminated=success)

    def distance_to_goal(self, objects: Mapping[str, Pose]) -> float:
        """Way of the tool to the cube plus what the cube has to rise [m]."""
        cube = objects[CUBE]
        return cube.distance(objects["tcp"]) + max(0.0, self._goal_height - float(cube.position[2]))

    def make_expert(self, rng: np.random.Generator, noise: float = 0.0) -> "PickExpert":
        """See :meth:`Task.make_expert`."""
        return PickExpert(self, rng, noise)


class PickExpert:
    """Goes above the cube, down, closes, lifts; which of these is read off the state, so it may take over at any time.

    How wide the fingers have to be open, and how well aligned with the cube before they come down, depends on the room
    that the open gripper leaves on either side of the cube. A jaw that closes alone pushes the cube to the other one,
    and the tool goes the opposite way meanwhile.
    """

    APPROACH = 0.06  # height above the cube's centre from which the open fingers come down [m]
    ALIGNED = 0.015  # largest horizontal distance at which they may come down, and close [m]
    USED_CLEARANCE = 0.8  # largest share of the room on one side of the cube that this distance may be
    OPEN = 0.015  # by how much fingers that come down have to be farther apart than the cube is wide [m]
    USED_OPENING = 0.4  # largest share of the room on both sides that this may be
    LEVEL = 0.012  # vertical distance at which they close [m]
    LOST = 0.03  # distance at which what closed fingers hold is not the cube [m]
    LAG = 0.05  # how far the commanded tool is ahead of the measured one [s]

    def __init__(self, task: PickCube, rng: np.random.Generator, noise: float) -> None:
        """Act in `task` with Gaussian `noise` on the normalized actions."""
        if not noise >= 0.0:
            raise ValueError(f"noise: expected a standard deviation from 0, found {noise}")
        self._rng = rng
        self._noise = noise
        self._task = task
        self._scale = np.array(task.action.scale[:3])
        self._cube_width, self._side = task.gripped_width, task.side
        room = task.open_width - task.gripped_width
        self._aligned = min(self.ALIGNED, self.USED_CLEARANCE * task.clearance)
        self._open = min(self.OPEN, self.USED_OPENING * room)
        self._lift = np.array([0.0, 0.0, task.success.lift])
        self._above = np.array([0.0, 0.0, self.APPROACH])

    def reset(self) -> None:
        """Begin an episode: there is nothing to forget."""

    def act(self, arm: ArmSample, objects: Mapping[str, Pose]) -> NDArray[np.float32]:
        """See :meth:`serl_tasks.task.Expert.act`."""
        cube = objects[CUBE].position
        tool = self._commanded(arm)
        way, closed = self._plan(arm, cube, tool)
        action = np.append(self._task.in_action_frame(way, arm) / self._scale, -1.0 if closed else 1.0)
        return with_noise(np.clip(action, -1.0, 1.0), self._noise, self._rng)

    def _plan(
        self, arm: ArmSample, cube: NDArray[np.float64], tool: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], bool]:
        """Where to go from the commanded `tool` [m], and whether the fingers should be closed."""
        dx, dy, dz = (cube - arm.tcp.position).tolist()
        horizontal, vertical = math.hypot(dx, dy), abs(dz)
        closing = arm.gripper_target < 0.9 * self._cube_width
        if closing and horizontal < self.LOST and vertical < self.LOST:
            gripped = arm.gripper_width < self._cube_width + 0.004
            return (self._lift if gripped else cube - tool), True
        place = cube - self._aside(arm)
        dx, dy, _ = (place - arm.tcp.position).tolist()
        if math.hypot(dx, dy) < self._aligned and vertical < self.LEVEL:
            return cube - tool, True
        is_open = arm.gripper_width > self._cube_width + self._open
        aligned = math.hypot(*(place - tool)[:2].tolist()) < self._aligned
        if is_open and aligned:
            return place - tool, False
        return place + self._above - tool, False

    def _commanded(self, arm: ArmSample) -> NDArray[np.float64]:
        """Where the tool is commanded to be (3,) [m]; it is ahead of the measured one.

        Guessed from its speed, unless the task says that it is known, or there is less room beside the cube.
        """
        if (self._side or self._task.expert_knows_command) and arm.commanded is not None:
            return arm.commanded.position
        return arm.tcp.position + self.LAG * arm.tcp_velocity[:3]

    def _aside(self, arm: ArmSample) -> NDArray[np.float64]:
        """From the tool to where the cube is to be as the fingers come down, in the base frame (3,) [m]."""
        return arm.tcp.rotate((0.0, self._side, 0.0)) if self._side else np.zeros(3)
