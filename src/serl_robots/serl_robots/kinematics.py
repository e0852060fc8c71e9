# SPDX-License-Identifier: Apache-2.0
"""Forward kinematics of a robot's tool, computed by MuJoCo from its URDF."""

from collections.abc import Sequence

import mujoco
import numpy as np
from numpy.typing import NDArray

from serl_robots.pose import Pose
from serl_robots.robot import RobotModel


class Kinematics:
    """Pose and velocity of the tool centre point in the base frame, the root of the URDF. Not thread-safe: it reuses its work space.

    Raises:
        ValueError: the URDF lacks a frame or a joint that the robot's file names.
    """

    def __init__(self, robot: RobotModel) -> None:
        spec = mujoco.MjSpec.from_string(robot.urdf_xml())
        for geom in [*spec.geoms]:  # shapes take no part in it
            spec.delete(geom)
        self._model = spec.compile()
        self._data = mujoco.MjData(self._model)
        self._tcp = self._id(mujoco.mjtObj.mjOBJ_BODY, robot.tcp_frame)
        joints = [self._id(mujoco.mjtObj.mjOBJ_JOINT, name) for name in robot.arm_joints]
        self._qpos = self._model.jnt_qposadr[joints]
        self._dofs = self._model.jnt_dofadr[joints]
        self._jacobian = np.zeros((6, self._model.nv))
        self.lower: NDArray[np.float64] = self._model.jnt_range[joints, 0].copy()
        """Smallest joint positions [rad]."""
        self.upper: NDArray[np.float64] = self._model.jnt_range[joints, 1].copy()
        """Largest joint positions [rad]."""

    def tcp(self, positions: Sequence[float] | NDArray[np.float64]) -> Pose:
        """Pose of the tool centre point for arm joint positions float64[n] [rad]."""
        self._place(positions)
        data = self._data
        w, x, y, z = data.xquat[self._tcp].tolist()
        px, py, pz = data.xpos[self._tcp].tolist()
        return Pose.trusted((px, py, pz), (x, y, z, w))

    def tcp_velocity(
        self, positions: Sequence[float] | NDArray[np.float64], velocities: Sequence[float] | NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Linear [m/s], then angular [rad/s] velocity, float64[6], for joint velocities float64[n] [rad/s]."""
        self._place(positions)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_jacBody(self._model, self._data, self._jacobian[:3], self._jacobian[3:], self._tcp)
        velocity: NDArray[np.float64] = self._jacobian[:, self._dofs] @ np.asarray(velocities)
        return velocity

    def _place(self, positions: Sequence[float] | NDArray[np.float64]) -> None:
        self._data.qpos[self._qpos] = positions
        mujoco.mj_kinematics(self._model, self._data)

    def _id(self, kind: mujoco.mjtObj, name: str) -> int:
        number = mujoco.mj_name2id(self._model, kind, name)
        if number < 0:
            raise ValueError(f"kinematics: the URDF has no {kind.name.removeprefix('mjOBJ_').lower()} {name!r}")
        return int(number)
