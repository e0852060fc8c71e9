# SPDX-License-Identifier: Apache-2.0
"""Which controllers of a ros2_control an arm is moved by, and what they are called."""

from __future__ import annotations

from typing import Literal

from serl_config.schema import Field, config

LowLevel = Literal["joint_trajectory", "forward_position", "cartesian"]
"""What the arm's controller takes: trajectories of joints, positions of joints, or poses of the tool."""


@config(kw_only=True)
class Ros2ControlSettings:
    """Names are relative to the driver's namespace unless they begin with a slash."""

    low_level: LowLevel = Field(default="joint_trajectory", description="which of the three controllers moves the arm")
    joint_trajectory_controller: str = Field(
        default="joint_trajectory_controller", min_length=1, description="its name"
    )
    forward_position_controller: str = Field(
        default="forward_position_controller", min_length=1, description="its name"
    )
    cartesian_controller: str = Field(default="cartesian_impedance_controller", min_length=1, description="its name")
    target_pose: str = Field(
        default="target_pose", min_length=1, description="topic of the Cartesian controller's poses"
    )
    joint_states: str = Field(default="joint_states", min_length=1, description="topic of joint_state_broadcaster")
    gripper_action: str = Field(
        default="gripper_controller/gripper_cmd",
        description="ParallelGripperCommand or GripperCommand, whichever is offered; empty: it is not moved, or "
        "the arm's controller has its joint",
    )
    gripper_effort: float = Field(
        default=0.0, ge=0.0, le=500.0, description="of its goals [N]; 0: the controller's own"
    )
    gripper_tolerance: float = Field(
        default=0.002, gt=0.0, le=0.05, description="change of the opening for which there is a new goal [m]"
    )
    controller_manager: str = Field(default="controller_manager", description="its name; empty: there is none to ask")
    switch: bool = Field(
        default=True, description="activate the arm's controller at the start, give back what was active at the end"
    )
    lead: float = Field(
        default=0.02, gt=0.0, le=0.5, description="time in which a trajectory's point is to be reached [s]"
    )

    @property
    def controller(self) -> str:
        """Name of the controller that moves the arm."""
        names = {
            "joint_trajectory": self.joint_trajectory_controller,
            "forward_position": self.forward_position_controller,
            "cartesian": self.cartesian_controller,
        }
        return names[self.low_level]
