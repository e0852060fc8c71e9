# SPDX-License-Identifier: Apache-2.0
"""How an object is mounted that is neither free nor fixed: held by the gripper, or on a joint of a fixed one."""

from __future__ import annotations

import math

from serl_config.schema import Field, config, model_validator
from serl_robots.model.pose import Pose, Vector3, quaternion_exp


@config(kw_only=True)
class ToolMount:
    """How an object sits rigidly between the fingers."""

    position: Vector3 = Field(description="of the object in the frame of the tool [m]")
    rotation_deg: Vector3 = Field(default=(0.0, 0.0, 0.0), description="its turn, a rotation vector [deg]")

    @property
    def pose(self) -> Pose:
        """The object in the frame of the tool."""
        x, y, z = (math.radians(angle) for angle in self.rotation_deg)
        return Pose(self.position, quaternion_exp((x, y, z)))


@config(kw_only=True)
class SlideMount:
    """How an object slides on another one, as a drawer does in its cabinet. It starts at the beginning of its way."""

    base: str = Field(description="object on which it slides, which is fixed")
    position: Vector3 = Field(description="of its origin at the start, frame of the base [m]")
    axis: Vector3 = Field(description="direction in which it slides, frame of the base")
    reach: float = Field(gt=0.0, description="length of its way [m]")
    friction: float = Field(default=0.0, ge=0.0, description="force that it takes to move it [N]")
    damping: float = Field(default=0.0, ge=0.0, description="more force for each m/s [N s/m]")

    @model_validator(mode="after")
    def _unit_axis(self) -> SlideMount:
        _check_axis(self.axis)
        return self

    @property
    def largest(self) -> float:
        """Way from the start to the end [m]."""
        return self.reach

    def pose(self, base: Pose, way: float) -> Pose:
        """The object `way` [m] from its start, of a base at `base`."""
        x, y, z = (start + way * part for start, part in zip(self.position, self.axis, strict=True))
        return base.compose(Pose((x, y, z)))


@config(kw_only=True)
class HingeMount:
    """How an object turns on another one, as a door does on its frame. It starts at the beginning of its turn."""

    base: str = Field(description="object on which it turns, which is fixed")
    position: Vector3 = Field(description="of its origin, through which the axis goes, frame of the base [m]")
    axis: Vector3 = Field(description="about which it turns, by the right hand, frame of the base")
    reach_deg: float = Field(gt=0.0, le=360.0, description="its turn from the start to the end")
    friction: float = Field(default=0.0, ge=0.0, description="torque that it takes to turn it [Nm]")
    damping: float = Field(default=0.0, ge=0.0, description="more torque for each rad/s [Nm s/rad]")

    @model_validator(mode="after")
    def _unit_axis(self) -> HingeMount:
        _check_axis(self.axis)
        return self

    @property
    def largest(self) -> float:
        """Turn from the start to the end [rad]."""
        return math.radians(self.reach_deg)

    def pose(self, base: Pose, turn: float) -> Pose:
        """The object turned by `turn` [rad] from its start, of a base at `base`."""
        x, y, z = (turn * part for part in self.axis)
        return base.compose(Pose(self.position, quaternion_exp((x, y, z))))


def _check_axis(axis: Vector3) -> None:
    if abs(math.hypot(*axis) - 1.0) > 1e-3:
        raise ValueError(f"axis: expected a vector of length 1, found {list(axis)}")
