# SPDX-License-Identifier: Apache-2.0
"""An arm without physics that its controllers command: limits of joints, a latency, and something to grip."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from serl_planning.inverse_kinematics import InverseKinematics
from serl_robots.model.joint_trajectory import JointTrajectoryPlan
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose
from serl_robots.model.robot import RobotModel

from serl_drivers.device import Joints, Reading
from serl_drivers.driver import Driver, DriverSettings
from serl_drivers.mock import MockDevice, MockSettings

_NEVER = 1e9  # [s]: a controller of positions keeps its last command


class MockArm:
    """Moves as `Driver` moves any arm, so its joints are as fast as they may be and no faster.

    What `serl_robots.controller_actions_node.CommandedArm` has it has too.
    """

    def __init__(
        self, robot: RobotModel, period: float, control_period: float, latency: int, object_width: float
    ) -> None:
        """Wake at home.

        Args:
            robot: that it pretends to be.
            period: between two calls of `tick` [s].
            control_period: in which a tool pose is reached [s].
            latency: periods until a target is where the arm is.
            object_width: of what is between the fingers [m]; 0: nothing.
        """
        self.robot, self._object = robot, object_width
        kinematics = Kinematics(robot)
        self.arm_limits: NDArray[np.float64] = np.column_stack([kinematics.lower, kinematics.upper])
        self._period = period
        settings = DriverSettings(
            period=period, control_period=control_period, silence=_NEVER, longest=np.inf, most_lag=np.inf
        )
        device = MockDevice(robot, MockSettings(latency=latency, period=period))
        self._driver = Driver(device, robot, kinematics, InverseKinematics(robot, kinematics, period), settings)
        self._plan: JointTrajectoryPlan | None = None
        self._plan_ends = 0.0
        self._observers: list[Callable[[bool], bool]] = []
        self._now = 0.0
        self.width = robot.gripper.max_width
        self.target: Pose | None = None
        self.broken = ""
        self.finger_speed = 0.0
        reading = self._driver.tick(0.0)  # connects
        assert reading is not None
        self.reading: Reading = reading

    @property
    def world(self) -> MockArm:
        """Itself."""
        return self

    @property
    def stamp_ns(self) -> int:
        """Time of the last tick."""
        return int(self._now * 1e9)

    @property
    def joint_positions(self) -> NDArray[np.float64]:
        """See `serl_robots.controller_actions_node.Measured`."""
        gripper = self.robot.gripper
        return np.array([*self.reading.positions, *[gripper.position(self.reading.width)] * len(gripper.joints)])

    @property
    def gripper_width(self) -> float:
        """[m]."""
        return self.reading.width

    def tick(self, now: float) -> Reading:
        """Move on to `now` [s]; where it is then."""
        before = self.reading.width
        self.reading = self._driver.tick(now) or self.reading
        self.finger_speed = abs(self.reading.width - before) / self._period
        self._now = now
        self._observers = [observer for observer in self._observers if not observer(False)]
        return self.reading

    def command_joints(self, positions: Joints) -> None:
        """Go to positions (n,) [rad] as fast as the joints may, and not beyond their limits."""
        self._lead(None, None)
        goal = np.clip(positions, self.arm_limits[:, 0], self.arm_limits[:, 1])
        plan = JointTrajectoryPlan([0.0, self._period], [self.reading.positions, goal])
        self._driver.follow_joints(plan, self._now)

    def command_pose(self, pose: Pose) -> None:
        """Bring the tool to a pose in the base frame."""
        self._lead(None, pose)
        self._driver.follow_pose(pose, self._now)

    def command_trajectory(self, plan: JointTrajectoryPlan) -> None:
        """Lead the joints along `plan` from now on."""
        self._lead(plan, None)
        self._plan_ends = self._now + plan.duration
        self._driver.follow_joints(plan, self._now)

    def is_following(self, plan: JointTrajectoryPlan) -> bool:
        """Whether `plan` leads, and is not over."""
        return self._plan is plan and self._now < self._plan_ends

    def grip(self, width: float) -> None:
        """Move the fingers to an opening [m], or to what is between them."""
        self.width = width
        self._driver.open_to(max(width, self._object), self._now)

    def observe(self, observer: Callable[[bool], Any]) -> None:
        """Call `observer(False)` after each tick until it returns True."""
        self._observers.append(observer)

    def _lead(self, plan: JointTrajectoryPlan | None, pose: Pose | None) -> None:
        self._plan, self.target = plan, pose
