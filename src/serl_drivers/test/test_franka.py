# SPDX-License-Identifier: Apache-2.0
"""Franka's device with franky, at franky-sim; where ./serl setup franka brought them."""

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from killed_simulator import follow_over_a_kill
from patience import eventually, fails
from serl_config.schema import ConfigError
from serl_drivers.device import DriverError
from serl_drivers.franka import session
from serl_drivers.franka.device import FrankaDevice, clipped_error, make
from serl_drivers.franka.hand_intent import HandIntent
from serl_drivers.franka.session import HandThread, SessionError, within
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.robot import load_robot

INSTALLED = all(importlib.util.find_spec(name) is not None for name in ("franky", "franky_sim"))
needs_sdk = pytest.mark.skipif(not INSTALLED, reason="franky is not installed: ./serl setup franka")

ROBOT = load_robot("fr3")
WAKES = np.array([0.0, 0.0, 0.0, -1.57, 0.0, 1.57, 0.785])
# Its ports are fixed: an address of this process alone keeps two test runs on a machine apart.
ADDRESS = f"127.{os.getpid() >> 16 & 0x3F | 0x80}.{os.getpid() >> 8 & 0xFF}.{os.getpid() & 0xFF or 1}"
SETTINGS = {"port": ADDRESS, "realtime": False, "feedback_timeout": 5.0, "hand_stops": False}
FRANKY_SIM = [sys.executable, "-c", "from franky_sim.run_server import main; main()", "-s", "mujoco"]


class Simulator:
    """libfranka's protocol with MuJoCo behind it, in a process of its own."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [*FRANKY_SIM, "--hostname", ADDRESS], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    started = Simulator()
    yield started
    started.kill()


def connected(**settings: object) -> FrankaDevice:
    device = make(ROBOT, SETTINGS | settings, "a test")
    eventually(lambda: connects(device))
    return device


@pytest.fixture
def device(simulator: Simulator) -> Iterator[FrankaDevice]:
    made = connected()
    yield made
    made.close()


def connects(device: FrankaDevice) -> bool:
    try:
        device.connect()
    except DriverError as error:
        assert "activate the FCI in Desk" in str(error) or "within" in str(error)  # not there yet, or slow
        return False
    return True


@pytest.mark.skipif(INSTALLED, reason="franky is installed")
def test_without_franky_the_command_that_brings_it_is_named():
    with pytest.raises(DriverError, match=r"\./serl setup franka"):
        make(ROBOT, SETTINGS, "a test").connect()


def test_another_robot_is_refused():
    with pytest.raises(ConfigError, match="expected one of 7 joints, found 'piper' of 6"):
        make(load_robot("piper"), SETTINGS, "a test")


ANGLES = st.lists(st.floats(-3.0, 3.0), min_size=7, max_size=7).map(np.array)


@given(ANGLES, ANGLES, st.floats(0.01, 0.5))
def test_a_reference_is_never_further_ahead_than_allowed_and_on_the_way(wanted, measured, most):
    reference = clipped_error(wanted, measured, most)
    assert np.abs(reference - measured).max() <= most + 1e-12
    assert ((reference - measured) * (wanted - measured) >= 0.0).all()
    near = np.abs(wanted - measured) <= most
    assert reference[near] == pytest.approx(wanted[near], abs=1e-12)


def test_a_call_that_never_returns_is_given_up():
    with pytest.raises(SessionError, match=r"no answer of it within 0\.05 s; does another program"):
        within(0.05, lambda: time.sleep(1.0), "answer of it")


@needs_sdk
@pytest.mark.parametrize("control", ["joint", "cartesian"])
def test_it_goes_where_it_is_told(simulator, control):
    device = connected(control=control)
    device.hold()
    kinematics, goal = Kinematics(ROBOT), WAKES + np.array([0.2, 0.1, 0.0, -0.1, 0.0, 0.0, 0.0])

    def there() -> bool:
        device.write(goal, 0.02)
        reading = device.read()
        assert reading.faults == ()
        off = kinematics.tcp(reading.positions).distance(kinematics.tcp(goal))
        return off < 0.02 and abs(reading.width - 0.02) < 5e-3

    eventually(there)
    with pytest.raises(DriverError, match="a target was refused"):
        device.write(goal * np.nan, 0.02)
    device.release()
    with pytest.raises(DriverError, match="ask it to hold first"):
        device.write(goal, 0.02)
    device.hold()
    device.close()


class Motion:
    """A motion of a hand, which a caller may wait for."""

    def __init__(self, hand: "Hand") -> None:
        self._hand = hand

    def wait(self, _timeout: float) -> bool:
        return self._hand.goal is None


class Hand:
    """A Franka hand with something between its fingers: it moves as it is looked at, and takes no width on its way."""

    def __init__(self, obstacle: float = 0.0) -> None:
        self._obstacle = obstacle
        self.goal: float | None = None
        self.state_now = SimpleNamespace(width=0.08, max_width=0.08, is_grasped=False)
        self.told: list[tuple[str, float]] = []

    @property
    def state(self) -> SimpleNamespace:
        now, goal = self.state_now, self.goal
        if goal is not None:
            step = min(max(goal - now.width, -0.003), 0.003)
            now.width = max(now.width + step, self._obstacle)
            stalled = now.width == self._obstacle and goal < self._obstacle
            now.is_grasped = stalled
            if stalled or now.width == goal:
                self.goal = None
        return now

    def _go(self, how: str, width: float) -> Motion:
        assert self.goal is None, "it moves"
        self.told.append((how, width))
        self.goal, self.state_now.is_grasped = width, False
        return Motion(self)

    def move_async(self, width: float, _speed: float) -> Motion:
        return self._go("move", width)

    def grasp_async(self, width: float, _speed: float, force: float, _inner: float, _outer: float) -> Motion:
        assert force == 30.0
        return self._go("grasp", width)

    def stop(self) -> None:
        self.goal = None


@pytest.mark.parametrize("stops", [True, False])
def test_a_hand_that_has_met_something_holds_it_and_grasps_no_more(stops):
    hand = Hand(obstacle=0.03)
    thread = HandThread(hand, (RuntimeError,), 0.1, 30.0, stops=stops)
    thread.open_to(0.0)
    eventually(lambda: thread.holds and thread.width == 0.03)
    until = time.monotonic() + 0.5
    eventually(lambda: time.monotonic() > until)  # nothing is pushed anew while it is held
    assert hand.told == [("grasp", 0.0)] and thread.holds
    thread.open_to(0.08)
    eventually(lambda: thread.width == 0.08)
    assert hand.told == [("grasp", 0.0), ("move", 0.08)] and not thread.holds
    thread.close()


def test_a_ramp_to_the_end_of_the_way_is_told_once_in_either_direction():
    intent, now, found = HandIntent(0.08, 0.08, 0.0), 0.0, list[float | None]()
    for width in [*np.arange(0.08, -0.0001, -0.001), *[0.0] * 100, *np.arange(0.0, 0.0801, 0.001), *[0.08] * 100]:
        now += 0.01
        found.append(intent.told(max(0.0, float(width)), now))
    assert [width for width in found if width is not None] == [0.0, 0.08]
    assert found.index(0.0) < 20 and found.index(0.08) < 81 + 100 + 20  # soon after it has begun


def test_a_ramp_that_ends_on_the_way_is_told_by_two_widths_at_most_and_ends_there():
    intent, now = HandIntent(0.08, 0.08, 0.0), 0.0
    found = []
    for turn in range(200):
        now = 0.02 * turn
        found.append(intent.told(max(0.04, 0.08 - 0.002 * turn), now))
    assert [width for width in found if width is not None] == [0.0, 0.04]
    assert intent.told(0.0395, now + 0.02) is None and intent.told(0.0395, now + 0.5) is None  # an unsteady hand
    assert intent.told(0.01, now + 0.6) == 0.01  # a jump says where it goes
    assert [intent.told(0.01 + 0.003 * turn, now + 0.7 + 0.02 * turn) for turn in range(6)] == [None] * 5 + [0.08]


class StuckHand(Hand):
    """A hand that never comes back from a motion, as the simulator's that was stopped in one."""

    def __init__(self) -> None:
        super().__init__()
        self.state_now.width, self.freed = 0.04, threading.Event()

    def move_async(self, width: float, speed: float) -> Motion:
        self.freed.wait()
        return super().move_async(width, speed)


def test_a_hand_that_never_comes_back_is_a_fault(monkeypatch):
    monkeypatch.setattr(session, "_HAND_PATIENCE", 0.2)
    hand = StuckHand()
    thread = HandThread(hand, (RuntimeError,), 0.1, 30.0, stops=True)
    assert thread.problem is None
    thread.open_to(0.08)
    eventually(lambda: thread.problem is not None)
    assert "hand: no answer for" in str(thread.problem)
    hand.freed.set()
    thread.close()


@needs_sdk
def test_a_hand_that_is_told_another_width_on_its_way_goes_there(simulator):
    device = connected()
    device.hold()
    for wanted in (0.0, 0.08, 0.02):  # each for a shorter time than the way takes

        def moves(goal: float = wanted) -> bool:
            start = device.read().width
            device.write(WAKES, goal)
            return abs(device.read().width - start) > 1e-4 or abs(start - goal) < 5e-3

        eventually(moves)

    def there() -> bool:
        device.write(WAKES, 0.02)
        return abs(device.read().width - 0.02) < 3e-3

    eventually(there)
    device.close()


@needs_sdk
def test_a_simulator_that_is_killed_in_motion_is_lost_and_one_that_is_started_again_is_found(device, simulator):
    device.hold()
    device.write(WAKES + 0.1, 0.04)
    simulator.kill()
    assert ADDRESS in str(fails(device, ""))
    again = Simulator()
    try:
        eventually(lambda: connects(device))
        device.hold()
        assert device.read().positions.shape == (7,)
        device.close()
    finally:
        again.kill()


@needs_sdk
def test_a_robot_that_falls_silent_is_noticed_by_its_old_state(simulator):
    device = connected(feedback_timeout=0.5)
    device.hold()
    simulator.process.send_signal(signal.SIGSTOP)
    assert ADDRESS in str(fails(device, "the same state for"))
    simulator.process.send_signal(signal.SIGCONT)
    device.close()


@needs_sdk
def test_a_second_program_at_the_same_robot_is_told_so(device):
    device.read()
    second = make(ROBOT, SETTINGS | {"connect_timeout": 0.5}, "a test")
    with pytest.raises(DriverError, match="does another program control it"):
        second.connect()


@needs_sdk
def test_a_driver_moves_a_simulated_arm_along_a_plan_and_says_when_it_is_gone(simulator):
    follow_over_a_kill(
        make(ROBOT, SETTINGS, "a test"),
        ROBOT,
        simulator,
        Simulator,
        start=WAKES,
        goal=WAKES + np.array([0.3, 0.1, 0.0, -0.1, 0.0, 0.1, 0.0]),
        away=WAKES,
        within=0.05,
    )
