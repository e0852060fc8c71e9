# SPDX-License-Identifier: Apache-2.0
"""An arm of emulated servos whose wire loses packets: it never goes where nobody has sent it."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serl_feetech.arm import ServoArm
from serl_feetech.bus import Bus
from serl_feetech.emulated.bus import EmulatedPort
from serl_feetech.errors import NoAnswer
from serl_feetech.packet import Instruction

from serl_feetech import registers

OLD_GOAL = 3000


class LossyPort(EmulatedPort):
    """Loses some of the instructions on their way, by their numbers or by what they are."""

    def __init__(self, bus):
        super().__init__(bus)
        self.lost, self.kinds, self.written = frozenset(), frozenset(), 0

    def write(self, data):
        self.written += 1
        if self.written not in self.lost and data[4] not in self.kinds:
            super().write(data)


@pytest.fixture
def lossy(rig):
    port = LossyPort(rig.wire)
    arm = ServoArm(Bus(port), rig.calibration, "so101.json")
    for servo in rig.wire.servos:  # where it was sent last, by whoever had it before
        servo._put(registers.GOAL_POSITION, OLD_GOAL - servo.offset)
    return port, arm


def positions(rig):
    return [servo.position for servo in rig.wire.servos]


def test_an_arm_holds_where_it_is_though_nobody_hears_what_is_told_to_all(rig, lossy):
    port, arm = lossy
    port.kinds = frozenset({Instruction.SYNC_WRITE})
    arm.hold(0.5)
    rig.clock.now += 0.5
    rig.wire.advance()
    assert positions(rig) == [2048.0] * 6
    assert all(servo.torque_enabled for servo in rig.wire.servos)
    arm.limit_torque(0.2)
    assert [servo.value(registers.TORQUE_LIMIT) for servo in rig.wire.servos] == [200] * 6
    arm.let_go()
    assert not any(servo.torque_enabled for servo in rig.wire.servos)
    arm.hold(0.5)
    arm.close()
    assert not any(servo.torque_enabled for servo in rig.wire.servos)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lost=st.frozensets(st.integers(1, 60), max_size=20))
def test_whatever_is_lost_no_servo_moves_when_an_arm_is_to_hold(rig, lossy, lost):
    port, arm = lossy
    for servo in rig.wire.servos:
        servo.position = 2048.0
        servo._put(registers.GOAL_POSITION, OLD_GOAL - servo.offset)
    port.lost, port.written = lost, 0
    try:
        arm.hold(1.0)
    except NoAnswer:
        assert any({number, number + 1, number + 2} <= lost for number in lost), "three times in all"
    rig.clock.now += 0.5
    rig.wire.advance()
    assert positions(rig) == [2048.0] * 6
    port.lost = frozenset()
    arm.let_go()


def test_a_servo_that_does_not_answer_keeps_no_other_from_letting_go(rig, lossy):
    _, arm = lossy
    arm.hold(0.5)
    rig.wire.servo(1).silent = True
    with pytest.raises(NoAnswer, match="servo 1 does not answer"):
        arm.let_go()
    assert [servo.torque_enabled for servo in rig.wire.servos] == [True] + [False] * 5
    for servo in rig.wire.servos[1:]:
        servo.write(registers.TORQUE_ENABLE.address, b"\1")
    arm.close()
    assert [servo.torque_enabled for servo in rig.wire.servos] == [True] + [False] * 5


@pytest.mark.parametrize("torque", [5.0, 0.0, -0.1, 1.001, math.nan, math.inf])
def test_a_torque_that_is_no_share_is_refused_before_anything_is_written(rig, lossy, torque):
    _, arm = lossy
    for order in (arm.hold, arm.limit_torque):
        with pytest.raises(ValueError, match=r"torque: expected a share in \(0, 1\], found"):
            order(torque)
    assert [servo.value(registers.TORQUE_LIMIT) for servo in rig.wire.servos] == [1000] * 6
    assert not any(servo.torque_enabled for servo in rig.wire.servos)


@pytest.mark.parametrize(
    ("angles", "gripper"),
    [([0.1, math.nan, 0, 0, 0], 0.5), ([math.inf] * 5, 0.5), ([0.0] * 5, math.nan), ([0.0] * 4, 0.5)],
)
def test_a_goal_that_is_no_place_is_refused_and_the_arm_stays(rig, lossy, angles, gripper):
    _, arm = lossy
    arm.hold(0.5)
    with pytest.raises(ValueError, match="expected 5 finite angles and a finite opening, found"):
        arm.go_to(np.array(angles), gripper)
    rig.clock.now += 0.5
    rig.wire.advance()
    assert positions(rig) == [2048.0] * 6
