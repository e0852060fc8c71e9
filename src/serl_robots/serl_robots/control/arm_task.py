# SPDX-License-Identifier: Apache-2.0
"""The part of a task that the arm controller needs.

A task file `config/tasks/<name>.yaml` belongs to `serl_tasks`, which checks all of it; its task class extends
`ArmTask`. The arm controller, a floor below, reads only the keys that `ArmTask` declares.
"""

import math
from functools import cached_property

from serl_config.schema import Field, build, config, fields, model_validator

from serl_robots.control.action import GRIPPER, ActionSpec, BlockKind, Frame
from serl_robots.control.robot_limits import completed
from serl_robots.control.task_file import read_task
from serl_robots.model.pose import Pose, Vector3
from serl_robots.safety.limits import SafetyLimits

_TWO = 2  # arms that a task may have, where it has several


@config(kw_only=True)
class ArmPlace:
    """Where one of several arms stands."""

    position: Vector3 = Field(description="of its base in the frame of the world [m]")
    yaw_deg: float = Field(default=0.0, ge=-180.0, le=180.0, description="turn of its base about the vertical")

    @cached_property
    def pose(self) -> Pose:
        """Its base in the frame of the world."""
        return Pose.from_rotation_vector(self.position, (0.0, 0.0, math.radians(self.yaw_deg)))


@config(kw_only=True)
class ArmTask:
    """How an arm is commanded in a task, or two arms.

    What a task of two arms says of an arm it says of each, in the frame of that one's base: limits, start, deltas.
    Everything else is in the frame of the world, in which the bases stand.
    """

    name: str
    robot: str = Field(description="name of the robot, config/robots/<robot>.yaml")
    control_period: float = Field(gt=0.0, le=10.0, description="time of one control step [s]")
    action: ActionSpec
    frame: Frame = Field(
        default="base",
        description="of the tool's deltas and of what is observed: the base, or the tool and where it was at the start",
    )
    scene: str = Field(
        default="",
        description="config/scenes/<scene>.yaml, whose boxes and posts are kept out of as limits.keep_out; empty: none",
    )
    limits: SafetyLimits = Field(description="what it says nothing of comes from the robot, then from the defaults")
    arms: dict[str, ArmPlace] = Field(
        default_factory=dict,
        description="two arms by the prefixes of their actions; none: a single one, at the world's",
    )
    keep_apart: float | None = Field(
        default=None, gt=0.0, le=1.0, description="distance that the hands of two arms keep from each other [m]"
    )

    @model_validator(mode="after")
    def _arms_are_those_of_the_action(self) -> "ArmTask":
        if not self.arms:
            if self.keep_apart is not None:
                raise ValueError("keep_apart: expected none, because there is one arm")
            return self
        if len(self.arms) != _TWO or set(self.arms) != set(self.action.arms):
            raise ValueError(
                f"arms: expected two, those of the names of the action ({', '.join(self.action.arms)}), found "
                f"{', '.join(self.arms)}"
            )
        if self.keep_apart is None:
            raise ValueError("keep_apart: expected a distance [m], because there are two arms")
        if any(self.action.of_arm(arm).joint_block is not None for arm in self.arms):
            raise ValueError("action.names: expected motions of the tools, because two arms keep their hands apart")
        if self.frame != "base":
            raise ValueError(f"frame: expected base, because there are two arms, found {self.frame}")
        return self

    @property
    def arm_names(self) -> tuple[str, ...]:
        """Prefixes of the arms, in the order of the action; of a single one the empty one."""
        return self.action.arms if self.arms else ("",)

    def of_arm(self, arm: str) -> "ArmTask":
        """How one of the arms is commanded; itself where there is a single one.

        Raises:
            KeyError: there is no such arm.
        """
        if not self.arms and not arm:
            return self
        return ArmTask(
            name=self.name,
            robot=self.robot,
            control_period=self.control_period,
            action=self.action.of_arm(arm),
            frame=self.frame,
            scene=self.scene,
            limits=self.limits,
        )

    def base(self, arm: str) -> Pose:
        """Base of an arm in the frame of the world."""
        return self.arms[arm].pose if self.arms else Pose.identity()

    def in_world(self, arm: str, pose: Pose) -> Pose:
        """A pose in the frame of an arm's base in that of the world; itself where there is a single one."""
        return self.arms[arm].pose.compose(pose) if self.arms else pose

    def reference_frame(self, base_frame: str) -> str:
        """Name of the frame of everything that is not one arm's: the base's, or that in which two bases stand."""
        return "world" if self.arms else base_frame

    def asked_widths(self) -> dict[str, float]:
        """Every opening of the gripper that the task asks for [m], by the key of its file that says so."""
        widths = {
            "limits.min_gripper_width": self.limits.min_gripper_width,
            "limits.max_gripper_width": self.limits.max_gripper_width,
        }
        for block in self.action.blocks:
            if block.kind is BlockKind.GRIPPER:
                widths[f"action.scale of {GRIPPER}"] = max(block.scale)
        return widths


def load_arm_task(name: str, scene: str | None = None) -> ArmTask:
    """`ArmTask` of `config/tasks/<name>.yaml`, with another scene than the file's where one is given.

    Raises:
        ConfigError: there is no such task or scene, or its part of the file is wrong.
    """
    file = read_task(name)
    own_keys = {field.name for field in fields(ArmTask)}
    part = {key: value for key, value in completed(file, scene).items() if key in own_keys}
    return build(ArmTask, part, str(file.path), file.place)
