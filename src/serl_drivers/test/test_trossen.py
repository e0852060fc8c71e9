# SPDX-License-Identifier: Apache-2.0
"""The WidowX AI's device with the vendor's driver, at Trossen's simulator; where ./serl setup trossen brought them."""

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from killed_simulator import follow_over_a_kill
from patience import eventually, fails
from serl_config.schema import ConfigError
from serl_drivers.device import DriverError
from serl_drivers.trossen.device import TrossenDevice, finger_of, make, width_of, within_limits
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.robot import load_robot

INSTALLED = all(importlib.util.find_spec(name) is not None for name in ("trossen_arm", "trossen_arm_sim"))
needs_sdk = pytest.mark.skipif(not INSTALLED, reason="the vendor's driver is not installed: ./serl setup trossen")

ROBOT = load_robot("trossen")
READY = np.array(ROBOT.configuration("ready"))
# Its ports are fixed: an address of this process alone keeps two test runs on a machine apart.
ADDRESS = f"127.{os.getpid() >> 16 & 0x7F | 0x40}.{os.getpid() >> 8 & 0xFF}.{os.getpid() & 0xFF or 1}"
WEBSOCKETS = 20000 + os.getpid() % 20000


class Simulator:
    """The vendor's protocol with MuJoCo behind it, in a process of its own."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "trossen_arm_sim", "--host", ADDRESS, "--ws-port", str(WEBSOCKETS)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    started = Simulator()
    yield started
    started.kill()


@pytest.fixture
def device(simulator: Simulator) -> Iterator[TrossenDevice]:
    made = make(ROBOT, {"port": ADDRESS, "feedback_timeout": 0.5, "connect_timeout": 2.0}, "a test")
    eventually(lambda: connects(made))
    yield made
    made.close()


def connects(device: TrossenDevice) -> bool:
    try:
        device.connect()
    except DriverError as error:
        assert "Failed to connect" in str(error)
        return False
    return True


def reads(device: TrossenDevice) -> bool:
    try:
        device.read()
    except DriverError as error:
        assert "no new sample for" in str(error)
        return False
    return True


@pytest.mark.skipif(INSTALLED, reason="the vendor's driver is installed")
def test_without_the_driver_the_command_that_brings_it_is_named():
    with pytest.raises(DriverError, match=r"\./serl setup trossen"):
        make(ROBOT, {}, "a test").connect()


def test_another_robot_is_refused():
    with pytest.raises(ConfigError, match="expected one of 6 joints, found 'panda' of 7"):
        make(load_robot("panda"), {}, "a test")


@given(st.floats(0.0, 0.088))
def test_an_opening_is_the_way_of_both_fingers(width):
    assert width_of(finger_of(width)) == pytest.approx(width, abs=1e-12)
    assert ROBOT.gripper.width([finger_of(width)] * 2) == pytest.approx(width)


@given(st.lists(st.floats(-20.0, 20.0), min_size=7, max_size=7))
def test_no_target_is_beyond_the_limits_of_the_controller_or_at_them(wanted):
    lower, upper = np.array([-3.0, 0.0, 0.0, -1.5, -1.5, -3.0, 0.0]), np.array([3.0, 3.1, 2.3, 1.5, 1.5, 3.0, 0.044])
    goal = within_limits(np.array(wanted), lower, upper)
    assert (goal[:6] > lower[:6]).all() and (goal[:6] < upper[:6]).all() and 0.0 <= goal[6] <= 0.044
    inside = (np.array(wanted) > lower + 0.01) & (np.array(wanted) < upper - 0.01)
    assert goal[inside] == pytest.approx(np.array(wanted)[inside], abs=0.0)


@needs_sdk
def test_it_goes_where_it_is_told_and_no_further_than_its_limits(device):
    device.hold()

    def there(wanted: np.ndarray, width: float) -> bool:
        device.write(wanted, width)
        reading = device.read()
        return bool(np.abs(reading.positions - wanted).max() < 0.03) and abs(reading.width - width) < 2e-3

    eventually(lambda: there(READY, 0.04))
    assert device.read().values["temperature of joint 0 [degC]"] > 0.0
    kinematics = Kinematics(ROBOT)
    beyond = np.array([9.0, *READY[1:]])

    def at_the_end() -> bool:
        device.write(beyond, 0.04)
        reading = device.read()
        return abs(reading.positions[0] - kinematics.upper[0]) < 0.01 and abs(reading.velocities[0]) < 0.01

    eventually(at_the_end)
    with pytest.raises(DriverError, match="a target was refused"):
        device.write(READY * np.nan, 0.04)
    with pytest.raises(DriverError, match="a target was refused"):
        device.write(READY, float("inf"))
    device.release()
    device.hold()


@needs_sdk
def test_a_simulator_that_is_killed_in_motion_is_lost_and_one_that_is_started_again_is_found(device, simulator):
    device.hold()
    device.write(READY, 0.04)
    simulator.kill()
    assert ADDRESS in str(fails(device, "Connection refused"))
    with pytest.raises(DriverError, match="Failed to connect"):
        device.connect()
    again = Simulator()
    try:
        eventually(lambda: connects(device))
        device.hold()
        assert device.read().positions.shape == (6,)
    finally:
        again.kill()


@needs_sdk
def test_a_controller_that_falls_silent_is_noticed_by_its_old_sample(device, simulator):
    device.hold()
    simulator.process.send_signal(signal.SIGSTOP)
    assert ADDRESS in str(fails(device, "no new sample for"))
    simulator.process.send_signal(signal.SIGCONT)
    eventually(lambda: reads(device))


@needs_sdk
def test_a_second_program_at_the_same_arm_is_told_so(device):
    device.read()
    second = make(ROBOT, {"port": ADDRESS, "connect_timeout": 0.5}, "a test")
    with pytest.raises(DriverError, match="does another program drive it"):
        second.connect()


@needs_sdk
def test_a_driver_moves_a_simulated_arm_along_a_plan_and_says_when_it_is_gone(simulator):
    device = make(ROBOT, {"port": ADDRESS, "feedback_timeout": 0.5, "connect_timeout": 1.0}, "a test")
    why = follow_over_a_kill(
        device, ROBOT, simulator, Simulator, start=np.zeros(6), goal=READY, away=0.5 * READY, within=0.03
    )
    assert "the connection is lost" in why
