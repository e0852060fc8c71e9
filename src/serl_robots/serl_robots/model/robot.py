# SPDX-License-Identifier: Apache-2.0
"""What a robot is: its description, frames, joints and named configurations."""

import signal
import subprocess
import sys
from functools import cache

from serl_config.schema import ConfigError, Field, config, load_yaml, model_validator, suggestion
from serl_config.text import printable

from serl_config import resources

FOLDER = "config/robots"

_XACRO_SECONDS = 10  # of processor time


@config(kw_only=True)
class RobotModel:
    """One arm with a parallel gripper, from `config/robots/<name>.yaml`. Joint limits are those of the URDF."""

    name: str
    urdf: str = Field(description="xacro file, relative to the workspace's share folder")
    base_frame: str
    tcp_frame: str
    arm_joints: tuple[str, ...] = Field(min_length=1)
    finger_joints: tuple[str, ...] = Field(description="the gripper's width is the sum of their positions")
    gripper_max_width: float = Field(gt=0.0, description="[m]")
    named_configurations: dict[str, tuple[float, ...]] = Field(description="name -> arm joint positions [rad]")

    @model_validator(mode="after")
    def _consistent(self) -> "RobotModel":
        joints = self.arm_joints + self.finger_joints
        if len(set(joints)) != len(joints):
            raise ValueError(f"arm_joints, finger_joints: expected each joint once, found {' '.join(joints)}")
        for name, positions in self.named_configurations.items():
            if len(positions) != len(self.arm_joints):
                raise ValueError(
                    f"named_configurations.{name}: expected {len(self.arm_joints)} positions, found {len(positions)}"
                )
        return self

    @property
    def joints(self) -> tuple[str, ...]:
        """Arm joints, then finger joints: the order of `joint_states`."""
        return self.arm_joints + self.finger_joints

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
    known = resources.listing(FOLDER, ".yaml")
    if name not in known:
        raise ConfigError(f"unknown robot {name!r}" + suggestion(name, [*known]))
    robot = load_yaml(known[name], RobotModel)
    if robot.name != name:
        raise ConfigError(f"{known[name]}: 'name': expected {name!r} as the file's name says, found {robot.name!r}")
    return robot


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
