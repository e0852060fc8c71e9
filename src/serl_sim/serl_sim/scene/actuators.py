# SPDX-License-Identifier: Apache-2.0
"""The controllers of the simulated arm, as actuators of the MuJoCo model: no Python runs between physics steps.

Three groups, of which the Cartesian or the joint one is switched off by ``opt.disableactuator``.
"""

from typing import Final

import mujoco
import numpy as np
from mujoco import mjtBias, mjtGain, mjtTrn
from serl_robots.model.pose import Quaternion
from serl_robots.model.robot import RobotModel

# Actuator groups.
CARTESIAN: Final = 0
JOINTS: Final = 1
GRIPPER: Final = 2

TCP_SITE: Final = "tcp"
HELPER_GROUP: Final = 3
"""Group of sites and geoms that are not drawn."""

# Cartesian impedance. The force limit is the stiffness times the largest error that is acted on (4 cm), which is what
# SERL calls error clipping. Tool error: 2 mm at rest, 2 cm at 0.4 m/s.
_LINEAR_STIFFNESS: Final = 2500.0  # [N/m]
_LINEAR_DAMPING: Final = 250.0  # [N s/m]
_LINEAR_FORCE: Final = 100.0  # [N]
_ANGULAR_STIFFNESS: Final = 200.0  # [Nm/rad]
_ANGULAR_DAMPING: Final = 15.0  # [Nm s/rad]
_ANGULAR_TORQUE: Final = 40.0  # [Nm]

_JOINT_STIFFNESS: Final = (2000.0, 2000.0, 1500.0, 1500.0, 600.0, 600.0, 400.0)  # [Nm/rad]
_JOINT_DAMPING: Final = (120.0, 120.0, 80.0, 80.0, 12.0, 12.0, 4.0)  # [Nm s/rad]

_GRIPPER_STIFFNESS: Final = 800.0  # [N/m]
_GRIPPER_DAMPING: Final = 20.0  # [N s/m]
_GRIPPER_FORCE: Final = 40.0  # [N]


def add_cartesian_control(spec: mujoco.MjSpec, robot: RobotModel, nominal: Quaternion) -> None:
    """Add six actuators that pull the tool to a pose: position [m] and rotation vector [rad] from `nominal` (xyzw).

    The rotational error is a rotation vector, which wraps at pi. A tool that points down is turned by pi from the base,
    so its orientation is measured against a site that has the nominal orientation: else the wrist limit-cycles.
    """
    spec.body(robot.tcp_frame).add_site(name=TCP_SITE, group=HELPER_GROUP)
    base = spec.body(robot.base_frame)
    base.add_site(name="base", group=HELPER_GROUP)
    x, y, z, w = nominal
    base.add_site(name="nominal", quat=(w, x, y, z), group=HELPER_GROUP)
    for axis, name in enumerate(("x", "y", "z", "rx", "ry", "rz")):
        gear = np.zeros(6)
        gear[axis] = 1.0
        if axis < 3:
            actuator = _add_servo(spec, name, CARTESIAN, _LINEAR_STIFFNESS, _LINEAR_DAMPING, _LINEAR_FORCE)
        else:
            actuator = _add_servo(spec, name, CARTESIAN, _ANGULAR_STIFFNESS, _ANGULAR_DAMPING, _ANGULAR_TORQUE)
        actuator.trntype = mjtTrn.mjTRN_SITE
        actuator.target = TCP_SITE
        actuator.refsite = "base" if axis < 3 else "nominal"
        actuator.gear = gear


def add_joint_control(spec: mujoco.MjSpec, robot: RobotModel) -> None:
    """Add one position servo for each arm joint, within the URDF's effort limit."""
    for name, stiffness, damping in zip(robot.arm_joints, _JOINT_STIFFNESS, _JOINT_DAMPING, strict=True):
        effort = float(spec.joint(name).actfrcrange[1])
        actuator = _add_servo(spec, name, JOINTS, stiffness, damping, effort)
        actuator.trntype = mjtTrn.mjTRN_JOINT
        actuator.target = name


def add_gripper_control(spec: mujoco.MjSpec, robot: RobotModel) -> None:
    """Add one servo for the mean position of the fingers, which is the width over their number [m]."""
    tendon = spec.add_tendon(name="gripper")
    for name in robot.finger_joints:
        tendon.wrap_joint(name, 1.0 / len(robot.finger_joints))
    actuator = _add_servo(spec, "gripper", GRIPPER, _GRIPPER_STIFFNESS, _GRIPPER_DAMPING, _GRIPPER_FORCE)
    actuator.trntype = mjtTrn.mjTRN_TENDON
    actuator.target = "gripper"


def _add_servo(
    spec: mujoco.MjSpec, name: str, group: int, stiffness: float, damping: float, limit: float
) -> mujoco.MjsActuator:
    """Add an actuator of force ``clip(stiffness * (ctrl - length) - damping * velocity, -limit, limit)``."""
    actuator = spec.add_actuator(name=name, group=group)
    actuator.gaintype = mjtGain.mjGAIN_FIXED
    actuator.biastype = mjtBias.mjBIAS_AFFINE
    actuator.gainprm[0] = stiffness
    actuator.biasprm[:3] = (0.0, -stiffness, -damping)
    actuator.forcelimited = True
    actuator.forcerange = (-limit, limit)
    return actuator
