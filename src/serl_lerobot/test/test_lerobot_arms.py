# SPDX-License-Identifier: Apache-2.0
"""LeRobot's own leader and follower, unmodified, talk to the emulated bus as to real arms; where it is installed."""

from pathlib import Path
from typing import Any

import pytest
from serl_feetech.arm import SO_ARM
from serl_feetech.calibration import ServoCalibration, write_calibration
from serl_feetech.emulated.bus import EmulatedBus
from serl_feetech.emulated.pseudo_terminal import PseudoTerminal
from serl_feetech.emulated.servo import EmulatedServo

from serl_feetech import registers
from serl_lerobot import compat

pytest.importorskip("lerobot", reason="./serl setup lerobot")
pytest.importorskip("scservo_sdk", reason="./serl setup lerobot")

ARM = "arm"
TURNED = {"shoulder_pan": 300, "elbow_flex": -200, "wrist_roll": 100}  # steps away from the middle


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    """LeRobot's file of an arm of this name."""
    servos = {name: ServoCalibration(number, 0, 0, 847, 3247) for number, name in enumerate(SO_ARM, start=1)}
    write_calibration(tmp_path / f"{ARM}.json", servos)
    return tmp_path


@pytest.fixture
def terminal() -> PseudoTerminal:
    servos = [EmulatedServo(number, 2047 + TURNED.get(name, 0)) for number, name in enumerate(SO_ARM, start=1)]
    with PseudoTerminal(EmulatedBus(servos)) as served:
        yield served


def patient(arm: Any) -> Any:
    """The arm, whose bus waits for an answer however busy this machine is."""
    handler = arm.bus.port_handler
    handler.setPacketTimeout = lambda length: handler.setPacketTimeoutMillis(5000.0)
    return arm


def test_the_leader_reads_where_the_servos_are(terminal: PseudoTerminal, calibration: Path) -> None:
    module = compat.load("lerobot.teleoperators.so_leader")

    config = module.SO101LeaderConfig(port=terminal.path, id=ARM, calibration_dir=calibration, use_degrees=True)
    leader = patient(module.SO101Leader(config))
    leader.connect(calibrate=False)
    leader.bus.write_calibration(leader.calibration)
    assert leader.is_calibrated
    action = leader.get_action()
    for name in SO_ARM[:-1]:
        assert action[f"{name}.pos"] == pytest.approx(TURNED.get(name, 0) * 360.0 / 4095.0, abs=0.1), name
    assert action["gripper.pos"] == pytest.approx(50.0, abs=0.1)
    assert not any(servo.torque_enabled for servo in terminal.bus.servos)
    leader.disconnect()


def test_the_follower_goes_where_it_is_sent(terminal: PseudoTerminal, calibration: Path) -> None:
    module = compat.load("lerobot.robots.so_follower")

    config = module.SO101FollowerConfig(port=terminal.path, id=ARM, calibration_dir=calibration, use_degrees=True)
    follower = patient(module.SO101Follower(config))
    follower.connect(calibrate=False)
    follower.bus.write_calibration(follower.calibration)
    assert all(servo.torque_enabled for servo in terminal.bus.servos)
    follower.send_action({f"{name}.pos": 10.0 for name in SO_ARM[:-1]} | {"gripper.pos": 25.0})
    follower.get_observation()  # a goal is written without an answer; what is asked after it is answered after it
    goals = [servo.value(registers.GOAL_POSITION) for servo in terminal.bus.servos]
    assert goals[:-1] == pytest.approx([2047 + 10.0 * 4095.0 / 360.0] * 5, abs=1)
    assert goals[-1] == pytest.approx(847 + 0.25 * 2400, abs=1)
    follower.disconnect()
    assert not any(servo.torque_enabled for servo in terminal.bus.servos)
