# SPDX-License-Identifier: Apache-2.0
"""The way from one command to the next at the rate of an arm, and the last clamp before it gets there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from serl_planning.inverse_kinematics import InverseKinematics
from serl_robots.model.joint_trajectory import JointTrajectoryPlan
from serl_robots.model.pose import Pose, between, quaternion_exp, quaternion_multiply, scaled

from serl_drivers.device import Joints


class Motion(Protocol):
    """Where the joints are to be over time."""

    @property
    def ends(self) -> float:
        """Time at which it is over; it stands from then on [s]."""

    def at(self, now: float, joints: Joints) -> Joints:
        """Joints (n,) [rad] wanted at `now` [s], from where they are commanded, (n,) [rad]."""


@dataclass(frozen=True)
class JointMotion:
    """Along a plan of the joints that begins at `begins` [s]."""

    plan: JointTrajectoryPlan
    begins: float

    @property
    def ends(self) -> float:
        """See `Motion`."""
        return self.begins + self.plan.duration

    def at(self, now: float, joints: Joints) -> Joints:
        """See `Motion`; float64 (n,) [rad]."""
        return self.plan.at(max(0.0, now - self.begins))


@dataclass(frozen=True)
class ToolMotion:
    """Straight for the tool, and turning about one axis, from `start` at `begins` to `goal` at `ends` [s]."""

    inverse: InverseKinematics
    start: Pose
    goal: Pose
    begins: float
    ends: float

    def at(self, now: float, joints: Joints) -> Joints:
        """See `Motion`; float64 (n,) [rad]."""
        return self.inverse.step(joints, self.pose(now))

    def pose(self, now: float) -> Pose:
        """The pose wanted at `now` [s]."""
        if now >= self.ends:
            return self.goal
        share = max(0.0, (now - self.begins) / (self.ends - self.begins))
        x, y, z = self.start.rotation_vector_to(self.goal).tolist()
        qx, qy, qz, qw = self.start.quaternion.tolist()
        turned = quaternion_multiply(quaternion_exp(scaled((x, y, z), share)), (qx, qy, qz, qw))
        ax, ay, az = self.start.position.tolist()
        bx, by, bz = self.goal.position.tolist()
        return Pose(between((ax, ay, az), (bx, by, bz), share), turned)


@dataclass(frozen=True)
class Clamp:
    """Position and speed limits of the joints and of the gripper: the last thing before a vendor's client.

    It is no second safety filter: what the arm controller commands passes it unchanged. It is there for commands of
    others, and for what interpolation and inverse kinematics make of right ones.
    """

    lower: Joints
    """(n,) [rad]."""
    upper: Joints
    """(n,) [rad]."""
    speed: Joints
    """(n,) [rad/s]."""
    narrowest: float
    """[m]."""
    widest: float
    """[m]."""
    gripper_speed: float
    """[m/s]."""

    def joints(self, wanted: Joints, last: Joints, period: float) -> Joints:
        """The joints (n,) [rad] nearest to `wanted` that may follow on `last`, both (n,) [rad], after `period` [s].

        A step that is too long is shortened as a whole, so that the direction stays; a joint that is beyond a limit
        already may come back, and not go on.
        """
        goal = np.clip(wanted, np.minimum(self.lower, last), np.maximum(self.upper, last))
        step = goal - last
        share = float(np.max(np.abs(step) / (self.speed * period), initial=1.0))
        return last + step / share

    def width(self, wanted: float, last: float, period: float) -> float:
        """The opening [m] nearest to `wanted` that may follow on `last` after `period` [s]."""
        goal = min(max(wanted, self.narrowest), self.widest)
        longest = self.gripper_speed * period
        return last + min(max(goal - last, -longest), longest)
