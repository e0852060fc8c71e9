# SPDX-License-Identifier: Apache-2.0
"""No link of an arm is sent into a keep-out box, whoever commands it, by joints or by its tool."""

import numpy as np
import pytest
from serl_drivers.driver import Driver, DriverSettings, State
from serl_drivers.mock import MockDevice, MockSettings
from serl_planning.inverse_kinematics import InverseKinematics
from serl_robots.model.joint_trajectory import JointTrajectoryPlan
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.link_clearance import LinkClearance
from serl_robots.model.pose import Pose
from serl_robots.model.robot import load_robot

PERIOD, DISTANCE = 0.01, 0.005
ROBOT = load_robot("panda")
HOME = np.array(ROBOT.configuration("home"))
WALL = (-0.2, 0.16, 0.0, 0.9, 0.2, 1.2)  # beside the arm


@pytest.mark.parametrize("by", ["joints", "tool"])
def test_a_link_stops_before_a_box_and_the_arm_goes_on_elsewhere(by: str) -> None:
    kinematics, said = Kinematics(ROBOT), list[str]()
    links = LinkClearance(ROBOT, WALL, DISTANCE)
    inverse = InverseKinematics(ROBOT, Kinematics(ROBOT), PERIOD)
    device = MockDevice(ROBOT, MockSettings(latency=0, period=PERIOD))
    driver = Driver(device, ROBOT, kinematics, inverse, DriverSettings(period=PERIOD), said.append, links)
    tool, now = Kinematics(ROBOT).tcp(HOME), 0.0

    def lead(side: float, turns: int) -> None:
        nonlocal now
        for turn in range(turns):
            now += PERIOD
            if turn % 10 == 0 and by == "joints":
                goal = HOME + np.array([side, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
                driver.follow_joints(JointTrajectoryPlan([0.0, 1.0], [HOME, goal]), now)
            elif turn % 10 == 0:
                share = min(1.0, turn / turns * 1.5)
                driver.follow_pose(Pose(tool.position + share * np.array([0.0, side, 0.0]), tool.quaternion), now)
            reading = driver.tick(now)
            assert reading is not None
            assert links.gap(reading.positions) > DISTANCE - 1e-5

    driver.tick(0.0)
    lead(0.5, 300)
    assert driver.kept_out > 0 and driver.state is State.ACTIVE
    assert any("stands, as " in text and "keep-out box" in text for text in said)
    lead(-0.1, 300)
    assert driver.reason == "follows commands"
    reading = driver.tick(now + PERIOD)
    assert reading is not None
    assert Kinematics(ROBOT).tcp(reading.positions).position[1] < -0.02
