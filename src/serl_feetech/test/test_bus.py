# SPDX-License-Identifier: Apache-2.0
"""The bus against emulated servos that speak the real packets, and fail as real ones do."""

import contextlib
import os
import time
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serl_feetech.arm import SO_ARM, ServoArm
from serl_feetech.bus import Bus
from serl_feetech.emulated.bus import EmulatedBus, EmulatedPort
from serl_feetech.emulated.pseudo_terminal import PseudoTerminal
from serl_feetech.emulated.servo import EmulatedServo
from serl_feetech.errors import FeetechError, NoAnswer, PortError, ServoFault
from serl_feetech.packet import Instruction
from serl_feetech.port import SerialPort

from serl_feetech import bus as bus_module
from serl_feetech import packet, registers

IDS = tuple(range(1, 7))


def test_registers_are_read_and_written_one_by_one_and_together(rig):
    rig.bus.ping(3)
    assert rig.bus.read(3, registers.MODEL_NUMBER) == registers.MODEL
    rig.bus.write(3, registers.GOAL_POSITION, 1234)
    assert rig.bus.read(3, registers.GOAL_POSITION) == 1234
    rig.bus.sync_write(registers.GOAL_POSITION, {each: 2000 + each for each in IDS})
    assert rig.bus.sync_read(IDS, registers.GOAL_POSITION) == {each: 2000 + each for each in IDS}
    assert rig.bus.scan(range(10)) == dict.fromkeys(IDS, registers.MODEL)


def test_what_is_kept_is_written_only_while_it_is_not_locked(rig):
    rig.bus.write(2, registers.HOMING_OFFSET, -33)
    assert rig.bus.read(2, registers.HOMING_OFFSET) == 0
    rig.bus.write(2, registers.LOCK, 0)
    rig.bus.write(2, registers.HOMING_OFFSET, -33)
    assert rig.bus.read(2, registers.HOMING_OFFSET) == -33
    assert rig.bus.read(2, registers.PRESENT_POSITION) == 2048 + 33


def test_a_servo_goes_to_its_goal_only_while_its_torque_is_on_and_no_faster_than_it_may(rig):
    rig.bus.write(1, registers.GOAL_VELOCITY, 500)
    rig.bus.write(1, registers.GOAL_POSITION, 3000)
    rig.clock.now += 0.5
    assert rig.bus.read(1, registers.PRESENT_POSITION) == 2048
    rig.bus.write(1, registers.TORQUE_ENABLE, 1)
    rig.clock.now += 0.5
    assert rig.bus.read(1, registers.PRESENT_POSITION) == pytest.approx(2048 + 250, abs=2)
    assert rig.bus.read(1, registers.PRESENT_VELOCITY) == pytest.approx(500, abs=2)
    assert rig.bus.read(1, registers.PRESENT_LOAD) > 500
    for _ in range(3):
        rig.clock.now += 1.0
        assert rig.bus.read(1, registers.PRESENT_POSITION) <= 3000
    assert rig.bus.read(1, registers.PRESENT_POSITION) == 3000


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.binary(max_size=50), corrupt=st.integers(0, 2))
def test_garbage_and_broken_answers_are_passed_over(rig, noise, corrupt):
    rig.wire.noise, rig.wire.corrupt = noise, corrupt
    assert rig.bus.sync_read(IDS, registers.MODEL_NUMBER) == dict.fromkeys(IDS, registers.MODEL)


def test_who_does_not_answer_is_named_with_what_to_do(rig):
    rig.wire.servo(4).silent = True
    with pytest.raises(
        NoAnswer, match=r"the emulated bus: servo 4 \(wrist_flex\) does not answer; check its cable"
    ) as e:
        rig.bus.sync_read(IDS, registers.PRESENT_POSITION)
    assert e.value.missing == (4,)
    for servo in rig.wire.servos:
        servo.silent = True
    with pytest.raises(NoAnswer, match=r"no servo answers.*is the arm's power supply on"):
        rig.bus.sync_read(IDS, registers.PRESENT_POSITION)


def test_two_servos_of_one_id_are_told_from_one_that_is_missing(rig):
    rig.wire.servos[2:3] = [EmulatedServo(2, position=700.0)]
    with pytest.raises(NoAnswer, match=r"servo 2 \(shoulder_lift\).*have two servos the same id"):
        rig.bus.read(2, registers.PRESENT_POSITION)


def test_a_hot_servo_lets_go_and_says_so_until_it_has_cooled_down(rig):
    servo = rig.wire.servo(5)
    rig.bus.write(5, registers.TORQUE_ENABLE, 1)
    servo.temperature = 71.0
    rig.clock.now += 0.05
    with pytest.raises(ServoFault, match=r"servo 5 \(wrist_roll\): it is too hot and has let go.*temperature 71 degC"):
        rig.bus.sync_read(IDS, registers.PRESENT_POSITION)
    assert not servo.torque_enabled
    servo.cool_down()
    assert rig.bus.read(5, registers.TORQUE_ENABLE) == 0


def test_a_blocked_servo_becomes_hot(rig):
    servo = rig.wire.servo(1)
    rig.bus.write(1, registers.TORQUE_ENABLE, 1)
    rig.bus.write(1, registers.GOAL_POSITION, 4000)
    servo.hand, servo.hand_strength = 2048.0, 1e6
    with pytest.raises(ServoFault, match="too hot"):
        for _ in range(100):
            rig.clock.now += 1.0
            rig.bus.read(1, registers.PRESENT_POSITION)


class LatePort(EmulatedPort):
    """Hands out one answer at a time, after some questions have been given up."""

    def __init__(self, bus):
        super().__init__(bus)
        self.late, self.answers = 0, []

    def write(self, data):
        super().write(data)
        self.answers.append(super().read(0.0))

    def read(self, timeout):
        if timeout == 0.0:  # it is on its way yet
            return b""
        if self.late:
            self.late -= 1
            return b""
        return self.answers.pop(0) if self.answers else b""


@pytest.mark.parametrize("late", [1, 3])
def test_a_late_answer_is_not_taken_for_that_to_the_next_question(rig, late):
    port = LatePort(rig.wire)
    bus = Bus(port)
    rig.wire.servo(2)._put(registers.GOAL_POSITION, 1111)
    port.late = late
    if late == 3:
        with pytest.raises(NoAnswer):
            bus.read(2, registers.PRESENT_POSITION)
    else:
        assert bus.read(2, registers.PRESENT_POSITION) == 2048
    assert bus.read(2, registers.GOAL_POSITION) == 1111
    assert bus.read(2, registers.PRESENT_POSITION) == 2048


class StreamingPort(EmulatedPort):
    """Brings bytes faster than they are read; gives up itself, so that a test ends."""

    def __init__(self, bus):
        super().__init__(bus)
        self.reads = 0

    def read(self, timeout):
        self.reads += 1
        if self.reads > 10_000:
            raise AssertionError("it is read without end")
        return b"\xff" * 256


def test_a_port_that_streams_without_end_is_given_up(rig):
    bus = Bus(StreamingPort(rig.wire))
    with pytest.raises(PortError, match=r"the emulated bus: \d+ bytes came that nobody has asked for"):
        bus.read(1, registers.MODEL_NUMBER)
    with pytest.raises(PortError, match="nobody has asked for"):
        bus.scan([1])


class TricklingPort(EmulatedPort):
    """Brings a byte each time that it is read, a millisecond later; gives up itself, so that a test ends."""

    def __init__(self, bus, clock):
        super().__init__(bus)
        self.clock, self.reads = clock, 0

    def read(self, timeout):
        self.reads += 1
        self.clock.now += 1e-3
        if self.reads > 2_000:
            raise AssertionError("it is read for seconds")
        return b"\xff"


def test_a_port_that_trickles_without_end_is_given_up_in_time(rig, monkeypatch):
    monkeypatch.setattr(bus_module, "time", SimpleNamespace(monotonic=rig.clock))
    with pytest.raises(PortError, match=r"the emulated bus: \d+ bytes came that nobody has asked for"):
        Bus(TricklingPort(rig.wire, rig.clock)).read(1, registers.MODEL_NUMBER)
    assert rig.clock.now < 100.0 + 0.2, "a driver is in fault after 0.2 s without an answer"


def test_an_arm_reads_the_angles_that_it_was_sent_to(rig):
    arm = ServoArm(rig.bus, rig.calibration, "so101.json")
    assert rig.wire.servo(4).offset == 40, "the calibration is in the servos"
    arm.hold(0.5)
    before = arm.read()
    rig.clock.now += 1.0
    assert (arm.read().angles == before.angles).all(), "holding moves nothing"
    wanted = [0.1, -0.2, 0.3, -0.4, 0.5]
    for _ in range(10):
        arm.go_to(wanted, 0.25)
        rig.clock.now += 0.1
    reading = arm.read()
    assert reading.angles == pytest.approx(wanted, abs=1e-3)
    assert reading.gripper == pytest.approx(0.25, abs=1e-3)
    assert rig.wire.servo(3).position < 2030, "drive_mode 1 turns the other way around"
    arm.let_go()
    assert not any(servo.torque_enabled for servo in rig.wire.servos)


def test_an_arm_of_other_servos_is_refused(rig):
    rig.wire.servo(6)._put(registers.MODEL_NUMBER, 1284)
    with pytest.raises(FeetechError, match=r"servo 6 \(gripper\): expected an STS3215 \(model 777\), found model 1284"):
        ServoArm(rig.bus, rig.calibration, "so101.json")


def test_a_serial_port_serves_any_program_and_is_missed_when_it_is_gone(tmp_path):
    link = tmp_path / "ttyACM0"
    wire = EmulatedBus([EmulatedServo(number) for number in IDS])
    with PseudoTerminal(wire, link) as terminal:
        bus = Bus(SerialPort(str(link)), dict(zip(IDS, SO_ARM, strict=True)), timeout=1.0)
        assert bus.sync_read(IDS, registers.MODEL_NUMBER) == dict.fromkeys(IDS, registers.MODEL)
        terminal.change(lambda wire: setattr(wire, "noise", b"\xff\xff\x01\x03"))
        assert bus.read(1, registers.MODEL_NUMBER) == registers.MODEL
    with pytest.raises(PortError, match="was it unplugged"):
        bus.read(1, registers.MODEL_NUMBER)
    bus.close()
    bus.close()
    with pytest.raises(PortError, match="is the adapter plugged in"):
        SerialPort(str(link))


def test_what_is_no_serial_port_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(PortError, match="no serial port"):
        SerialPort(str(tmp_path / "file"))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 254), st.sampled_from([*Instruction, 0x55]), st.binary(max_size=20)), max_size=8)
)
def test_the_emulated_bus_hears_anything(packets):
    wire = EmulatedBus([EmulatedServo(number) for number in (1, 2)], time.monotonic)
    for servo, instruction, parameters in packets:
        wire.talk(packet.instruction(servo, instruction, parameters))
    assert all(servo.id <= packet.LAST_ID for servo in wire.servos)


def test_a_program_that_never_reads_does_not_keep_an_emulated_port_from_closing():
    with PseudoTerminal(EmulatedBus([EmulatedServo(1)])) as terminal:
        file = os.open(terminal.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            ask = packet.instruction(1, Instruction.READ, bytes((0, 60)))
            for _ in range(2000):
                with contextlib.suppress(BlockingIOError):
                    os.write(file, ask)
        finally:
            os.close(file)
