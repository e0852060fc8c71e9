# SPDX-License-Identifier: Apache-2.0
"""What limits a commanded motion: the numbers, and the names under which limits report that they acted."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from serl_config.schema import Field, config, model_validator

from serl_robots.model.pose import Quaternion, Vector3
from serl_robots.safety.walls import NUMBERS

# Every limit, by the name under which it shows in `arm/safety`.
LIMIT_NAMES: Final = (
    "estop",  # latched stop
    "fault",  # latched stop because of an error of the controller itself
    "joint_states",  # no measured state, or too old
    "driver",  # the arm's driver moves nothing
    "action",  # refused: wrong length, not finite or outside [-1, 1]
    "stale_command",  # refused because it answers an old state, or the arm is held because no command came
    "rate",  # refused: more commands than control periods
    "finite",  # desired pose is not finite
    "workspace",
    "keep_out",
    "orientation",
    "step",
    "rotation_step",
    "velocity",
    "angular_velocity",
    "acceleration",
    "angular_acceleration",
    "gripper",
    "gripper_velocity",
    "joint_limits",
    "joint_step",
    "joint_velocity",
    "joint_acceleration",
    "force",  # at the tool: the arm gives way, or is stopped
    "torque",
    "effort",  # the same of a joint
    "reference_error",  # distance of target and tool
    "tracking_error",  # target set back to the measured pose
    "keep_apart",  # distance of the hands of two arms
)

LIMIT_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "estop": "e-stop",
        "fault": "error of the arm's controller",
        "joint_states": "no fresh joint states",
        "driver": "the arm's driver moves nothing",
        "action": "action refused: wrong length, or out of range",
        "stale_command": "no fresh command",
        "rate": "commands come too fast",
        "finite": "wanted pose is not finite",
        "workspace": "workspace box",
        "keep_out": "keep-out box",
        "orientation": "tilt of the tool",
        "step": "distance per step",
        "rotation_step": "rotation per step",
        "velocity": "speed",
        "angular_velocity": "turning speed",
        "acceleration": "acceleration",
        "angular_acceleration": "turning acceleration",
        "gripper": "gripper range",
        "gripper_velocity": "gripper speed",
        "joint_limits": "range of a joint",
        "joint_step": "distance of a joint per step",
        "joint_velocity": "speed of a joint",
        "joint_acceleration": "acceleration of a joint",
        "force": "force at the tool",
        "torque": "torque at the tool",
        "effort": "effort of a joint",
        "reference_error": "target far from the tool",
        "tracking_error": "the arm lags behind its target",
        "keep_apart": "distance to the other arm",
    }
)
"""What each limit is called where a person reads it."""

# A ball of rotations smaller than this radius is convex, so a path is inside when its ends are [rad].
CONVEX_ANGLE: Final = 0.5 * math.pi

_FARTHEST: Final = 100.0  # [m] that a corner of a workspace may be away: numbers beyond are a mistake


@config(kw_only=True)
class SafetyLimits:
    """What a commanded motion may do. A task's file sets its own under `limits:`, the controller's parameters override.

    Box and widths are the robot's where the task says nothing of them (`safety_box` and `gripper` of its file). The
    defaults of the others are careful ones for an arm beside a person, near those that HIL-SERL and MoveIt Servo ship.
    """

    workspace_min: Vector3 = Field(description="corner of the tool's box, base frame [m]")
    workspace_max: Vector3 = Field(description="opposite corner of the box [m]")
    keep_out: tuple[float, ...] = Field(
        default=(),
        max_length=64 * NUMBERS,
        description="boxes that the tool keeps out of: lower corner, then upper one, six numbers each, base frame [m]",
    )
    keep_out_distance: float = Field(
        default=0.02, ge=0.0, le=0.5, description="that the tool centre point keeps from these boxes, on each axis [m]"
    )
    keep_out_link_distance: float = Field(
        default=0.005,
        ge=0.001,
        le=0.5,
        description="that all links keep from these boxes where joints are commanded [m]",
    )
    reference_orientation: Quaternion = Field(
        default=(1.0, 0.0, 0.0, 0.0), description="centre of the cone, xyzw; tool down"
    )
    orientation_cone: float = Field(
        default=0.5, gt=0.0, lt=CONVEX_ANGLE, description="largest rotation away from the reference orientation [rad]"
    )
    max_step: float = Field(default=0.01, gt=0.0, le=0.05, description="translation in one control step [m]")
    max_rotation_step: float = Field(default=0.06, gt=0.0, le=0.5, description="rotation in one control step [rad]")
    max_velocity: float = Field(default=0.25, gt=0.0, le=2.0, description="[m/s]")
    max_angular_velocity: float = Field(default=0.8, gt=0.0, le=3.0, description="[rad/s]")
    max_acceleration: float = Field(default=2.0, ge=0.1, le=15.0, description="[m/s^2]")
    max_angular_acceleration: float = Field(default=6.0, ge=0.1, le=30.0, description="[rad/s^2]")
    min_gripper_width: float = Field(ge=0.0, le=1.0, description="narrowest opening that is commanded [m]")
    max_gripper_width: float = Field(gt=0.0, le=1.0, description="widest opening that is commanded [m]")
    max_gripper_velocity: float = Field(default=0.1, gt=0.0, le=10.0, description="change of width [m/s]")
    stale_timeout: float = Field(
        default=0.2, gt=0.0, le=10.0, description="a source that is silent for longer no longer leads, local time [s]"
    )
    joint_state_timeout: float = Field(
        default=0.2, gt=0.0, le=10.0, description="no motion on joint states older than this, local time [s]"
    )
    max_force: float = Field(
        default=0.0, ge=0.0, le=1000.0, description="at the tool, of `wrench`; 0: nobody looks [N]"
    )
    max_torque: float = Field(
        default=0.0, ge=0.0, le=200.0, description="at the tool, of `wrench`; 0: nobody looks [Nm]"
    )
    max_effort: tuple[float, ...] = Field(
        default=(), description="of each arm joint, of `joint_states`; none: nobody looks [Nm]"
    )
    overload_time: float = Field(
        default=0.05, ge=0.0, le=5.0, description="over max_force, max_torque or max_effort until the arm gives way [s]"
    )
    overload_stop: float = Field(
        default=1.5, ge=1.0, le=100.0, description="times these limits, from which on the arm is stopped"
    )
    max_reference_error: float = Field(
        default=0.1, gt=0.0, le=1.0, description="of the target from where the tool is measured, on each axis [m]"
    )
    max_reference_rotation_error: float = Field(
        default=0.5, gt=0.0, lt=CONVEX_ANGLE, description="the same for rotation [rad]"
    )
    tracking_error: float = Field(
        default=0.05, gt=0.0, le=1.0, description="distance of target and tool that may not last [m]"
    )
    tracking_rotation_error: float = Field(default=0.5, gt=0.0, le=math.pi, description="the same for rotation [rad]")
    tracking_progress: float = Field(
        default=0.01, gt=0.0, le=1.0, description="decrease of the error that is progress [m, rad]"
    )
    tracking_timeout: float = Field(
        default=2.0, gt=0.0, le=60.0, description="time without progress until the reset [s]"
    )
    joint_margin: float = Field(default=0.1, ge=0.0, le=1.0, description="distance kept from joint limits [rad]")
    max_joint_step: float = Field(default=0.2, gt=0.0, le=1.0, description="of each joint in one control step [rad]")
    joint_velocity_scaling: float = Field(
        default=0.5, gt=0.0, le=1.0, description="share of joint velocity limits in motions of the joints"
    )
    joint_acceleration: float = Field(
        default=2.5, gt=0.0, le=20.0, description="of each joint in motions of the joints [rad/s^2]"
    )

    def width_within(self, width: float) -> float:
        """The gripper width [m] nearest to `width` that may be commanded."""
        return min(max(width, self.min_gripper_width), self.max_gripper_width)

    @model_validator(mode="after")
    def _consistent(self) -> "SafetyLimits":
        if not all(low < high for low, high in zip(self.workspace_min, self.workspace_max, strict=True)):
            raise ValueError(
                f"expected workspace_min below workspace_max on every axis, found {list(self.workspace_min)} and "
                f"{list(self.workspace_max)}"
            )
        if max(map(abs, (*self.workspace_min, *self.workspace_max))) > _FARTHEST:
            raise ValueError(
                f"expected workspace_min and workspace_max within {_FARTHEST:g} m of the base, found "
                f"{list(self.workspace_min)} and {list(self.workspace_max)}"
            )
        if not all(value > 0.0 for value in self.max_effort):
            raise ValueError(f"max_effort: expected positive numbers, found {list(self.max_effort)}")
        corners = self.keep_out
        if len(corners) % NUMBERS:
            raise ValueError(f"keep_out: expected six numbers for each box, found {len(corners)} numbers")
        for first in range(0, len(corners), NUMBERS):
            low, high = corners[first : first + 3], corners[first + 3 : first + NUMBERS]
            if not all(a < b for a, b in zip(low, high, strict=True)):
                raise ValueError(
                    "keep_out: expected the lower corner of a box below its upper one on every axis, found "
                    f"{list(low)} and {list(high)}"
                )
        if any(abs(value) > _FARTHEST for value in corners):
            raise ValueError(f"keep_out: expected corners within {_FARTHEST:g} m of the base, found {list(corners)}")
        length = math.hypot(*self.reference_orientation)
        if abs(length - 1.0) > 1e-3:
            raise ValueError(f"reference_orientation: expected a unit quaternion (xyzw), found length {length:g}")
        if self.min_gripper_width >= self.max_gripper_width:
            raise ValueError(
                f"expected min_gripper_width below max_gripper_width, found {self.min_gripper_width} and "
                f"{self.max_gripper_width}"
            )
        return self
