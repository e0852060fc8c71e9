# SPDX-License-Identifier: Apache-2.0
"""The driver with an arm of emulated servos behind a serial port, which speaks the true protocol in real time."""

import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from serl_drivers.driver import Driver, DriverSettings, State
from serl_drivers.feetech.device import make
from serl_feetech.calibration import read_calibration, write_calibration
from serl_feetech.emulated.bus import EmulatedBus
from serl_feetech.emulated.pseudo_terminal import PseudoTerminal
from serl_feetech.emulated.servo import EmulatedServo
from serl_planning.inverse_kinematics import InverseKinematics
from serl_robots.model.joint_trajectory import JointTrajectoryPlan, TrajectoryError
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.robot import load_robot

PERIOD = 0.01


class Bench:
    """A driver whose loop a test turns, and what it said."""

    def __init__(self, port: str, calibration: Path) -> None:
        self.robot = load_robot("so101")
        self.kinematics = Kinematics(self.robot)
        settings = {"port": port, "calibration": str(calibration), "values_every": 0.02}
        self.said: list[str] = []
        self.device = make(self.robot, settings, "a test")
        self.driver = Driver(
            self.device,
            self.robot,
            Kinematics(self.robot),
            InverseKinematics(self.robot, Kinematics(self.robot), PERIOD),
            DriverSettings(period=PERIOD, lost=1.0),  # a busy machine answers late
            self.said.append,
        )

    def turn(self, until: Callable[[], bool], seconds: float = 60.0) -> list[np.ndarray]:
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

    def torques(self, terminal: PseudoTerminal) -> list[bool]:
        return [servo.torque_enabled for servo in terminal.bus.servos]


@pytest.fixture
def bench(terminal: PseudoTerminal, calibration: Path) -> Bench:
    bench = Bench(terminal.path, calibration)
    bench.turn(bench.state(State.LIMP))
    bench.driver.ask("hold")
    bench.turn(bench.state(State.HOLDING))
    return bench


def test_an_arm_that_is_found_without_torque_stays_so_until_it_is_asked_to_hold(
    terminal: PseudoTerminal, calibration: Path
) -> None:
    bench = Bench(terminal.path, calibration)
    bench.turn(bench.state(State.LIMP))
    bench.driver.open_to(0.01, time.monotonic())
    for _ in range(20):
        bench.driver.tick(time.monotonic())
    assert bench.torques(terminal) == [False] * 6 and "driver/hold" in bench.driver.reason
    bench.driver.close(limp=False)
    assert bench.torques(terminal) == [False] * 6


def test_a_driver_that_comes_back_after_a_kill_leaves_the_torque_as_it_finds_it(
    bench: Bench, terminal: PseudoTerminal, calibration: Path
) -> None:
    bench.device.close()  # as a kill does, without a word to the servos
    again = Bench(terminal.path, calibration)
    again.turn(again.state(State.HOLDING))
    assert again.torques(terminal) == [True] * 6
    again.driver.ask("release")
    again.turn(again.state(State.LIMP))
    again.device.close()
    third = Bench(terminal.path, calibration)
    third.turn(third.state(State.LIMP))
    assert third.torques(terminal) == [False] * 6
    third.device.close()
    terminal.change(lambda bus: bus.servo(2).write(40, b"\1"))  # a part of them: no reason to switch on the rest
    fourth = Bench(terminal.path, calibration)
    fourth.turn(fourth.state(State.LIMP))
    assert fourth.torques(terminal) == [False, True, False, False, False, False]


def test_it_holds_then_follows_and_holds_again_when_nobody_commands(bench: Bench, terminal: PseudoTerminal) -> None:
    assert bench.torques(terminal) == [True] * 6
    goal = np.array([0.2, -0.1, 0.1, 0.1, -0.2])
    plan = JointTrajectoryPlan([0.0, 0.3], [np.zeros(5), goal])
    bench.driver.follow_joints(plan, time.monotonic())
    bench.driver.open_to(0.03, time.monotonic())
    read = bench.turn(lambda: "no commands" in bench.said[-1])
    assert bench.driver.state is State.HOLDING
    assert read[-1] == pytest.approx(goal, abs=0.02)
    steps = np.diff(read, axis=0)
    assert np.abs(steps).max() < bench.kinematics.velocity.max() * 3 * PERIOD  # in real time, on a busy machine
    bench.driver.close(limp=False)
    assert bench.torques(terminal) == [True] * 6


def test_a_trajectory_that_nobody_would_end_is_refused(bench: Bench) -> None:
    plan = JointTrajectoryPlan([0.0, 2.0**31], [np.zeros(5), np.full(5, 0.5)])
    with pytest.raises(TrajectoryError, match=r"at most 30 s, .*, found 2\.14748e\+09 s; send it in parts"):
        bench.driver.follow_joints(plan, time.monotonic())
    bench.turn(lambda: True)
    assert bench.driver.state is State.HOLDING


def test_a_servo_that_answers_no_more_is_a_fault_until_somebody_asks_for_a_connection(
    bench: Bench, terminal: PseudoTerminal
) -> None:
    terminal.change(lambda bus: setattr(bus.servo(3), "silent", True))
    bench.turn(bench.state(State.FAULT))
    assert "connection is lost" in bench.driver.reason and "3" in bench.driver.reason
    terminal.change(lambda bus: setattr(bus.servo(3), "silent", False))
    bench.driver.open_to(0.01, time.monotonic())
    for _ in range(20):
        bench.driver.tick(time.monotonic())
    assert bench.driver.state is State.FAULT  # by itself it never moves again
    bench.driver.ask("connect")
    bench.turn(bench.state(State.HOLDING))


def test_an_arm_that_is_too_hot_is_not_commanded(bench: Bench, terminal: PseudoTerminal) -> None:
    terminal.change(lambda bus: setattr(bus.servo(2), "temperature", 68.0))
    bench.turn(bench.state(State.FAULT))
    assert "shoulder_lift" in bench.driver.reason and "degC" in bench.driver.reason


def test_an_arm_that_cools_down_while_its_cable_is_out_is_not_too_hot_when_it_is_back(
    bench: Bench, terminal: PseudoTerminal
) -> None:
    terminal.change(lambda bus: setattr(bus.servo(2), "temperature", 68.0))
    bench.turn(bench.state(State.FAULT))
    terminal.change(lambda bus: (setattr(bus.servo(2), "silent", True), bus.servo(2).cool_down())[0])
    bench.driver.ask("connect")
    bench.turn(bench.state(State.UNCONFIGURED))
    terminal.change(lambda bus: setattr(bus.servo(2), "silent", False))
    heard = len(bench.said)
    bench.turn(lambda: bench.driver.state not in (State.UNCONFIGURED, State.LIMP))
    assert bench.driver.state is State.HOLDING and "degC" not in " ".join(bench.said[heard:])


def test_a_servo_in_fault_does_not_tell_another_opening_than_was_measured(
    bench: Bench, terminal: PseudoTerminal
) -> None:
    before = bench.device.read()
    terminal.change(lambda bus: setattr(bus.servo(2), "temperature", 90.0))
    reading = bench.device.read()
    while not reading.faults:
        reading = bench.device.read()
    assert before.width > 0.01 and reading.width == before.width


def test_garbage_on_the_wire_moves_nothing_and_ends_nothing(bench: Bench, terminal: PseudoTerminal) -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        terminal.change(lambda bus: setattr(bus, "noise", rng.bytes(40)))
        bench.driver.tick(time.monotonic())
    bench.turn(bench.state(State.HOLDING))
    assert [round(servo.position) for servo in terminal.bus.servos] == [2048] * 6


def test_torque_goes_off_and_on_on_request_alone(bench: Bench, terminal: PseudoTerminal) -> None:
    bench.driver.ask("release")
    bench.turn(bench.state(State.LIMP))
    bench.driver.open_to(0.01, time.monotonic())
    bench.driver.tick(time.monotonic())
    assert bench.torques(terminal) == [False] * 6
    bench.driver.ask("hold")
    bench.turn(bench.state(State.HOLDING))
    assert bench.torques(terminal) == [True] * 6
    bench.driver.close(limp=True)
    assert bench.torques(terminal) == [False] * 6


def test_it_says_why_it_cannot_connect_and_tries_again(
    terminal: PseudoTerminal, calibration: Path, tmp_path: Path
) -> None:
    port = tmp_path / "port"
    bench = Bench(str(port), calibration)
    bench.driver.tick(time.monotonic())
    assert bench.driver.state is State.UNCONFIGURED and str(port) in bench.driver.reason
    port.symlink_to(terminal.path)
    bench.turn(bench.state(State.LIMP))


def test_a_calibration_of_another_arm_is_refused(terminal: PseudoTerminal, calibration: Path) -> None:
    calibration.write_text(calibration.read_text().replace("wrist_roll", "wrist_yaw"))
    bench = Bench(terminal.path, calibration)
    bench.driver.tick(time.monotonic())
    assert "wrist_roll" in bench.driver.reason and str(calibration) in bench.driver.reason


def test_the_torque_of_an_arm_in_fault_is_switched_off_on_request_and_stays_off(
    bench: Bench, terminal: PseudoTerminal
) -> None:
    terminal.change(lambda bus: setattr(bus.servo(2), "temperature", 68.0))
    bench.turn(bench.state(State.FAULT))
    with pytest.raises(ValueError, match=r"connect: .* degC"):
        bench.driver.ask("hold")
    bench.driver.ask("release")
    bench.turn(lambda: not any(bench.torques(terminal)))
    assert bench.driver.state is State.FAULT and "torque is off" in bench.driver.reason
    bench.driver.close(limp=False)
    assert bench.torques(terminal) == [False] * 6


def test_an_arm_that_was_let_go_gets_no_torque_by_a_fault(bench: Bench, terminal: PseudoTerminal) -> None:
    bench.driver.ask("release")
    bench.turn(bench.state(State.LIMP))
    terminal.change(lambda bus: setattr(bus.servo(2), "temperature", 68.0))
    bench.turn(bench.state(State.FAULT))
    assert bench.torques(terminal) == [False] * 6


def test_what_cannot_be_asked_for_is_refused_with_what_can(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="it is connected, and holding"):
        bench.driver.ask("connect")
    nowhere = Bench(str(tmp_path / "port"), tmp_path / "arm.json")
    nowhere.driver.tick(time.monotonic())
    with pytest.raises(ValueError, match=r"there is no connection: .*port"):
        nowhere.driver.ask("release")


@pytest.mark.parametrize(
    ("servos", "said"),
    [([1, 2, 4, 5, 6], r"servo 3 \(elbow_flex\)"), ([1, 2, 2, 3, 4, 5, 6], r"servo 2 \(shoulder_lift\).*the same id")],
)
def test_a_servo_that_is_missing_and_two_of_one_id_are_named_and_nothing_is_switched_on(
    calibration: Path, servos: list[int], said: str
) -> None:
    places = [EmulatedServo(number, 2048.0 + 20 * at) for at, number in enumerate(servos)]
    with PseudoTerminal(EmulatedBus(places)) as terminal:
        bench = Bench(terminal.path, calibration)
        bench.turn(lambda: re.search(said, bench.driver.reason) is not None)  # on a busy machine not at the first try
        assert bench.driver.state is State.UNCONFIGURED
        with pytest.raises(ValueError, match="there is no connection"):
            bench.driver.ask("hold")
        assert not any(bench.torques(terminal))
        bench.driver.close(limp=False)


def test_a_cable_that_is_pulled_in_motion_is_a_fault_and_leaves_the_servos_at_their_last_goal(
    bench: Bench, terminal: PseudoTerminal
) -> None:
    plan = JointTrajectoryPlan([0.0, 3.0], [np.zeros(5), np.full(5, 0.4)])
    bench.driver.follow_joints(plan, time.monotonic())
    bench.turn(lambda: terminal.bus.servo(1).position > 2060.0)
    terminal.close()
    bench.turn(bench.state(State.FAULT))
    assert "the connection is lost" in bench.driver.reason and terminal.path in bench.driver.reason
    assert bench.torques(terminal) == [True] * 6
    goals = [servo.goal for servo in terminal.bus.servos]
    bench.driver.follow_joints(plan, time.monotonic())
    for _ in range(20):
        bench.driver.tick(time.monotonic())
    assert bench.driver.state is State.FAULT
    assert [servo.goal for servo in terminal.bus.servos] == goals
    bench.driver.close(limp=False)


def test_a_cable_that_is_plugged_in_again_is_used_when_somebody_asks_for_a_connection(
    terminal: PseudoTerminal, calibration: Path, tmp_path: Path
) -> None:
    port = tmp_path / "arm"  # as /dev/serial/by-id, where an adapter has the same name each time
    port.symlink_to(terminal.path)
    bench = Bench(str(port), calibration)
    bench.turn(bench.state(State.LIMP))
    bench.driver.ask("hold")
    bench.turn(bench.state(State.HOLDING))
    bench.driver.follow_joints(JointTrajectoryPlan([0.0, 3.0], [np.zeros(5), np.full(5, 0.4)]), time.monotonic())
    bench.turn(lambda: terminal.bus.servo(1).position > 2060.0)
    terminal.close()
    bench.turn(bench.state(State.FAULT))
    with PseudoTerminal(terminal.bus) as again:
        port.unlink()
        port.symlink_to(again.path)
        for _ in range(20):
            bench.driver.tick(time.monotonic())
        assert bench.driver.state is State.FAULT
        bench.driver.ask("connect")
        bench.turn(bench.state(State.HOLDING))  # its servos have kept their torque
        bench.driver.follow_joints(JointTrajectoryPlan([0.0, 0.2], [np.zeros(5), np.zeros(5)]), time.monotonic())
        bench.turn(lambda: abs(terminal.bus.servo(1).position - 2047.0) < 5.0)
        bench.driver.close(limp=False)


def test_an_arm_with_another_calibration_in_it_gets_this_one_and_is_limp_until_it_is_asked_to_hold(
    bench: Bench, terminal: PseudoTerminal, calibration: Path
) -> None:
    bench.device.close()
    offsets = read_calibration(calibration)
    write_calibration(calibration, {name: replace(each, homing_offset=100) for name, each in offsets.items()})
    again = Bench(terminal.path, calibration)
    again.turn(again.state(State.LIMP))
    assert again.torques(terminal) == [False] * 6
    assert [servo.offset for servo in terminal.bus.servos] == [100] * 6
    again.driver.close(limp=False)
