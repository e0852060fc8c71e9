# SPDX-License-Identifier: Apache-2.0
"""The Robotiq gripper at a pseudo-terminal, in real time; packets against those that its manual prints."""

import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from patience import eventually
from serl_config.schema import ConfigError
from serl_drivers.driver import Driver, DriverSettings, State
from serl_drivers.gripper import ArmWithGripper, make_gripper
from serl_drivers.mock import make as make_mock
from serl_drivers.robotiq import registers
from serl_drivers.robotiq.emulator import CLOSED, EmulatedRobotiq
from serl_drivers.robotiq.gripper import RobotiqGripper
from serl_drivers.robotiq.modbus import (
    FAILED,
    READ_INPUT,
    AnswerReader,
    ModbusClient,
    ModbusError,
    crc,
    packet,
    read_request,
    write_request,
)
from serl_drivers.robotiq.registers import Scale
from serl_feetech.emulated.pseudo_terminal import PseudoTerminal
from serl_feetech.port import SerialPort
from serl_planning.inverse_kinematics import InverseKinematics
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.robot import load_robot

SCALE = Scale(3, 230, 0.085)
STOPPED = bytes.fromhex("09 04 06 B9 00 00 FF BD 00 5C 9A")  # of the manual: on an object, at 189


@pytest.fixture
def terminal() -> Iterator[PseudoTerminal[EmulatedRobotiq]]:
    with PseudoTerminal(EmulatedRobotiq()) as served:
        yield served


@pytest.fixture
def gripper(terminal: PseudoTerminal[EmulatedRobotiq]) -> Iterator[RobotiqGripper]:
    settings = {"device": "robotiq", "port": terminal.path, "feedback_timeout": 5.0, "answer_timeout": 1.0}
    made = make_gripper(settings, load_robot("fr3"), "a test")
    assert isinstance(made, RobotiqGripper)
    made.connect()
    yield made
    made.close()


def turns(terminal: PseudoTerminal[EmulatedRobotiq], number: int) -> None:
    """Wait until the gripper has been told, and asked, so many times."""
    until = terminal.bus.asked + number
    eventually(lambda: terminal.bus.asked >= until)


def activated(gripper: RobotiqGripper) -> None:
    gripper.activate()
    eventually(lambda: not gripper.read().faults)


def test_packets_are_those_of_the_manual() -> None:
    assert read_request(9, 2000, 3) == bytes.fromhex("09 04 07 D0 00 03 B1 CE")
    assert write_request(9, 1000, registers.CLEAR) == bytes.fromhex("09 10 03 E8 00 03 06 00 00 00 00 00 00 73 30")
    full = write_request(9, 1000, registers.go_to(255, 255, 255))
    assert full == bytes.fromhex("09 10 03 E8 00 03 06 09 00 00 FF FF FF 42 29")
    assert packet(9, 16, bytes.fromhex("03 E8 00 03")) == bytes.fromhex("09 10 03 E8 00 03 01 30")
    answer = AnswerReader(9, READ_INPUT, bytes((6,)), 6).feed(STOPPED)
    assert answer is not None
    status = registers.decode_status(answer[1])
    assert (status.stage, status.met, status.fault) == (registers.ACTIVATED, registers.CLOSING_STOPPED, 0)
    assert (status.request, status.position, status.current) == (255, 189, 0.0)
    moving = registers.decode_status(bytes.fromhex("39 00 00 00 BB 10"))
    assert moving.met == registers.MOVING and moving.current == pytest.approx(0.16)


@given(garbage=st.binary(max_size=30), cuts=st.lists(st.integers(0, 60), max_size=5))
def test_an_answer_is_found_behind_any_garbage_however_it_is_cut(garbage: bytes, cuts: list[int]) -> None:
    reader, wire = AnswerReader(9, READ_INPUT, bytes((6,)), 6), garbage + STOPPED + bytes(20)
    found = None
    for begin, end in zip(sorted([0, *cuts]), sorted([*cuts, len(wire)]), strict=True):
        found = found or reader.feed(wire[begin:end])
    assert found == (READ_INPUT, STOPPED[3:9])


@given(bit=st.integers(0, 8 * len(STOPPED) - 1))
def test_an_answer_with_a_wrong_bit_is_none(bit: int) -> None:
    wrong = bytearray(STOPPED)
    wrong[bit // 8] ^= 1 << bit % 8
    assert AnswerReader(9, READ_INPUT, bytes((6,)), 6).feed(bytes(wrong)) is None


@given(width=st.floats(0.0, 0.085))
def test_an_opening_is_the_same_there_and_back_to_half_a_count(width: float) -> None:
    count = SCALE.count(width)
    assert SCALE.width(count) == pytest.approx(width, abs=0.5 * 0.085 / 227 + 1e-9)
    # by hand: 85 mm over 227 counts, from 230
    assert SCALE.width(count) == pytest.approx(np.clip((230 - count) * 0.085 / 227, 0.0, 0.085))
    assert (SCALE.count(0.0), SCALE.count(0.085), SCALE.count(1.0)) == (255, 0, 0)


def test_it_moves_for_activation_alone_and_only_when_somebody_asks(
    gripper: RobotiqGripper, terminal: PseudoTerminal[EmulatedRobotiq]
) -> None:
    before = terminal.bus.position
    gripper.hold()
    gripper.write(0.0)
    turns(terminal, 3)
    assert terminal.bus.position == before and not terminal.bus.activations
    assert "not activated" in gripper.read().faults[0] and "driver/activate" in gripper.read().faults[0]
    activated(gripper)
    assert terminal.bus.activations == 1


def test_what_it_meets_is_held_and_not_pushed_until_it_opens(
    gripper: RobotiqGripper, terminal: PseudoTerminal[EmulatedRobotiq]
) -> None:
    activated(gripper)
    stop = SCALE.count(0.03)
    terminal.change(lambda bus: setattr(bus, "object_at", float(stop)))
    for width in np.linspace(0.085, 0.0, 40):  # as the driver closes it, beyond the object
        gripper.write(float(width))
        turns(terminal, 1)
    eventually(lambda: gripper.holds)
    requests = len(terminal.bus.requests)
    for _ in range(5):
        gripper.write(0.0)
        turns(terminal, 1)
    assert gripper.read().width == pytest.approx(0.03, abs=2e-4)
    squeezed = terminal.bus.requests[requests:]
    assert set(squeezed) <= {stop + 11}  # 4 mm, and it is said once
    gripper.hold()
    turns(terminal, 3)
    assert gripper.holds  # nobody commands any more, and it does not let go
    gripper.write(0.06)
    eventually(lambda: abs(gripper.read().width - 0.06) < 5e-4)
    assert not gripper.holds


def test_what_slips_out_is_not_held_any_more(
    gripper: RobotiqGripper, terminal: PseudoTerminal[EmulatedRobotiq]
) -> None:
    activated(gripper)
    terminal.change(lambda bus: setattr(bus, "object_at", float(SCALE.count(0.03))))
    gripper.write(0.0)
    eventually(lambda: gripper.holds)
    terminal.change(lambda bus: setattr(bus, "object_at", None))

    def closed() -> bool:
        gripper.write(0.0)
        return terminal.bus.position == CLOSED

    eventually(closed)
    eventually(lambda: gripper.read().width == 0.0)
    assert not gripper.holds


def test_garbage_and_wrong_bits_are_asked_again_and_a_silent_gripper_is_named(
    terminal: PseudoTerminal[EmulatedRobotiq],
) -> None:
    port = SerialPort(terminal.path, registers.BAUD)
    client = ModbusClient(port, 9, "gripper", 1.0)
    terminal.change(lambda bus: (setattr(bus, "noise", STOPPED[:7] + b"\xff\x09"), None)[1])
    assert registers.decode_status(client.read(registers.STATUS, 3)).stage == registers.RESET
    assert client.garbled == 9
    quick = ModbusClient(port, 9, "gripper", 0.2)
    terminal.change(lambda bus: setattr(bus, "corrupt", 2))
    assert registers.decode_status(quick.read(registers.STATUS, 3)).stage == registers.RESET
    terminal.change(lambda bus: setattr(bus, "silent", True))
    with pytest.raises(ModbusError, match=r"pts/.*gripper \(device 9\) does not answer; look at its 24 V"):
        quick.read(registers.STATUS, 3)
    terminal.change(lambda bus: setattr(bus, "silent", False))
    with pytest.raises(ModbusError, match="it has no such register"):
        quick.read(0, 3)
    port.close()
    assert crc(b"\x09" + bytes((READ_INPUT | FAILED, 2))) == packet(9, READ_INPUT | FAILED, b"\x02")[-2:]


def test_a_fault_is_named_with_what_to_do(gripper: RobotiqGripper, terminal: PseudoTerminal[EmulatedRobotiq]) -> None:
    activated(gripper)
    terminal.change(lambda bus: setattr(bus, "fault", 0x0E))
    eventually(lambda: any("0x0e: too much current" in fault for fault in gripper.read().faults))
    activated(gripper)  # which takes it back


def test_an_arm_with_it_waits_for_the_activation_and_then_follows() -> None:
    robot = load_robot("fr3")
    kinematics = Kinematics(robot)
    gripper = make_gripper({"device": "robotiq", "emulated": True, "feedback_timeout": 5.0}, robot, "a test")
    assert isinstance(gripper, RobotiqGripper)
    driver = Driver(
        ArmWithGripper(make_mock(robot, {}, "a test"), gripper), robot, kinematics,
        InverseKinematics(robot, Kinematics(robot), 0.01), DriverSettings(period=0.01),
    )  # fmt: skip

    def tick(state: State) -> bool:
        driver.tick(time.monotonic())
        return driver.state is state

    eventually(lambda: tick(State.FAULT))
    assert "driver/activate" in driver.reason
    driver.ask("activate")
    tick(State.FAULT)
    eventually(lambda: not gripper.read().faults)
    driver.ask("connect")
    eventually(lambda: tick(State.HOLDING))

    def opened() -> bool:
        driver.open_to(0.05, time.monotonic())
        reading = driver.tick(time.monotonic())
        return reading is not None and abs(reading.width - 0.05) < 5e-4

    eventually(opened)
    with pytest.raises(ValueError, match="it follows commands"):
        driver.ask("activate")
    driver.close(limp=False)
    assert gripper.emulated is not None and gripper.emulated.bus.activations == 1
    gripper.emulated.close()


def test_wrong_settings_are_refused_by_name() -> None:
    robot = load_robot("trossen")
    for settings, said in (
        ({"device": "robotik"}, "expected a gripper of robotiq, found 'robotik'"),
        ({"device": "robotiq"}, "'port': expected the gripper's serial port"),
        ({"device": "robotiq", "port": "/dev/x", "modle": "2F-85"}, "modle"),
        ({"device": "robotiq", "port": "/dev/x"}, "'trossen', 0.088 m, found 2F-85 with 0.085 m"),
    ):
        with pytest.raises(ConfigError, match=said):
            make_gripper(settings, robot, "a test")
