# SPDX-License-Identifier: Apache-2.0
"""One arm of a world: how it is commanded, and what is measured of it, in the frame of its own base."""

import math
from collections.abc import Sequence

import mujoco
import numpy as np
from numpy.typing import NDArray
from serl_robots.control.arm_task import ArmTask
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose, quaternion_log, quaternion_multiply
from serl_robots.model.reachable import FREE_TOOL, ReachableOrientation
from serl_robots.model.robot import RobotModel
from serl_tasks.arm_sample import ArmSample

from serl_sim.scene.actuators import CARTESIAN, GRIPPER, GROUPS, JOINTS


class SimulatedArm:
    """Reads and writes the part of MuJoCo's state that is one arm's. What it is asked about is told by the caller.

    Attributes:
        robot: that it is.
        kinematics: of the robot.
        limits: lowest and highest position of each arm joint, float64 (n, 2) [rad].
        gripper_target: commanded distance of the fingers [m].
    """

    def __init__(
        self, model: mujoco.MjModel, robot: RobotModel, task: ArmTask, *, prefix: str = "", number: int = 0
    ) -> None:
        """Find the arm in a compiled world.

        Args:
            model: of the world.
            robot: that the arm is.
            task: of this arm alone.
            prefix: before its names in the model.
            number: of the arm, whose groups of actuators these are.
        """
        self.robot = robot
        self.kinematics = Kinematics(robot)
        few = len(robot.arm_joints) < FREE_TOOL
        self._reachable = ReachableOrientation(self.kinematics) if few else None
        joints = [model.joint(prefix + name) for name in robot.joints]
        arm = len(robot.arm_joints)
        self._positions = np.array([joint.qposadr[0] for joint in joints])
        self._velocities = np.array([joint.dofadr[0] for joint in joints])
        self._arm_positions, self._arm_velocities = self._positions[:arm], self._velocities[:arm]
        self.limits = np.array([joint.range for joint in joints[:arm]])
        self._finger_positions, self._finger_velocities = self._positions[arm:], self._velocities[arm:]
        first = GROUPS * number
        self._cartesian, self._joints = first + CARTESIAN, first + JOINTS
        groups = model.actuator_group
        self._pose_controls = slice(*_span(groups, self._cartesian))
        self._joint_controls = slice(*_span(groups, self._joints))
        self._gripper_control = _span(groups, first + GRIPPER)[0]
        nx, ny, nz, nw = task.limits.reference_orientation
        self._from_nominal = (-nx, -ny, -nz, nw)
        self.gripper_target = 0.0

    # Commands

    def command_pose(self, data: mujoco.MjData, target: Pose) -> None:
        """Let the Cartesian controller lead, to the tool pose `target`.

        An arm of fewer than six joints gets to its position with the nearest orientation that it can have there.
        """
        if self._reachable is not None:
            target = self._reachable.nearest(target, data.qpos[self._arm_positions])
        x, y, z, w = target.quaternion.tolist()
        controls = data.ctrl[self._pose_controls]
        controls[:3] = target.position
        controls[3:] = quaternion_log(quaternion_multiply(self._from_nominal, (x, y, z, w)))
        self.lead_by_pose(data)

    def command_joints(self, data: mujoco.MjData, positions: Sequence[float] | NDArray[np.float64]) -> None:
        """Let the joint controller lead, to arm joint `positions` (n,) [rad].

        Raises:
            ValueError: wrong number of values, or one that is not finite.
        """
        values = np.asarray(positions, dtype=np.float64)
        if values.shape != self._arm_positions.shape or not np.isfinite(values).all():
            raise ValueError(f"joint positions: expected {len(self._arm_positions)} finite values, found {values}")
        data.ctrl[self._joint_controls] = values
        self._lead(data, self._joints, self._cartesian)

    def command_gripper(self, data: mujoco.MjData, width: float) -> None:
        """Move the fingers to the nearest distance from each other to `width` [m] that the gripper has.

        Raises:
            ValueError: not finite.
        """
        if not math.isfinite(width):
            raise ValueError(f"gripper width: expected a finite number, found {width}")
        gripper = self.robot.gripper
        self.gripper_target = gripper.within(width)
        data.ctrl[self._gripper_control] = gripper.position(self.gripper_target)

    def lead_by_pose(self, data: mujoco.MjData) -> None:
        """Let the Cartesian controller lead, to where it was led last."""
        self._lead(data, self._cartesian, self._joints)

    def _lead(self, data: mujoco.MjData, leader: int, follower: int) -> None:
        option = data.model.opt
        option.disableactuator = option.disableactuator & ~(1 << leader) | 1 << follower

    def place(self, data: mujoco.MjData, positions: NDArray[np.float64], velocities: NDArray[np.float64]) -> None:
        """Put all joints somewhere: `positions` and `velocities` (n,) in the order of ``robot.joints``."""
        data.qpos[self._positions], data.qvel[self._velocities] = positions, velocities

    def place_arm(self, data: mujoco.MjData, positions: Sequence[float]) -> None:
        """Put the arm joints at `positions` (n,) [rad]."""
        data.qpos[self._arm_positions] = positions

    def relax(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        """Let the springs of its posture pull towards where the arm is now."""
        model.qpos_spring[self._arm_positions] = data.qpos[self._arm_positions]

    # What is measured

    def positions(self, data: mujoco.MjData) -> NDArray[np.float64]:
        """Positions in the order of ``robot.joints``, float64 (n,): arm and rotary jaw [rad], fingers [m]."""
        return data.qpos[self._positions]

    def arm_positions(self, data: mujoco.MjData) -> NDArray[np.float64]:
        """Positions of the arm joints, float64 (n,) [rad]."""
        return data.qpos[self._arm_positions]

    def velocities(self, data: mujoco.MjData) -> NDArray[np.float64]:
        """Velocities in the order of ``robot.joints``, float64 (n,): arm and rotary jaw [rad/s], fingers [m/s]."""
        return data.qvel[self._velocities]

    def efforts(self, data: mujoco.MjData) -> NDArray[np.float64]:
        """What the motors give, in the order of ``robot.joints``, float64 (n,) [Nm], fingers [N]; gravity included."""
        return data.qfrc_actuator[self._velocities] + data.qfrc_gravcomp[self._velocities]

    def gripper_width(self, data: mujoco.MjData) -> float:
        """Measured distance of the fingers [m]."""
        return self.robot.gripper.width(data.qpos[self._finger_positions].tolist())

    def finger_speed(self, data: mujoco.MjData) -> float:
        """Measured speed of the fastest finger [m/s]."""
        return self.robot.gripper.finger_speed(
            data.qpos[self._finger_positions].tolist(), data.qvel[self._finger_velocities].tolist()
        )

    def tcp(self, data: mujoco.MjData) -> Pose:
        """Pose of the tool, base frame."""
        return self.kinematics.tcp(data.qpos[self._arm_positions])

    def sample(self, data: mujoco.MjData, tcp: Pose, wrench: NDArray[np.float64] | None = None) -> ArmSample:
        """What an observation needs of the arm.

        Args:
            data: state of the world.
            tcp: pose of the tool in that state.
            wrench: that the wrist measures, float64 (6,), if it does.
        """
        positions, velocities = data.qpos[self._arm_positions], data.qvel[self._arm_velocities]
        return ArmSample(
            tcp=tcp,
            tcp_velocity=self.kinematics.tcp_velocity(positions, velocities),
            gripper_width=self.gripper_width(data),
            gripper_target=self.gripper_target,
            joint_positions=positions,
            joint_velocities=velocities,
            wrench=wrench,
        )


def _span(groups: NDArray[np.int32], group: int) -> tuple[int, int]:
    """First and last + 1 of the actuators in `group`, which lie together."""
    indices = np.flatnonzero(groups == group)
    return int(indices[0]), int(indices[-1]) + 1
