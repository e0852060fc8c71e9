# SPDX-License-Identifier: Apache-2.0
"""LeRobot's own leader and follower, unmodified, talk to the emulated bus as to real arms; where it is installed.

It wants packages of its own, so in an environment of its own, from the top of the workspace:

    pip install lerobot==0.4.4 feetech-servo-sdk pytest pytest-timeout hypothesis pydantic pyyaml
    PYTHONPATH=src/serl_feetech:src/serl_config python -m pytest src/serl_feetech/test/test_lerobot_leader.py
"""

from pathlib import Path

import pytest
from serl_feetech.arm import SO_ARM
from serl_feetech.calibration import ServoCalibration, write_calibration
from serl_feetech.emulated.bus import EmulatedBus
from serl_feetech.emulated.pseudo_terminal import PseudoTerminal
from serl_feetech.emulated.servo import EmulatedServo

from serl_feetech import registers

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


def test_the_leader_reads_where_the_servos_are(terminal: PseudoTerminal, calibration: Path) -> None:
    from lerobot.teleoperators.so_leader import SO101Leader, SO101LeaderConfig

    leader = SO101Leader(SO101LeaderConfig(port=terminal.path, id=ARM, calibration_dir=calibration, use_degrees=True))
    leader.connect(calibrate=False)
    terminal.change(lambda bus: None)
    leader.bus.write_calibration(leader.calibration)
    assert leader.is_calibrated
    action = leader.get_action()
    for name in SO_ARM[:-1]:
        assert action[f"{name}.pos"] == pytest.approx(TURNED.get(name, 0) * 360.0 / 4095.0, abs=0.1), name
    assert action["gripper.pos"] == pytest.approx(50.0, abs=0.1)
    assert not any(servo.torque_enabled for servo in terminal.bus.servos)
    leader.disconnect()


def test_the_follower_goes_where_it_is_sent(terminal: PseudoTerminal, calibration: Path) -> None:
    from lerobot.robots.so_follower import SO101Follower, SO101FollowerConfig

    follower = SO101Follower(
        SO101FollowerConfig(port=terminal.path, id=ARM, calibration_dir=calibration, use_degrees=True)
    )
    follower.connect(calibrate=False)
    follower.bus.write_calibration(follower.calibration)
    assert all(servo.torque_enabled for servo in terminal.bus.servos)
    follower.send_action({f"{name}.pos": 10.0 for name in SO_ARM[:-1]} | {"gripper.pos": 25.0})
    goals = [servo.value(registers.GOAL_POSITION) for servo in terminal.bus.servos]
    assert goals[:-1] == pytest.approx([2047 + 10.0 * 4095.0 / 360.0] * 5, abs=1)
    assert goals[-1] == pytest.approx(847 + 0.25 * 2400, abs=1)
    follower.disconnect()
    assert not any(servo.torque_enabled for servo in terminal.bus.servos)
