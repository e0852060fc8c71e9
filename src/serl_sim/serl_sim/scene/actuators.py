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
from serl_robots.model.simulated_drive import Servo

# Actuator groups.
CARTESIAN: Final = 0
JOINTS: Final = 1
GRIPPER: Final = 2
GROUPS: Final = 3
"""Groups of one arm; those of the second of several arms come behind them."""

TCP_SITE: Final = "tcp"
HELPER_GROUP: Final = 3
"""Group of sites and geoms that are not drawn."""


def add_cartesian_control(spec: mujoco.MjSpec, robot: RobotModel, nominal: Quaternion, first: int = 0) -> None:
    """Add six actuators that pull the tool to a pose: position [m] and rotation vector [rad] from `nominal` (xyzw).

    The rotational error is a rotation vector, which wraps at pi. A tool that points down is turned by pi from the base,
    so its orientation is measured against a site that has the nominal orientation: else the wrist limit-cycles. The
    arm's groups of actuators begin with `first`, here and below.
    """
    spec.body(robot.tcp_frame).add_site(name=TCP_SITE, group=HELPER_GROUP)
    base = spec.body(robot.base_frame)
    base.add_site(name="base", group=HELPER_GROUP)
    x, y, z, w = nominal
    base.add_site(name="nominal", quat=(w, x, y, z), group=HELPER_GROUP)
    servos = robot.simulation.cartesian
    for axis, name in enumerate(("x", "y", "z", "rx", "ry", "rz")):
        gear = np.zeros(6)
        gear[axis] = 1.0
        actuator = _add_servo(spec, name, first + CARTESIAN, servos.linear if axis < 3 else servos.angular)
        actuator.trntype = mjtTrn.mjTRN_SITE
        actuator.target = TCP_SITE
        actuator.refsite = "base" if axis < 3 else "nominal"
        actuator.gear = gear


def add_joint_control(spec: mujoco.MjSpec, robot: RobotModel, first: int = 0) -> None:
    """Add one position servo for each arm joint, within the URDF's effort limit.

    Raises:
        ValueError: the URDF has no effort limit for a joint.
    """
    gains = robot.simulation.joints
    for name, stiffness, damping in zip(robot.arm_joints, gains.stiffness, gains.damping, strict=True):
        effort = float(spec.joint(name).actfrcrange[1])
        if not effort > 0.0:
            raise ValueError(
                f"robot {robot.name!r}: {robot.urdf}: joint {name}: expected <limit effort=...> above 0 Nm, found "
                f"{effort:g}; without it the joint does not move"
            )
        actuator = _add_servo(spec, name, first + JOINTS, Servo(stiffness=stiffness, damping=damping, limit=effort))
        actuator.trntype = mjtTrn.mjTRN_JOINT
        actuator.target = name


def add_gripper_control(spec: mujoco.MjSpec, robot: RobotModel, first: int = 0) -> None:
    """Add one servo for the mean position of the gripper's joints, see `Gripper.position`."""
    joints = robot.gripper.joints
    tendon = spec.add_tendon(name="gripper")
    for name in joints:
        tendon.wrap_joint(name, 1.0 / len(joints))
    actuator = _add_servo(spec, "gripper", first + GRIPPER, robot.simulation.gripper)
    actuator.trntype = mjtTrn.mjTRN_TENDON
    actuator.target = "gripper"


def _add_servo(spec: mujoco.MjSpec, name: str, group: int, servo: Servo) -> mujoco.MjsActuator:
    actuator = spec.add_actuator(name=name, group=group)
    actuator.gaintype = mjtGain.mjGAIN_FIXED
    actuator.biastype = mjtBias.mjBIAS_AFFINE
    actuator.gainprm[0] = servo.stiffness
    actuator.biasprm[:3] = (0.0, -servo.stiffness, -servo.damping)
    actuator.forcelimited = True
    actuator.forcerange = (-servo.limit, servo.limit)
    return actuator
