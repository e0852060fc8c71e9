# SPDX-License-Identifier: Apache-2.0
"""What grippers meet is held and not pushed: by the target near it, or by a torque that is bounded."""

from pathlib import Path

import pytest
from patience import eventually
from serl_drivers.feetech.device import make
from serl_drivers.grip import Grip
from serl_feetech.emulated.pseudo_terminal import PseudoTerminal
from serl_robots.model.robot import load_robot

PERIOD, SPEED = 0.01, 0.15


class Fingers:
    """They follow their target at a speed, late, and stop at what is between them."""

    def __init__(self, stop: float = 0.0) -> None:
        self.width, self.stop = 0.08, stop
        self.way = [self.width] * 8

    def move(self, target: float) -> None:
        self.way = [*self.way[1:], target]
        step = min(max(self.way[0] - self.width, -SPEED * PERIOD), SPEED * PERIOD)
        self.width = max(self.width + step, min(self.width, self.stop))


def closed(grip: Grip, fingers: Fingers, turns: int, goal: float = 0.0, start: float = 0.08) -> list[float]:
    """Targets as a driver ramps them down, from `start` to `goal` [m]."""
    targets = []
    for turn in range(turns):
        wanted = max(goal, start - SPEED * PERIOD * turn)
        targets.append(grip.target(wanted, fingers.width, PERIOD * turn))
        fingers.move(targets[-1])
    return targets


def test_fingers_that_meet_nothing_are_not_kept_back() -> None:
    grip, fingers = Grip(0.005), Fingers()
    assert closed(grip, fingers, 200)[-1] == 0.0
    assert fingers.width == pytest.approx(0.0) and not grip.holds


def test_fingers_that_meet_something_are_sent_little_further_and_open_at_once() -> None:
    grip, fingers = Grip(0.005), Fingers(stop=0.03)
    targets = closed(grip, fingers, 200)
    assert grip.holds and targets[-50:] == pytest.approx([0.025] * 50)
    assert grip.target(0.031, 0.03, 9.0) == 0.031 and not grip.holds


def test_what_is_lost_is_not_held() -> None:
    grip, fingers = Grip(0.005), Fingers(stop=0.03)
    closed(grip, fingers, 200)
    fingers.stop = 0.0
    assert closed(grip, fingers, 300, start=0.0)[-1] == 0.0
    assert fingers.width == pytest.approx(0.0)


def test_the_jaw_of_servos_presses_with_its_share_of_torque_and_no_more(
    terminal: PseudoTerminal, calibration: Path
) -> None:
    device = make(load_robot("so101"), {"port": terminal.path, "calibration": str(calibration), "grip": 0.25}, "a test")
    device.connect()
    device.hold()
    jaw = terminal.bus.servo(6)
    blocked = jaw.position
    terminal.change(lambda bus: (setattr(jaw, "hand", blocked), setattr(jaw, "hand_strength", 300.0))[0])
    reading = device.read()

    def pressed() -> bool:
        device.write(reading.positions, 0.0)
        return abs(jaw.load) >= 250.0

    eventually(pressed)
    for _ in range(20):
        device.write(reading.positions, 0.0)
        assert device.read().faults == ()
    assert abs(jaw.load) == 250.0 and jaw.position == blocked
    device.close()
