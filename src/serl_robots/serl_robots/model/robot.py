# SPDX-License-Identifier: Apache-2.0
"""What a robot is: its description, frames, joints, gripper, named configurations, cameras and simulated drive."""

import signal
import subprocess
import sys
from functools import cache
from typing import Literal

from serl_config.named_files import load_named
from serl_config.schema import ConfigError, Field, config, model_validator, suggestion
from serl_config.text import printable

from serl_config import resources
from serl_robots.model.camera_mount import CameraMount
from serl_robots.model.gripper import Gripper
from serl_robots.model.pose import Vector3
from serl_robots.model.simulated_drive import SimulatedDrive

FOLDER = "config/robots"
HOME = "home"
"""Configuration that the arm is sent to between episodes, and by hand."""
READY = "ready"
"""Configuration from which a simulated arm goes to a task's start."""

_XACRO_SECONDS = 10  # of processor time


@config(kw_only=True)
class Box:
    """A box along the axes of the arm's base frame."""

    lower: Vector3 = Field(description="corner, base frame [m]")
    upper: Vector3 = Field(description="opposite corner, base frame [m]")

    @model_validator(mode="after")
    def _has_a_volume(self) -> "Box":
        if not all(low < high for low, high in zip(self.lower, self.upper, strict=True)):
            raise ValueError(f"expected lower below upper on every axis, found {list(self.lower)}, {list(self.upper)}")
        return self


@config(kw_only=True)
class RobotModel:
    """One arm with a gripper, from `config/robots/<name>.yaml`. Joint limits are those of the URDF."""

    name: str
    urdf: str = Field(description="xacro file, relative to the workspace's share folder")
    base_frame: str
    tcp_frame: str = Field(description="link at the tool centre point; z is the direction of approach")
    arm_joints: tuple[str, ...] = Field(min_length=1, description="from the base to the tool")
    low_level: Literal["cartesian", "joint"] = Field(
        description="what the arm's own controller follows: tool poses and joint trajectories, or these alone"
    )
    named_configurations: dict[str, tuple[float, ...]] = Field(
        description="name -> arm joint positions [rad]; home and ready among them"
    )
    safety_box: Box = Field(description="that the tool keeps to where a task sets none")
    keep_out: dict[str, Box] = Field(
        default_factory=dict,
        max_length=16,
        description="boxes that the tool keeps out of in every task, by their names",
    )
    gripper: Gripper
    cameras: dict[str, CameraMount] = Field(max_length=32, description="that the arm carries, by their names")
    simulation: SimulatedDrive

    @model_validator(mode="after")
    def _consistent(self) -> "RobotModel":
        joints, arm = self.joints, len(self.arm_joints)
        if len(set(joints)) != len(joints):
            raise ValueError(f"arm_joints, gripper.joints: expected each joint once, found {' '.join(joints)}")
        for name in (HOME, READY):
            if name not in self.named_configurations:
                found = ", ".join(self.named_configurations) or "none"
                raise ValueError(f"named_configurations: expected {HOME} and {READY} among them, found {found}")
        counts = {f"named_configurations.{name}": len(values) for name, values in self.named_configurations.items()}
        servos = self.simulation.joints
        counts |= {
            "simulation.joints.stiffness": len(servos.stiffness),
            "simulation.joints.damping": len(servos.damping),
        }
        for key, count in counts.items():
            if count != arm:
                what = "positions" if key.startswith("named") else "values"
                raise ValueError(f"{key}: expected {arm} {what}, found {count} (arm_joints are {arm})")
        return self

    @property
    def joints(self) -> tuple[str, ...]:
        """Arm joints, then those of the gripper: the order of `joint_states`."""
        return self.arm_joints + self.gripper.joints

    def configuration(self, name: str) -> tuple[float, ...]:
        """Arm joint positions [rad] of a named configuration. Raises KeyError with the known names."""
        if name not in self.named_configurations:
            raise KeyError(
                f"{self.name} has no configuration {name!r}" + suggestion(name, [*self.named_configurations])
            )
        return self.named_configurations[name]

    def urdf_xml(self) -> str:
        """The robot's URDF, xacro processed. Raises ConfigError when the xacro file is broken."""
        return _urdf_xml(self.urdf)


@cache
def load_robot(name: str) -> RobotModel:
    """The robot `config/robots/<name>.yaml`. Raises ConfigError when there is none or the file is wrong."""
    return load_named(FOLDER, name, RobotModel, "robot")[0]


@cache
def _urdf_xml(urdf: str) -> str:
    path = resources.find(urdf)
    command = [sys.executable, "-m", "serl_robots.model.xacro_process", str(path), str(_XACRO_SECONDS)]
    try:
        # A xacro file computes: in a process of its own its expressions cannot take all time and memory of a node.
        done = subprocess.run(command, capture_output=True, timeout=10 * _XACRO_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"{path}: xacro took more than {10 * _XACRO_SECONDS} s") from error
    if done.returncode == -signal.SIGXCPU:
        raise ConfigError(f"{path}: xacro took more than {_XACRO_SECONDS} s; do macros call each other?")
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"]
        raise ConfigError(f"{path}: xacro failed: {printable(lines[-1], 500)}")
    return done.stdout.decode()
