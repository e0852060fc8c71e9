# SPDX-License-Identifier: Apache-2.0
"""The device of SERL's robot server, at a server that listens on this machine."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from patience import eventually
from serl_config.schema import ConfigError
from serl_drivers.device import DriverError
from serl_drivers.driver import Driver, State
from serl_drivers.serl_server.device import ServerDevice, make
from serl_drivers.serl_server.emulator import EmulatedRobotServer
from serl_drivers.serl_server.gripper import GripperDialect
from serl_planning.inverse_kinematics import InverseKinematics
from serl_robots.model.joint_trajectory import JointTrajectoryPlan
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose
from serl_robots.model.robot import load_robot

PANDA = load_robot("panda")
HOME = np.array(PANDA.configuration("home"))
ROBOTIQ = GripperDialect("hil_serl", "robotiq", 0.085)
FLANGE = Pose((0.0, 0.0, 0.05), (0.0, 0.0, np.sin(np.pi / 8), np.cos(np.pi / 8)))
"""To an end effector that is set in Desk, 5 cm beyond the tool centre point and turned by 45 degrees."""


@pytest.fixture
def server() -> Iterator[EmulatedRobotServer]:
    started = EmulatedRobotServer(PANDA, ROBOTIQ, ee_offset=FLANGE).start()
    yield started
    started.close()


def device_at(server: EmulatedRobotServer, **settings: Any) -> ServerDevice:
    return make(PANDA, {"port": f"127.0.0.1:{server.port}", "timeout": 2.0} | settings, "a test")


@pytest.fixture
def device(server: EmulatedRobotServer) -> Iterator[ServerDevice]:
    made = device_at(server)
    made.connect()
    yield made
    made.close()


def test_connecting_moves_nothing_and_says_that_nobody_is_asked_who_they_are(server, caplog):
    device = device_at(server)
    device.connect()
    assert set(server.posted) == {"/getstate"}
    assert "no authentication" in caplog.text
    reading = device.read()
    assert reading.positions == pytest.approx(HOME, abs=1e-4)
    assert reading.width == pytest.approx(0.085)
    assert reading.faults == ()
    device.close()


def test_joints_are_commanded_as_the_pose_of_the_end_effector_that_the_server_means(server, device):
    goal = HOME + np.array([0.2, 0.1, 0.0, 0.05, 0.0, -0.1, 0.1])
    kinematics = Kinematics(PANDA)
    device.hold()

    def arrived() -> bool:
        device.write(goal, 0.02)
        reading = device.read()
        there, wanted = kinematics.tcp(reading.positions), kinematics.tcp(goal)
        return there.distance(wanted) < 1e-3 and there.angle(wanted) < 0.01 and abs(reading.width - 0.02) < 1e-3

    eventually(arrived)
    assert server.posted.count("/move_gripper") == 1
    assert server.posted.count("/clearerr") == 1


def test_holding_stands_where_the_arm_is(server, device):
    device.hold()
    device.write(HOME + 0.3, 0.05)
    eventually(lambda: bool(np.abs(np.array(server.positions) - HOME).max() > 0.05))
    tool = Kinematics(PANDA).tcp
    before = tool(server.positions)
    device.hold()
    after = tool(server.positions)
    eventually(lambda: bool(np.abs(device.read().velocities).max() < 1e-3))
    stands = tool(server.positions)
    assert before.distance(stands) < before.distance(after) + 0.01
    assert tool(HOME + 0.3).distance(stands) > 0.05


def test_a_robot_that_is_off_behind_a_server_that_answers_is_found_out(server, device):
    server.switched_off = True
    eventually(lambda: any("to the last digit" in fault for fault in device.read().faults))
    with pytest.raises(DriverError, match=r"the same state for 0\.3 s, to the last digit; is the robot on"):
        device.connect()


def test_a_reflex_that_the_server_does_not_tell_is_seen_by_the_tool_that_does_not_follow(server, device):
    device.hold()
    server.reflex = True
    device.write(HOME + np.array([0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]), 0.05)
    eventually(lambda: any("a reflex, the stop button" in fault for fault in device.read().faults))


def test_a_server_that_dies_in_motion_is_lost_and_its_arm_goes_to_the_last_pose(server, device):
    device.hold()
    device.write(HOME + 0.1, 0.05)
    server.close()
    device.close()
    with pytest.raises(DriverError, match=r"nobody listens there; is franka_server\.py running"):
        device.read()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"q": [0.0] * 6}, "q: expected 7 numbers, found 6 values"),
        ({"q": "none"}, "q: expected 7 numbers, found str 'none'"),
        ({"dq": [0.0] * 6 + [True]}, "dq: expected a number, found bool True"),
        ({"force": [1e300, 0.0, 0.0]}, "force: expected a number"),
        ({"pose": [0.0] * 7}, "pose: expected finite numbers and a unit quaternion"),
        ({"gripper_pos": None}, "gripper_pos: expected a number, found nothing"),
    ],
)
def test_garbage_in_a_state_is_refused_and_named(server, device, change, said):
    state = device._transport.post_for_json("/getstate")
    server.answers["/getstate"] = (200, json.dumps(state | change).encode())
    with pytest.raises(DriverError, match=said) as raised:
        device.read()
    assert f"127.0.0.1:{server.port}" in str(raised.value) and "\n" not in str(raised.value)


def test_a_state_without_the_gripper_that_is_there_is_no_closed_gripper(server, device):
    state = device._transport.post_for_json("/getstate")
    del state["gripper_pos"]
    server.answers["/getstate"] = (200, json.dumps(state).encode())
    with pytest.raises(DriverError, match="gripper_pos: expected that of a robotiq gripper, found none"):
        device.read()


def test_an_error_of_the_server_is_told_with_its_end_point(server, device):
    server.answers["/pose"] = (500, b"Traceback ...")
    with pytest.raises(DriverError, match="/pose: the server answers 500"):
        device.hold()


def test_another_robot_is_refused(server):
    state = {"pose": [3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]}
    device = device_at(server)
    device.connect()
    whole = device._transport.post_for_json("/getstate")
    answers = iter([0.1, 0.2, 0.3])

    class Changing(dict):
        def __getitem__(self, path):
            whole["q"][0] = next(answers)
            return 200, json.dumps(whole | state).encode()

        def __contains__(self, path):
            return path == "/getstate"

    server.answers = Changing()
    with pytest.raises(DriverError, match="is that another robot"):
        device.connect()


def test_what_is_no_number_is_refused(server, device):
    device.hold()
    poses = server.posted.count("/pose")
    with pytest.raises(DriverError, match="finite"):
        device.write(np.full(7, np.nan), 0.05)
    with pytest.raises(DriverError, match="finite"):
        device.write(HOME, float("nan"))
    assert server.posted.count("/pose") == poses


def test_torque_off_is_refused_with_what_to_do(device):
    with pytest.raises(DriverError, match="stop button"):
        device.release()


def test_without_a_gripper_the_state_is_asked_for_in_parts(server):
    device = device_at(server, gripper="none")
    device.connect()
    device.hold()
    device.write(HOME, 0.05)
    assert device.read().positions == pytest.approx(HOME, abs=1e-3)
    assert "/getstate" not in server.posted and "/move_gripper" not in server.posted
    device.close()


@pytest.mark.parametrize("port", ["robotpc:", ":5000", "robotpc:port", "robotpc:99999"])
def test_an_address_that_is_none_is_refused(port):
    with pytest.raises(ConfigError, match="expected a host"):
        make(PANDA, {"port": port}, "a test")


def test_a_driver_moves_an_arm_behind_a_server_and_says_when_it_is_gone(server):
    driver = Driver(device_at(server), PANDA, Kinematics(PANDA), InverseKinematics(PANDA, Kinematics(PANDA), 0.01))
    goal = HOME + np.array([0.3, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    kinematics = Kinematics(PANDA)

    def turned(done: Callable[[], bool]) -> bool:
        driver.tick(time.monotonic())
        return done()

    eventually(lambda: turned(lambda: driver.state is State.HOLDING))
    plan = JointTrajectoryPlan([0.0, 1.0], [HOME, goal])

    def arrived() -> bool:
        if driver.state is State.HOLDING:  # again, where a busy machine has not got there in time
            driver.follow_joints(plan, time.monotonic())
        return kinematics.tcp(server.positions).distance(kinematics.tcp(goal)) < 5e-3

    eventually(lambda: turned(arrived))
    driver.follow_joints(JointTrajectoryPlan([0.0, 5.0], [goal, HOME]), time.monotonic())
    eventually(lambda: turned(lambda: driver.state is State.ACTIVE))
    server.switched_off = True
    eventually(lambda: turned(lambda: driver.state is State.FAULT))
    assert "to the last digit" in driver.reason
    driver.close(limp=False)
