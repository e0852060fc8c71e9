# SPDX-License-Identifier: Apache-2.0
"""Whether a robot's joints are the position of its tool.

Read off its URDF alone: `serl_robots.model.kinematics` needs our MuJoCo, and beside an environment that others wrote
there may be another one.
"""

from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from serl_robots.model.pose import Pose
from serl_robots.model.robot import RobotModel

_ROUNDING = 1e-9
_ORIGIN = np.zeros(3)


def is_gantry(robot: RobotModel) -> bool:
    """Whether the arm joints of `robot` slide along x, y and z of its base, and its tool is at 0 where they are."""
    # Those of the robot itself: a <transmission> names joints, too.
    joints = {joint.get("name"): joint for joint in ElementTree.fromstring(robot.urdf_xml()).findall("joint")}
    if len(robot.arm_joints) != 3:
        return False
    link, frame = robot.base_frame, Pose.identity()
    for name, axis in zip(robot.arm_joints, np.eye(3), strict=True):
        joint = joints[name]
        parent, child = joint.find("parent"), joint.find("child")
        if parent is None or child is None or joint.get("type") != "prismatic" or parent.get("link") != link:
            return False
        frame, link = frame.compose(_origin(joint)), str(child.get("link"))
        if not np.allclose(frame.rotate(_numbers(joint.find("axis"), "xyz", "1 0 0")), axis, atol=_ROUNDING):
            return False
    return link == robot.tcp_frame and np.allclose(frame.position, _ORIGIN, atol=_ROUNDING)


def _origin(joint: ElementTree.Element) -> Pose:
    """Where a joint's frame is in that of its parent: in URDF roll, pitch and yaw are turns about fixed axes."""
    origin = joint.find("origin")
    turn = Pose.identity()
    for angle, axis in zip(_numbers(origin, "rpy", "0 0 0"), np.eye(3), strict=True):
        turn = Pose.from_rotation_vector(_ORIGIN, angle * axis).compose(turn)
    return Pose(_numbers(origin, "xyz", "0 0 0"), turn.quaternion)


def _numbers(element: ElementTree.Element | None, key: str, default: str) -> NDArray[np.float64]:
    text = default if element is None else element.get(key, default)
    return np.array([float(word) for word in text.split()])
