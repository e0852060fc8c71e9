# SPDX-License-Identifier: Apache-2.0
"""A world with objects around an arm that is emulated elsewhere: it goes along with what the arm's driver measures.

A vendor's emulator has an arm and no objects. Here is a second arm in a world that has them, whose joints are pulled to
where the driver has measured the emulated ones, so that its fingers take objects along by friction and force. The
objects do not act back: the emulated arm neither feels what it pushes nor that something is between its fingers.
Of a task of two arms each goes along with its own driver's.
"""

from __future__ import annotations

import copy
import threading
import time
from types import TracebackType
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from serl_tasks.arm_sample import arm_topic
from serl_tasks.task import Task

from serl_sim.scene.scene import TIMESTEP
from serl_sim.world import SimulationError, World

_LONGEST: Final = 0.1  # [s] of time that the world makes up for at once
_ELSEWHERE: Final = 0.35  # [rad] of the way to the measured arm, from which the world's arm is put there


class FollowingBench:
    """See the module. Every method may be called from any thread.

    Attributes:
        view: a world to look at, which shows what `look` has found.
    """

    def __init__(self, task: Task, seed: int) -> None:
        """Build it.

        Args:
            task: whose world it is.
            seed: of where the objects lie at first.

        Raises:
            ConfigError: there is no such world.
            ValueError: the world cannot be built.
        """
        self._world = World(task)
        self._world.reset(seed)
        self.view = copy.deepcopy(self._world)
        gains = self._world.robot.simulation.joints
        self._lead = np.array(gains.damping) / np.array(gains.stiffness)  # [s] by which a joint lags when it is pulled
        self._arm_joints = len(self._world.robot.arm_joints)
        self._broken = ""
        self._heard: set[str] = set()  # prefixes of arms
        self._at: float | None = None
        self._left = 0.0  # [s] that have passed and are less than a physics step
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def follow(
        self, positions: NDArray[np.float64], velocities: NDArray[np.float64], now: float, arm: str = ""
    ) -> None:
        """Go along with a measured arm.

        Args:
            positions: (n,) of its joints, in the order of ``robot.joints`` [rad], [m].
            velocities: (n,) of them [rad/s], [m/s].
            now: monotonic time [s].
            arm: prefix of the arm, of two.

        Raises:
            ValueError: they are not as many, or not finite.
        """
        world = self._world
        if positions.shape != (expected := (len(world.robot.joints),)) or velocities.shape != expected:
            raise ValueError(
                f"expected {expected[0]} positions and velocities, found {positions.size}, {velocities.size}"
            )
        if not (np.isfinite(positions).all() and np.isfinite(velocities).all()):
            raise ValueError(f"expected finite positions and velocities, found {positions.tolist()}")
        own = world.arms[arm]
        with self._lock:
            self._pass_time(now)
            joints = positions[: self._arm_joints]
            away = np.abs(joints - own.positions(world.data)[: self._arm_joints]).max()
            if arm not in self._heard or away > _ELSEWHERE:
                own.place(world.data, positions, velocities)
                self._heard.add(arm)
            world.command_joints(joints + self._lead * velocities[: self._arm_joints], arm)
            world.command_gripper(world.robot.gripper.width(positions[self._arm_joints :].tolist()), arm)

    def look(self) -> str:
        """Let `view` show the world as it is now; returns why nothing moves there any more, empty while it can."""
        with self._lock:
            self._pass_time(time.monotonic())
            if not self._broken:
                self.view.show(self._world)
            return self._broken

    def place_objects(self, seed: int) -> None:
        """Put the objects where `seed` puts them; the arm stays where it is.

        Raises:
            ValueError: `seed` is negative.
        """
        with self._lock:
            self._world.place_objects(seed)
            self._broken = ""

    def describe(self) -> tuple[str, dict[str, str]]:
        """How it is, for people, and what there is to know beside that."""
        silent = [arm_topic(arm, "joint_states") for arm in self._world.arms if arm not in self._heard]
        return (f"no {', '.join(silent)} of the driver yet" if silent else "goes along with the driver's arm"), {}

    def close(self) -> None:
        """Give the OpenGL contexts back. A second call does nothing."""
        self.view.close()

    def _pass_time(self, now: float) -> None:
        """Let the world move up to a time [s], in real time: what a machine has slept through does not happen."""
        if self._at is not None:
            self._left += min(now - self._at, _LONGEST)
        self._at = now
        steps = int(self._left / TIMESTEP + 1e-6)
        if steps <= 0 or self._broken:
            return
        self._left = max(self._left - steps * TIMESTEP, 0.0)
        try:
            self._world.advance(steps)
        except SimulationError as error:
            self._broken = str(error)
