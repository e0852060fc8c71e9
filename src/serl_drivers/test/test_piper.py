# SPDX-License-Identifier: Apache-2.0
"""The Piper's device with the vendor's SDK, at an arm that speaks its frames; where ./serl setup piper brought them."""

import importlib.util
import time
from collections.abc import Callable, Iterator
from itertools import count

import numpy as np
import pytest
from patience import PATIENCE, eventually, fails
from serl_config.schema import ConfigError
from serl_drivers.device import DriverError
from serl_drivers.driver import Driver, State
from serl_drivers.piper import frames, units
from serl_drivers.piper.device import LOWER, OPENING, UPPER, PiperDevice, PiperSettings, make
from serl_drivers.piper.emulator import EmulatedPiper
from serl_planning.inverse_kinematics import InverseKinematics
from serl_robots.model.joint_trajectory import JointTrajectoryPlan
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.robot import load_robot

INSTALLED = importlib.util.find_spec("piper_sdk") is not None and importlib.util.find_spec("can") is not None
needs_sdk = pytest.mark.skipif(not INSTALLED, reason="the vendor's SDK is not installed: ./serl setup piper")

START = np.radians([10.0, 60.0, -60.0, 0.0, 20.0, 5.0])
NAMES = count()


@pytest.mark.skipif(INSTALLED, reason="the vendor's SDK is installed")
def test_without_the_sdk_the_command_that_brings_it_is_named():
    with pytest.raises(DriverError, match=r"\./serl setup piper"):
        PiperDevice(PiperSettings()).connect()


@pytest.fixture
def arm() -> Iterator[EmulatedPiper]:
    emulated = EmulatedPiper(f"test{next(NAMES)}", positions=START)
    yield emulated
    emulated.close()


def device_at(arm: EmulatedPiper) -> PiperDevice:
    return PiperDevice(PiperSettings(port=arm.channel, interface="virtual", feedback_timeout=0.5, connect_timeout=9.0))


def held(device: PiperDevice) -> PiperDevice:
    """With its motors on: asked for until they are."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            device.hold()
        except DriverError as error:
            assert "try again" in str(error) and time.monotonic() < deadline
        else:
            return device


@pytest.fixture
def device(arm) -> Iterator[PiperDevice]:
    arm.enabled = True  # it hangs nowhere: it would fall before anybody looks
    arm.start()
    made = device_at(arm)
    made.connect()
    yield made
    made.close()


@needs_sdk
def test_what_the_arm_says_is_read_in_si_units(arm, device):
    reading = device.read()
    assert reading.positions == pytest.approx(START, abs=units.ANGLE)
    assert reading.velocities == pytest.approx(np.zeros(6), abs=units.SPEED)
    assert reading.efforts == pytest.approx(0.2 * np.array(units.TORQUE_OF_CURRENT))
    assert reading.width == 0.0
    assert reading.values["temperature of joint 4 [degC]"] == 33.0
    assert reading.values["voltage of joint 1 [V]"] == pytest.approx(24.0)
    assert reading.values["current of joint 6 [A]"] == pytest.approx(0.2)
    assert reading.faults == ()


@needs_sdk
def test_connecting_switches_nothing_and_holding_moves_nothing(arm):
    arm.start()  # without torque it lies where it rests
    device = device_at(arm)
    device.connect()
    eventually(lambda: arm.positions[1] == 0.0 and arm.speed == 0.0)
    assert not arm.enabled
    before = arm.positions.copy()
    held(device)
    assert arm.enabled
    assert arm.positions == pytest.approx(before, abs=units.ANGLE)
    device.close()


@needs_sdk
def test_joints_and_gripper_go_where_they_are_told(arm, device):
    held(device)
    goal = np.radians([30.0, 80.0, -80.0, 10.0, 30.0, -20.0])

    def arrived() -> bool:
        device.write(goal, 0.05)
        reading = device.read()
        return bool(np.abs(reading.positions - goal).max() < 0.01) and abs(reading.width - 0.05) < 1e-3

    eventually(arrived)


@needs_sdk
def test_fingers_that_meet_something_hold_it_with_their_torque_and_are_no_fault(arm, device):
    held(device)
    positions = device.read().positions
    eventually(lambda: (device.write(positions, 0.05), device.read().width > 0.049)[1])
    arm.obstacle = 0.03

    def stalled() -> bool:
        device.write(positions, 0.0)
        return bool(abs(device.read().width - 0.03) < 1e-4)

    eventually(stalled)
    for _ in range(50):
        device.write(positions, 0.0)
        reading = device.read()
        assert reading.faults == () and reading.width == pytest.approx(0.03, abs=1e-4)
    sent = [
        frames.unpack_gripper_target(data) for identifier, data in arm.commands if identifier == frames.GRIPPER_TARGET
    ]
    assert {effort for _, effort, _ in sent} == {units.torque_count(PiperSettings().gripper_torque)}
    arm.obstacle = 0.0  # what was held is lost
    eventually(lambda: (device.write(positions, 0.0), device.read().width < 0.001)[1])


@needs_sdk
def test_no_target_beyond_the_vendors_limits_reaches_the_bus(arm, device):
    held(device)
    device.write(np.full(6, 9.0), 1.0)
    device.write(np.full(6, -9.0), -1.0)

    def sent(identifier: int) -> list[bytes]:
        return [data for each, data in arm.commands if each == identifier]

    eventually(lambda: len(sent(frames.GRIPPER_TARGET)) >= 3)
    for index, identifier in enumerate(frames.JOINT_TARGETS):
        part = slice(2 * index, 2 * index + 2)
        high, low = (units.angles(frames.unpack_pair(data)) for data in sent(identifier)[-2:])
        assert high == pytest.approx(UPPER[part], abs=units.ANGLE)
        assert low == pytest.approx(LOWER[part], abs=units.ANGLE)
    openings = [frames.unpack_gripper_target(data)[0] for data in sent(frames.GRIPPER_TARGET)[-2:]]
    assert openings == [units.length_count(OPENING), 0]


@needs_sdk
def test_a_target_that_is_no_number_is_refused(arm, device):
    held(device)
    known = len(arm.commands)
    with pytest.raises(DriverError, match="finite"):
        device.write(np.array([np.nan, *START[1:]]), 0.0)
    assert not [identifier for identifier, _ in arm.commands[known:] if identifier in frames.JOINT_TARGETS]


@needs_sdk
def test_without_torque_it_falls_and_says_so(arm, device):
    held(device)
    device.release()
    assert not arm.enabled
    eventually(lambda: arm.positions[1] == 0.0)


@needs_sdk
def test_an_arm_that_dies_in_motion_is_lost_within_the_timeout(arm, device):
    held(device)
    device.write(UPPER, 0.0)
    eventually(lambda: arm.speed > 0.1)
    arm.silence()
    assert "power" in str(fails(device, "nothing was heard for"))


@needs_sdk
def test_a_kind_of_frame_that_is_missing_is_named(arm, device):
    arm.silence(frames.JOINT_FEEDBACK[2])
    fails(device, "frames 0x2a7 are missing, others come")


@needs_sdk
def test_a_bus_that_is_off_is_named_and_the_arm_stays_where_it_was_sent(arm, device):
    held(device)
    goal = START + np.array([0.3, 0.0, 0.0, 0.0, 0.0, 0.0])
    device.write(goal, 0.0)
    eventually(lambda: arm.speed > 0.1)
    arm.bus_off()
    assert "restart-ms" in str(fails(device, "bus-off"))
    eventually(lambda: bool(np.abs(arm.positions - goal).max() < 1e-3))
    assert arm.enabled


@needs_sdk
def test_garbage_on_the_bus_changes_nothing(arm, device):
    for data in (b"", b"\x7f", b"\xff" * 7):
        arm.say(frames.JOINT_FEEDBACK[0], data)
    for identifier in (0x000, 0x7FF, 0x2A9, 0x123):
        arm.say(identifier, b"\xff" * 8)
    for _ in range(50):
        assert device.read().positions == pytest.approx(START, abs=units.ANGLE)


@needs_sdk
@pytest.mark.parametrize(
    ("bit", "said"), [(0, "its supply is low"), (1, "the motor is too hot"), (4, "a collision"), (7, "stalled")]
)
def test_a_fault_of_a_motor_is_told_with_its_joint(arm, device, bit, said):
    arm.flags[2] = 1 << bit
    eventually(lambda: device.read().faults == (f"joint 3: {said}",))


@needs_sdk
def test_a_faulty_arm_is_not_switched_on(arm):
    arm.flags[2] = 1 << 4
    arm.start()
    device = device_at(arm)
    device.connect()
    with pytest.raises(DriverError, match="joint 3: a collision; see to that"):
        device.hold()
    assert not arm.enabled
    device.close()


@needs_sdk
def test_a_pressed_emergency_stop_is_told_and_ends_the_motion(arm, device):
    held(device)
    device.write(UPPER, 0.0)
    eventually(lambda: arm.speed > 0.1)
    arm.emergency_stop()
    eventually(lambda: device.read().faults == ("emergency stop",))
    eventually(lambda: arm.speed == 0.0)


@needs_sdk
def test_an_arm_that_is_taught_by_hand_is_refused(arm, device):
    arm.take_over()
    eventually(lambda: device.read().faults == ("it follows teaching, not this bus; leave that by its button",))
    with pytest.raises(DriverError, match="it follows teaching, not this bus"):
        device.hold()


@needs_sdk
def test_nobody_on_the_bus_is_said():
    settings = PiperSettings(port=f"empty{next(NAMES)}", interface="virtual", connect_timeout=0.2)
    with pytest.raises(DriverError, match="nothing was heard; look at the arm's power"):
        PiperDevice(settings).connect()


@needs_sdk
def test_a_bus_that_there_is_not_is_said_with_the_command_that_makes_it():
    with pytest.raises(DriverError, match="ip link set can77 up type can bitrate 1000000"):
        PiperDevice(PiperSettings(port="can77")).connect()


@needs_sdk
def test_it_is_connected_again_after_it_was_lost(arm, device):
    arm.silence()
    fails(device, "nothing was heard for")
    arm.speak()
    device.connect()
    held(device)
    assert device.read().positions == pytest.approx(START, abs=0.01)


@needs_sdk
def test_a_driver_moves_an_emulated_piper_along_a_plan_and_is_connected_again_after_silence_and_a_bus_that_was_off():
    robot = load_robot("piper")
    device = make(robot, {"emulated": True, "port": f"driven{next(NAMES)}", "feedback_timeout": 0.5}, "a test")
    kinematics = Kinematics(robot)
    driver = Driver(device, robot, kinematics, InverseKinematics(robot, Kinematics(robot), 0.01))
    goal = np.array(robot.configuration("home"))

    def turned(done: Callable[[], bool]) -> bool:
        driver.tick(time.monotonic())
        return done()

    eventually(lambda: turned(lambda: driver.state is State.LIMP))
    assert device.emulated is not None and not device.emulated.enabled

    def held() -> bool:
        if driver.state is State.LIMP:
            driver.ask("hold")  # again, where the motors were not on in time
        return driver.state is State.HOLDING

    eventually(lambda: turned(held))
    plan = JointTrajectoryPlan([0.0, 1.0], [np.zeros(6), goal])

    def arrived() -> bool:
        if driver.state is State.HOLDING:  # again, where a busy machine has not got there in time
            driver.follow_joints(plan, time.monotonic())
        return bool(np.abs(device.read().positions - goal).max() < 0.02)

    eventually(lambda: turned(arrived))
    driver.follow_joints(JointTrajectoryPlan([0.0, 5.0], [goal, 0.5 * goal]), time.monotonic())
    eventually(lambda: turned(lambda: driver.state is State.ACTIVE))
    device.emulated.silence()
    eventually(lambda: turned(lambda: driver.state is State.FAULT))
    assert "nothing was heard" in driver.reason
    eventually(lambda: device.emulated.speed < 1e-3)

    device.emulated.speak()
    turned(lambda: True)
    assert driver.state is State.FAULT
    driver.ask("connect")
    eventually(lambda: turned(lambda: driver.state is State.HOLDING))  # its motors have kept their torque
    driver.follow_joints(JointTrajectoryPlan([0.0, 5.0], [goal, 0.5 * goal]), time.monotonic())
    eventually(lambda: turned(lambda: device.emulated.speed > 0.05))
    device.emulated.bus_off()
    eventually(lambda: turned(lambda: driver.state is State.FAULT))
    assert "bus-off" in driver.reason and "restart-ms" in driver.reason
    device.emulated.bus_on()
    driver.ask("connect")
    eventually(lambda: turned(lambda: driver.state is State.HOLDING))
    eventually(lambda: turned(arrived))
    driver.close(limp=False)


def test_another_robot_is_refused():
    with pytest.raises(ConfigError, match="expected one of 6 joints, found 'so101' of 5"):
        make(load_robot("so101"), {}, "a test")
