# SPDX-License-Identifier: Apache-2.0
"""Forward kinematics of a robot's tool, computed by MuJoCo from its URDF."""

from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

import mujoco
import numpy as np
from numpy.typing import NDArray
from serl_config.schema import suggestion

from serl_robots.model.pose import Pose
from serl_robots.model.robot import RobotModel

_ROUNDING = 1e-9  # [m] or [rad]

Joints = Sequence[float] | NDArray[np.float64]


class Kinematics:
    """Pose and velocity of the tool centre point in the base frame. Not thread-safe: it reuses its work space.

    Attributes:
        robot: whose kinematics these are.
        joints: names of the arm joints, in order.
        lower: smallest arm joint positions, float64[n] [rad].
        upper: largest arm joint positions, float64[n] [rad].
        velocity: largest arm joint speeds, float64[n] [rad/s].
        wrist: where the last link begins, float64[3] in the frame of the tool [m].

    Raises:
        ValueError: the URDF lacks a frame, a joint or a limit that is needed, or a named configuration or a width of
            the gripper is beyond its limits.
    """

    def __init__(self, robot: RobotModel) -> None:
        self.robot = robot
        self.joints = robot.arm_joints
        urdf = robot.urdf_xml()
        spec = mujoco.MjSpec.from_string(urdf)
        for geom in [*spec.geoms]:  # shapes take no part in it
            spec.delete(geom)
        self._model = spec.compile()
        self._data = mujoco.MjData(self._model)
        self._positions = self._data.qpos
        self._tcp = self._id(mujoco.mjtObj.mjOBJ_BODY, robot.tcp_frame)
        joints = [self._id(mujoco.mjtObj.mjOBJ_JOINT, name) for name in robot.arm_joints]
        self._qpos = self._model.jnt_qposadr[joints]
        self._dofs = self._model.jnt_dofadr[joints]
        self._tcp_position = self._data.xpos[self._tcp]
        self._tcp_quaternion = self._data.xquat[self._tcp]
        self._jacobian = np.zeros((6, self._model.nv))
        self._linear, self._angular = self._jacobian[:3], self._jacobian[3:]
        self.lower: NDArray[np.float64] = self._model.jnt_range[joints, 0].copy()
        self.upper: NDArray[np.float64] = self._model.jnt_range[joints, 1].copy()
        self.velocity: NDArray[np.float64] = np.array(_velocity_limits(urdf, robot.arm_joints))

        self._check_limits()

        mujoco.mj_kinematics(self._model, self._data)
        base = self._id(mujoco.mjtObj.mjOBJ_BODY, robot.base_frame)
        w, x, y, z = self._data.xquat[base].tolist()
        self._base = Pose(self._data.xpos[base], (x, y, z, w))
        self._base_is_world = self._base == Pose.identity()
        wrist = self._data.xpos[self._model.jnt_bodyid[joints[-1]]] - self._tcp_position
        self.wrist: NDArray[np.float64] = self._data.xmat[self._tcp].reshape(3, 3).T @ wrist

    def __reduce__(self) -> Any:
        return Kinematics, (self.robot,)  # a copy has a work space of its own

    def tcp(self, positions: Joints) -> Pose:
        """Pose of the tool centre point for arm joint positions float64[n] [rad]."""
        self._place(positions)
        return self._pose()

    def tcp_velocity(self, positions: Joints, velocities: Joints) -> NDArray[np.float64]:
        """Linear [m/s], then angular [rad/s] velocity in the base frame, float64[6], for joint velocities [rad/s]."""
        self._place(positions)
        return self._velocity(velocities)

    def tcp_state(self, positions: Joints, velocities: Joints) -> tuple[Pose, NDArray[np.float64]]:
        """`tcp`, and `tcp_velocity` float64[6], together: the same numbers for less."""
        self._place(positions)
        return self._pose(), self._velocity(velocities)

    def jacobian(self, positions: Joints) -> NDArray[np.float64]:
        """Linear [m/rad] above angular [rad/rad] velocity of the tool for each joint's, base frame, float64[6, n]."""
        self._place(positions)
        return np.column_stack([self._velocity(unit) for unit in np.eye(len(self.joints))])

    def _place(self, positions: Joints) -> None:
        self._positions[self._qpos] = positions
        mujoco.mj_kinematics(self._model, self._data)

    def _pose(self) -> Pose:
        x, y, z = self._tcp_position.tolist()
        qw, qx, qy, qz = self._tcp_quaternion.tolist()
        if self._base_is_world:
            return Pose.trusted((x, y, z), (qx, qy, qz, qw))
        return self._base.inverse().compose(Pose((x, y, z), (qx, qy, qz, qw)))

    def _velocity(self, velocities: Joints) -> NDArray[np.float64]:
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_jacBody(self._model, self._data, self._linear, self._angular, self._tcp)
        velocity: NDArray[np.float64] = self._jacobian[:, self._dofs] @ np.asarray(velocities)
        if self._base_is_world:
            return velocity
        to_base = self._base.inverse()
        return np.concatenate([to_base.rotate(velocity[:3]), to_base.rotate(velocity[3:])])

    def _check_limits(self) -> None:
        """Refuse joints without limits, and what the robot's file says of positions beyond them."""
        robot = self.robot
        for name, low, high in zip(robot.arm_joints, self.lower, self.upper, strict=True):
            if not low < high:
                raise ValueError(
                    f"kinematics: {robot.urdf}: joint {name!r}: expected <limit lower=... upper=...>, found {low:g} to "
                    f"{high:g}; give a continuous joint the type revolute and limits"
                )
        for key, positions in robot.named_configurations.items():
            for name, low, high, position in zip(robot.arm_joints, self.lower, self.upper, positions, strict=True):
                if not low <= position <= high:
                    raise ValueError(
                        f"robot {robot.name!r}: named_configurations.{key}: expected joint {name!r} in [{low:g}, "
                        f"{high:g}] rad as the URDF says, found {position:g}"
                    )
        gripper = robot.gripper
        for name in gripper.joints:
            low, high = self._model.jnt_range[self._id(mujoco.mjtObj.mjOBJ_JOINT, name)]
            for key, width in (("min_width", gripper.min_width), ("max_width", gripper.max_width)):
                position = gripper.position(width)
                if not low - _ROUNDING <= position <= high + _ROUNDING:
                    raise ValueError(
                        f"robot {robot.name!r}: gripper.{key}: at {width:g} m expected joint {name!r} in [{low:g}, "
                        f"{high:g}] as the URDF says, found {position:g}"
                    )

    def _id(self, kind: mujoco.mjtObj, name: str) -> int:
        number = mujoco.mj_name2id(self._model, kind, name)
        if number < 0:
            what = kind.name.removeprefix("mjOBJ_").lower()
            count = self._model.nbody if kind == mujoco.mjtObj.mjOBJ_BODY else self._model.njnt
            known = [str(mujoco.mj_id2name(self._model, kind, index)) for index in range(count)]
            raise ValueError(
                f"robot {self.robot.name!r}: {self.robot.urdf} has no {what} {name!r}, which its file in "
                f"config/robots names{suggestion(name, known)}"
            )
        return int(number)


def _velocity_limits(urdf: str, joints: Sequence[str]) -> list[float]:
    """`<limit velocity>` of each joint: the one limit that MuJoCo does not keep."""
    limits = {joint.get("name"): joint.find("limit") for joint in ElementTree.fromstring(urdf).findall("joint")}
    velocities = []
    for name in joints:
        limit = limits.get(name)
        value = None if limit is None else limit.get("velocity")
        if value is None:
            raise ValueError(f"kinematics: the URDF has no velocity limit for joint {name!r}")
        velocities.append(float(value))
    return velocities
