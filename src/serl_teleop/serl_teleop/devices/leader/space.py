# SPDX-License-Identifier: Apache-2.0
"""How a leader arm and a robot correspond: joint by joint, or by their tools, whatever carries these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose

from serl_tasks import ArmSample
from serl_teleop.devices.leader.chain import Joints, LeaderKinematics, solve

_TURN_WEIGHT: Final = 0.05  # [m/rad]


class Space(Protocol):
    """How a leader and a robot correspond."""

    def leader_for(self, arm: ArmSample, near: Joints) -> Joints:
        """Angles (n,) [rad] of the leader that correspond to a robot, near others."""

    def motion(self, before: Joints, after: Joints, at: ArmSample) -> Pose:
        """How far the robot's tool goes while the leader goes from `before` to `after`.

        Args:
            before: angles (n,) [rad] of the leader.
            after: the same, later.
            at: the robot when the leader was at `before`.

        Returns:
            position: way along the axes of the robot's base [m]; orientation: turn about these.
        """


@dataclass(frozen=True)
class ToolSpace:
    """The leader's tool leads the robot's, whatever the two are built like; see `Space`."""

    leader: LeaderKinematics
    leader_home: Joints
    """Angles (n,) [rad] of the leader that correspond to the robot's `home`."""
    robot_home: Pose
    """The robot's tool there."""
    lower: Joints
    """Smallest angles (n,) of the leader [rad]."""
    upper: Joints
    """Largest angles (n,) of the leader [rad]."""
    scale: float
    """[m] that the robot's tool goes for each that the leader's goes."""
    yaw: float = 0.0
    """How far the leader's base is turned to the left, seen from above, against the robot's [rad]."""

    def leader_for(self, arm: ArmSample, near: Joints) -> Joints:
        """Angles (n,) [rad] of the leader for the pose of a robot's tool, near others and within their ranges."""
        tool = arm.tcp if arm.commanded is None else arm.commanded
        home, turn = self.leader.tcp(self.leader_home), self._turn.inverse()
        way = turn.rotate(tool.position - self.robot_home.position) / self.scale
        turned = turn.compose(_turn_between(self.robot_home, tool)).compose(self._turn)
        goal = Pose(home.position + way, turned.compose(_rotation(home)).quaternion)
        return solve(self.leader, goal, near, self.lower, self.upper, turn_weight=_TURN_WEIGHT)

    def motion(self, before: Joints, after: Joints, at: ArmSample) -> Pose:
        """Way and turn of the leader's tool, as the robot's; see `Space`."""
        start, end = self.leader.tcp(before), self.leader.tcp(after)
        way = self.scale * self._turn.rotate(end.position - start.position)
        turn = self._turn.compose(_turn_between(start, end)).compose(self._turn.inverse())
        return Pose(way, turn.quaternion)

    @property
    def _turn(self) -> Pose:
        return Pose.from_rotation_vector((0.0, 0.0, 0.0), (0.0, 0.0, self.yaw))


@dataclass(frozen=True)
class JointSpace:
    """Each joint of the leader leads that of the robot with the same number; see `Space`."""

    robot: Kinematics

    def leader_for(self, arm: ArmSample, near: Joints) -> Joints:
        """The robot's own angles (n,) [rad]; where nobody tells them those that the leader has."""
        return near if arm.joint_positions is None else arm.joint_positions

    def motion(self, before: Joints, after: Joints, at: ArmSample) -> Pose:
        """What the joints' way does to the robot's tool; see `Space`."""
        robot = self.robot
        # where nobody tells the robot's angles, the leader's are the best guess
        joints: NDArray[np.float64] = before if at.joint_positions is None else at.joint_positions
        wanted = np.clip(joints + (after - before), robot.lower, robot.upper)
        start, end = robot.tcp(joints), robot.tcp(wanted)
        return Pose(end.position - start.position, _turn_between(start, end).quaternion)


def _turn_between(start: Pose, end: Pose) -> Pose:
    """The turn about the base's axes that leads from one orientation to another."""
    return _rotation(end).compose(_rotation(start).inverse())


def _rotation(pose: Pose) -> Pose:
    return Pose((0.0, 0.0, 0.0), pose.quaternion)
