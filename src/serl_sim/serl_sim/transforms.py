# SPDX-License-Identifier: Apache-2.0
"""Frames of the robot and of the cameras, as robot_state_publisher gives them."""

import mujoco
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from serl_robots.model.camera_info import optical_frame
from serl_robots.model.camera_mount import CameraMount
from serl_robots.model.pose import Pose
from serl_robots.model.robot import RobotModel

from serl_sim.scene.scene import in_model


class RobotFrames:
    """Where each link of the robot is in the frame of its parent."""

    def __init__(self, model: mujoco.MjModel, robot: RobotModel, prefix: str = "", arm: str = "") -> None:
        """Find the links of `robot` in the compiled world; `prefix` stands before the names of all frames.

        Of several arms `arm` is the prefix of one, which the names of its frames have as well.
        """
        spec = mujoco.MjSpec.from_string(robot.urdf_xml())
        links = [model.body(in_model(arm) + body.name).id for body in spec.bodies if body.name != "world"]
        self._model = model
        self._prefix = prefix
        self._fixed = [link for link in links if model.body_dofnum[link] == 0]
        self._moving = [link for link in links if model.body_dofnum[link] > 0]
        self._messages = [self._transform(link) for link in self._moving]

    def fixed(self, stamp: Time) -> list[TransformStamped]:
        """Transforms that never change."""
        model = self._model
        messages = []
        for link in self._fixed:
            message = self._transform(link)
            message.header.stamp = stamp
            w, x, y, z = model.body_quat[link].tolist()
            _fill(message, Pose(model.body_pos[link], (x, y, z, w)))
            messages.append(message)
        return messages

    def moving(self, data: mujoco.MjData, stamp: Time) -> list[TransformStamped]:
        """Transforms of the links that a joint moves. The list is reused: publish it before the next call."""
        mujoco.mj_kinematics(self._model, data)
        for link, message in zip(self._moving, self._messages, strict=True):
            parent = self._model.body_parentid[link]
            message.header.stamp = stamp
            _fill(message, _body_pose(data, parent).inverse().compose(_body_pose(data, link)))
        return self._messages

    def _transform(self, link: int) -> TransformStamped:
        names = [self._prefix + self._model.body(body).name for body in (self._model.body_parentid[link], link)]
        return _transform(*names)


def camera_transforms(cameras: dict[str, CameraMount], stamp: Time, prefix: str = "") -> list[TransformStamped]:
    """Where each camera's optical frame is in the frame that carries it; `prefix` stands before all their names."""
    messages = []
    for name, camera in cameras.items():
        message = _transform(prefix + camera.parent, prefix + optical_frame(name))
        message.header.stamp = stamp
        _fill(message, camera.optical_frame())
        messages.append(message)
    return messages


def _transform(parent: str, child: str) -> TransformStamped:
    message = TransformStamped(child_frame_id=child)
    message.header.frame_id = parent
    return message


def _fill(message: TransformStamped, pose: Pose) -> None:
    translation, rotation = message.transform.translation, message.transform.rotation
    translation.x, translation.y, translation.z = pose.position.tolist()
    rotation.x, rotation.y, rotation.z, rotation.w = pose.quaternion.tolist()


def _body_pose(data: mujoco.MjData, body: int) -> Pose:
    w, x, y, z = data.xquat[body].tolist()
    return Pose(data.xpos[body], (x, y, z, w))
