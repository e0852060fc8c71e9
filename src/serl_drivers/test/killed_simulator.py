# SPDX-License-Identifier: Apache-2.0
"""A driver at a vendor's simulator, which is killed in motion and started again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from patience import eventually
from serl_drivers.device import ArmDevice
from serl_drivers.driver import Driver, State
from serl_planning.inverse_kinematics import InverseKinematics
from serl_robots.model.joint_trajectory import JointTrajectoryPlan
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.robot import RobotModel


class Simulator(Protocol):
    """What stands for the arm."""

    def kill(self) -> None:
        """End it at once."""


def follow_over_a_kill(
    device: ArmDevice,
    robot: RobotModel,
    simulator: Simulator,
    another: Callable[[], Simulator],
    *,
    start: NDArray[np.float64],
    goal: NDArray[np.float64],
    away: NDArray[np.float64],
    within: float,
) -> str:
    """Lead the arm to `goal`, kill what stands for it on its way on, lead the next one there; why there was a fault.

    Args:
        device: not connected yet.
        robot: that it is.
        simulator: which runs, and is killed.
        another: starts the next one.
        start: joint positions (n,) [rad] of an arm that has just been started.
        goal: where it is led.
        away: where it is led on to.
        within: distance of each joint from `goal` at which it is there [rad].
    """
    kinematics = Kinematics(robot)
    driver = Driver(device, robot, kinematics, InverseKinematics(robot, kinematics, 0.01))
    plan = JointTrajectoryPlan([0.0, 1.0], [start, goal])

    def turned(done: Callable[[], bool]) -> bool:
        driver.tick(time.monotonic())
        return done()

    def arrived() -> bool:
        if driver.state is State.HOLDING:  # again, where a slow simulator has not got there in time
            driver.follow_joints(plan, time.monotonic())
        return bool(np.abs(device.read().positions - goal).max() < within)

    def connected_again() -> bool:
        if driver.state is State.FAULT:
            driver.ask("connect")  # later it tries by itself, until the new one is there
        return driver.state is State.HOLDING

    eventually(lambda: turned(lambda: driver.state is State.HOLDING))
    eventually(lambda: turned(arrived))
    driver.follow_joints(JointTrajectoryPlan([0.0, 5.0], [goal, away]), time.monotonic())
    eventually(lambda: turned(lambda: driver.state is State.ACTIVE))
    simulator.kill()
    eventually(lambda: turned(lambda: driver.state is State.FAULT))
    why = driver.reason
    again = another()
    try:
        eventually(lambda: turned(connected_again))
        eventually(lambda: turned(arrived))
        driver.close(limp=False)
    finally:
        again.kill()
    return why
