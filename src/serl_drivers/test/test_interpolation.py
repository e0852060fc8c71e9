# SPDX-License-Identifier: Apache-2.0
"""Targets on the wire against a computation of their own, with a time that the tests turn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_drivers.device import DriverError, Joints, Reading
from serl_drivers.driver import Driver, DriverSettings, State
from serl_drivers.mock import MockDevice, MockSettings
from serl_planning.inverse_kinematics import InverseKinematics
from serl_robots.model.joint_trajectory import JointTrajectoryPlan
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose
from serl_robots.model.robot import RobotModel, load_robot

ROBOT = load_robot("panda")
KINEMATICS = Kinematics(ROBOT)
PERIOD = 0.01
HOME = np.array(ROBOT.configuration("home"))


class Wire(MockDevice):
    """An arm at once where it was told to be, which keeps what it was told and may refuse it."""

    def __init__(self, robot: RobotModel) -> None:
        super().__init__(robot, MockSettings(latency=0, period=PERIOD))
        self.targets: list[Joints] = []
        self.holds, self.refuses, self.silent, self.stays_limp = 0, False, False, False

    def read(self) -> Reading:
        if self.silent:
            raise DriverError("the wire: no answer")
        return super().read()

    def write(self, positions: Joints, width: float) -> None:
        if self.refuses:
            raise DriverError("the wire: refused")
        self.targets.append(positions.copy())
        super().write(positions, width)

    def hold(self) -> None:
        if self.stays_limp:
            raise DriverError("the wire: joint 2 has no torque yet")
        self.holds += 1
        super().hold()


def driven(robot: RobotModel = ROBOT) -> tuple[Wire, Driver]:
    """An arm that holds, at time 0."""
    wire, kinematics = Wire(robot), Kinematics(robot)
    inverse = InverseKinematics(robot, Kinematics(robot), PERIOD)
    driver = Driver(wire, robot, kinematics, inverse, DriverSettings(period=PERIOD))
    driver.tick(0.0)
    assert driver.state is State.HOLDING
    return wire, driver


@settings(max_examples=25, deadline=None)
@given(
    goals=st.lists(st.lists(st.floats(-0.3, 0.3), min_size=7, max_size=7), min_size=1, max_size=4),
    turns=st.integers(5, 15),
)
def test_between_two_commands_the_joints_go_straight_and_never_faster_than_they_may(
    goals: list[list[float]], turns: int
) -> None:
    wire, driver = driven()
    span, now, last = 0.1, 0.0, HOME
    for offset in goals:
        goal = np.clip(HOME + offset, KINEMATICS.lower, KINEMATICS.upper)
        driver.follow_joints(JointTrajectoryPlan([0.0, span], [HOME, goal]), now)
        start, begun = last, now
        for _ in range(turns):
            now += PERIOD
            driver.tick(now)
            share = min(1.0, (now - begun) / span)
            wanted = start + share * (goal - start)
            step = wanted - last
            step /= max(1.0, float((np.abs(step) / (KINEMATICS.velocity * PERIOD)).max()))
            last = last + step
            assert wire.targets[-1] == pytest.approx(last, abs=1e-9)


@pytest.mark.parametrize("name", ["panda", "so101"])
def test_tool_poses_ten_times_a_second_are_followed_a_hundred_times_a_second(name: str) -> None:
    robot = load_robot(name)
    kinematics = Kinematics(robot)
    wire, driver = driven(robot)
    start, now = kinematics.tcp(np.array(robot.configuration("home"))), 0.0
    for step in range(1, 11):
        goal = Pose(start.position + 0.002 * step * np.array([0.5, 1.0, -0.5]), start.quaternion)
        driver.follow_pose(goal, now)
        for _ in range(10):
            now += PERIOD
            driver.tick(now)
    for _ in range(20):
        now += PERIOD
        driver.tick(now)
    assert driver.state is State.ACTIVE
    assert kinematics.tcp(wire.targets[-1]).distance(goal) < 1e-3
    steps = np.linalg.norm(np.diff([kinematics.tcp(joints).position for joints in wire.targets], axis=0), axis=1)
    assert len(steps) == 119 and steps.max() < 2.0 * 0.002 * np.sqrt(1.5) / 10  # even, not ten steps at once


@settings(max_examples=20, deadline=None)
@given(rate=st.integers(50, 200), offset=st.floats(0.0, 0.01))
def test_the_arm_holds_a_quarter_of_a_second_after_the_last_command(rate: int, offset: float) -> None:
    wire, driver = driven()
    driver.open_to(0.02, offset)
    now, holds = offset, wire.holds
    while driver.state is not State.HOLDING or wire.holds == holds:
        now += 1.0 / rate
        driver.tick(now)
        assert now < 1.0
    assert 0.25 < now - offset <= 0.25 + 1.0 / rate + 1e-9
    assert wire.holds == holds + 1


def test_an_arm_that_answers_and_takes_no_target_is_lost_as_well() -> None:
    wire, driver = driven()
    wire.refuses = True
    now = 0.0
    while driver.state is not State.FAULT:
        now += PERIOD
        driver.open_to(0.02, now)
        driver.tick(now)
        assert now < 0.3
    assert driver.reason == "the connection is lost: the wire: refused"
    assert driver.failures == pytest.approx(20, abs=2)
    assert wire.targets == [] and wire.holds == 2


def test_an_arm_that_is_pushed_away_is_followed_no_faster_than_its_joints_may_move() -> None:
    wire, driver = driven()
    driver.follow_joints(JointTrajectoryPlan([0.0, 5.0], [HOME, HOME]), 0.0)
    now = 0.0
    for step in range(100):
        now += PERIOD
        if step == 20:
            wire._positions = HOME + 1.2  # further than a command may be from where the arm is
        driver.tick(now)
        wire._positions = HOME + 1.2 if step >= 20 else wire._positions
    steps = np.abs(np.diff(wire.targets, axis=0))
    assert steps.max() > 0.0
    assert (steps <= KINEMATICS.velocity * PERIOD * (1 + 1e-9)).all()


def test_a_hold_that_is_asked_for_while_the_arm_does_not_answer_is_not_forgotten() -> None:
    wire, driver = driven()
    driver.ask("release")
    driver.tick(PERIOD)
    assert driver.state is State.LIMP
    wire.silent = True
    driver.ask("hold")
    driver.tick(2 * PERIOD)
    wire.silent = False
    driver.tick(3 * PERIOD)
    assert driver.state is State.HOLDING


@pytest.mark.parametrize("seconds", [1.9, 2.1])
def test_an_arm_that_takes_time_to_hold_is_told_again_for_two_seconds_and_says_what_is_missing(seconds: float) -> None:
    wire, driver = driven()
    driver.ask("release")
    driver.tick(PERIOD)
    wire.stays_limp, now = True, PERIOD
    driver.ask("hold")
    while now < PERIOD + seconds:
        now += PERIOD
        driver.tick(now)
        assert driver.state is State.LIMP and "joint 2 has no torque yet" in driver.reason
    wire.stays_limp = False
    driver.tick(now + PERIOD)
    assert driver.state is (State.HOLDING if seconds < 2.0 else State.LIMP)
