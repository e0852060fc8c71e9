# SPDX-License-Identifier: Apache-2.0
"""A robot bench of its own making: a simulated arm behind a serial port, and a leader arm behind another one.

Its folder has what a driver needs: `follower` and `leader` lead to the ports, and `follower.json` and `leader.json` are
the calibrations of the arms, in LeRobot's format.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from serl_feetech.calibration import write_calibration
from serl_feetech.emulated.bus import EmulatedBus
from serl_feetech.emulated.pseudo_terminal import PseudoTerminal
from serl_tasks.task import Task

from serl_sim.emulated.servo_plant import ServoPlant, calibrated_servo, calibration_of, steps_at
from serl_sim.world import World

FOLLOWER: Final = "follower"
LEADER: Final = "leader"


class EmulatedBench:
    """Serves both buses in threads of their own until it is closed, in real time.

    Attributes:
        plant: the arm, its servos and the world around it; touch it within `change` only.
        view: a world to look at, which shows what `look` has found.
        follower: the serial port of the arm.
        leader: the serial port of the leader, whose servos people move by hand.
    """

    def __init__(self, task: Task, seed: int, folder: Path) -> None:
        """Build it.

        Args:
            task: whose world it is.
            seed: of where the objects lie at first.
            folder: gets the links to the ports, and the calibrations; made if it is not there.

        Raises:
            ConfigError: there is no such world.
            ValueError: the robot of the task is none that servos can turn, or the world cannot be built.
            OSError: the folder cannot be written.
        """
        world = World(task)
        world.reset(seed)
        self.view = copy.deepcopy(world)
        calibration = calibration_of(world)
        self.plant = ServoPlant(world, calibration)
        folder.mkdir(parents=True, exist_ok=True)
        for name in (FOLLOWER, LEADER):
            write_calibration(folder / f"{name}.json", calibration)
        leader = [
            calibrated_servo(each, servo.position)
            for each, servo in zip(calibration.values(), self.plant.servos.values(), strict=True)
        ]
        self.follower = PseudoTerminal(
            EmulatedBus(self.plant.servos.values(), mechanics=self.plant.move), folder / FOLLOWER
        )
        self.leader = PseudoTerminal(EmulatedBus(leader), folder / LEADER)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def look(self) -> str:
        """Let `view` show the world as it is now; returns why nothing moves there any more, empty while it can."""
        problem = ""

        def show(_bus: EmulatedBus) -> None:
            nonlocal problem
            problem = self.plant.broken
            if not problem:
                self.view.show(self.plant.world)

        self.follower.change(show)
        return problem

    def place_objects(self, seed: int) -> None:
        """Put the objects where `seed` puts them; the arm stays where it is.

        Raises:
            ValueError: `seed` is negative.
        """
        self.change(lambda plant: plant.place_objects(seed))

    def change(self, what: Callable[[ServoPlant], None]) -> None:
        """Do something to arm and world while they are served: plant a fault, place things."""
        self.follower.change(lambda _bus: what(self.plant))

    def describe(self) -> tuple[str, dict[str, str]]:
        """How it is, for people, and what there is to know beside that."""
        with_torque = loads = ""

        def ask(plant: ServoPlant) -> None:
            nonlocal with_torque, loads
            servos = plant.servos
            with_torque = ", ".join(name for name, servo in servos.items() if servo.torque_enabled)
            loads = ", ".join(f"{name} {0.1 * servo.load:.0f} %" for name, servo in servos.items())

        self.change(ask)
        return f"torque: {with_torque or 'none'}", {"loads": loads}

    def hold_leader(self, angles: list[float] | None) -> None:
        """Take the leader's joints by the hand and bring them to angles [rad], in their order; None: let go."""

        def by_hand(bus: EmulatedBus) -> None:
            for index, servo in enumerate(bus.servos):
                servo.hand = None if angles is None else steps_at(angles[index], servo.offset)

        self.leader.change(by_hand)

    def close(self) -> None:
        """Unplug both arms, and give the OpenGL contexts back. A second call does nothing."""
        self.follower.close()
        self.leader.close()
        self.view.close()
