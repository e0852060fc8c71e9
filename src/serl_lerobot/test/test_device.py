# SPDX-License-Identifier: Apache-2.0
"""Our driver with LeRobot's own SO101Follower, unmodified, which speaks to emulated servos at a serial port."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from serl_config.schema import ConfigError
from serl_drivers.device import DriverError
from serl_drivers.device_kinds import make_device
from serl_drivers.driver import Driver, DriverSettings, State
from serl_feetech.emulated.pseudo_terminal import PseudoTerminal
from serl_planning.inverse_kinematics import InverseKinematics
from serl_robots.model.joint_trajectory import JointTrajectoryPlan
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.robot import load_robot

from serl_feetech import registers
from serl_lerobot import compat

pytestmark = pytest.mark.skipif(not compat.is_installed(), reason="LeRobot is not installed: ./serl setup lerobot")

PERIOD = 0.02
SETTINGS = {"type": "so101_follower", "gripper_positions": [-0.174533, 1.745329], "values_every": 0.02}


class Bench:
    """A driver whose loop a test turns, and what it said."""

    def __init__(self, port: str, calibration: Path, settings: Mapping[str, Any] = MappingProxyType({})) -> None:
        robot = load_robot("so101")
        self.said: list[str] = []
        given = {**SETTINGS, "port": port, "calibration": str(calibration), **settings}
        self.device = make_device("lerobot", robot, given, "a test")
        self.driver = Driver(
            self.device,
            robot,
            Kinematics(robot),
            InverseKinematics(robot, Kinematics(robot), PERIOD),
            DriverSettings(period=PERIOD),
            self.said.append,
        )

    def turn(self, until: Callable[[], bool], seconds: float = 20.0) -> list[np.ndarray]:
        """Turn the loop until something holds; the positions that were read."""
        deadline, read = time.monotonic() + seconds, []
        while not until():
            now = time.monotonic()
            assert now < deadline, self.said
            reading = self.driver.tick(now)
            if reading is not None:
                read.append(reading.positions)
            time.sleep(max(0.0, now + PERIOD - time.monotonic()))
        return read

    def state(self, state: State) -> Callable[[], bool]:
        return lambda: self.driver.state is state


def torques(terminal: PseudoTerminal) -> list[bool]:
    return [servo.torque_enabled for servo in terminal.bus.servos]


@pytest.fixture
def bench(terminal: PseudoTerminal, calibration: Path) -> Bench:
    bench = Bench(terminal.path, calibration)
    bench.turn(bench.state(State.LIMP))
    assert torques(terminal) == [False] * 6
    bench.driver.ask("hold")
    bench.turn(bench.state(State.HOLDING))
    return bench


def test_it_follows_and_holds_where_commands_end(bench: Bench, terminal: PseudoTerminal) -> None:
    goal = np.array([0.2, -0.1, 0.1, 0.1, -0.2])
    bench.driver.follow_joints(JointTrajectoryPlan([0.0, 0.3], [np.zeros(5), goal]), time.monotonic())
    bench.driver.open_to(0.03, time.monotonic())
    read = bench.turn(lambda: "no commands" in bench.said[-1])
    assert bench.driver.state is State.HOLDING
    # by the servos themselves: 4096 steps are a turn, 2047 is the middle of their range
    goals = [servo.value(registers.GOAL_POSITION) for servo in terminal.bus.servos]
    assert goals[:5] == pytest.approx((2047 + goal * 4096 / (2 * np.pi)).tolist(), abs=2)
    angle = np.interp(0.03, [0.02755, 0.03508], [0.2, 0.3])  # config/robots/so101.yaml
    assert goals[5] == pytest.approx(847 + 2400 * (angle + 0.174533) / 1.919862, abs=2)
    assert read[-1] == pytest.approx(goal, abs=0.03)
    bench.driver.close(limp=True)
    assert torques(terminal) == [False] * 6


def test_an_arm_that_is_held_is_found_so_and_is_not_let_go_for_a_moment(
    bench: Bench, terminal: PseudoTerminal, calibration: Path
) -> None:
    bench.device.close()  # as a kill does, without a word to the servos
    switched: list[bytes] = []
    for servo in terminal.bus.servos:

        def write(address: int, data: bytes, servo=servo, before=servo.write) -> None:
            if address == registers.TORQUE_ENABLE.address:
                switched.append(data)
            before(address, data)

        servo.write = write
    again = Bench(terminal.path, calibration)
    again.turn(again.state(State.HOLDING))
    assert torques(terminal) == [True] * 6 and b"\0" not in switched


def test_a_servo_that_drops_its_torque_and_one_that_is_hot_are_faults(bench: Bench, terminal: PseudoTerminal) -> None:
    terminal.change(lambda bus: bus.servo(3).write(registers.TORQUE_ENABLE.address, b"\0"))
    bench.turn(bench.state(State.FAULT))
    assert "elbow_flex has lost its torque" in bench.driver.reason
    terminal.change(lambda bus: setattr(bus.servo(2), "temperature", 68.0))
    faults: list[str] = []

    def is_hot() -> bool:
        reading = bench.driver.tick(time.monotonic())
        faults.extend(() if reading is None else reading.faults)
        return any("shoulder_lift has 6" in fault and "degC" in fault for fault in faults)

    bench.turn(is_hot)


def test_a_port_that_is_unplugged_is_a_fault_with_its_name(bench: Bench, terminal: PseudoTerminal) -> None:
    path = terminal.path
    terminal.close()
    bench.turn(bench.state(State.FAULT))
    assert path in bench.driver.reason and "connection is lost" in bench.driver.reason
    bench.driver.ask("connect")
    bench.turn(bench.state(State.UNCONFIGURED))
    bench.turn(lambda: "connecting anew" not in bench.driver.reason)
    assert path in bench.driver.reason


def test_an_arm_with_another_calibration_in_it_gets_this_one_and_is_limp(
    bench: Bench, terminal: PseudoTerminal, calibration: Path
) -> None:
    bench.device.close()
    terminal.change(lambda bus: [bus.servo(1).write(55, b"\0"), bus.servo(1).write(31, b"\x20\0")])
    again = Bench(terminal.path, calibration)
    again.turn(again.state(State.LIMP))
    assert terminal.bus.servo(1).offset == 0 and torques(terminal) == [False] * 6


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"type": "so101_folower"}, "expected one of .*so101_follower, .*found 'so101_folower'"),
        ({"options": {"use_degres": True}}, "so101_follower does not take them: .*use_degres"),
        ({"calibration": "nowhere.json"}, "nowhere.json: expected a calibration, found no file"),
        ({"gripper": "hand.pos"}, r"expected the numbers shoulder_pan.pos, .*hand.pos, found .*gripper.pos"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(
    terminal: PseudoTerminal, calibration: Path, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(DriverError, match=words) as raised:
        Bench(terminal.path, calibration, settings).device.connect()
    assert "\n" not in str(raised.value) and torques(terminal) == [False] * 6


def test_settings_for_another_arm_are_refused(calibration: Path) -> None:
    with pytest.raises(ConfigError, match="joints: expected 5, as 'so101' has joints, found 1"):
        Bench("nowhere", calibration, {"joints": ["a.pos"]})
