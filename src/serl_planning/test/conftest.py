# SPDX-License-Identifier: Apache-2.0
import pytest
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.robot import RobotModel, load_robot

ARMS = ("fr3", "so101", "piper", "trossen", "panda")


@pytest.fixture(params=ARMS, scope="session")
def arm(request: pytest.FixtureRequest) -> tuple[RobotModel, Kinematics]:
    robot = load_robot(request.param)
    return robot, Kinematics(robot)
