# SPDX-License-Identifier: Apache-2.0
"""Motion that shows a task in all its states: done, half done, undone, gone wrong. For whoever learns to judge it."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from serl_robots.model.pose import Pose

from serl_tasks.arm_sample import ArmSample
from serl_tasks.task import Task

_NOISES = (0.0, 0.3, 0.8)
_LENGTHS = (2, 9)  # control steps of one piece, from and below
_UNDISTURBED = 0.4  # share of the pieces in which the expert does as it likes
_RANDOM = 0.15  # share of the pieces without the expert
_HELD = 0.4  # chance of each component to be held at a value of its own, in the others
_SECOND_LOOK = 0.15  # chance, with each piece, that the expert looks anew where the objects are
_MISTAKEN = 0.5  # share of the looks that are mistaken,
_MISTAKE = ((-0.025, -0.025, -0.01), (0.025, 0.025, 0.03))  # by something between these [m]


class VariedExpert:
    """The task's expert, of whose actions some components are held at random values for some steps, again and again.

    A hand that is held closed goes up empty, one that is held open drops what it has, one whose height is held stops
    half way; the expert in between brings it back to where success is near. Often it is mistaken about where the
    objects are, and takes hold of an edge.
    """

    def __init__(self, task: Task, rng: np.random.Generator) -> None:
        """Act in `task`."""
        self._task, self._rng = task, rng
        self.reset()

    def reset(self) -> None:
        """Begin an episode."""
        self._left = 0
        self._look()

    def act(self, arm: ArmSample, objects: Mapping[str, Pose]) -> NDArray[np.float32]:
        """Normalized action for this state, float32 (n,) in [-1, 1]."""
        if self._left == 0:
            self._begin_piece()
        self._left -= 1
        seen = {
            name: pose if name == "tcp" else Pose(pose.position + self._mistake, pose.quaternion)
            for name, pose in objects.items()
        }
        action = self._expert.act(arm, seen)
        return np.where(self._held, self._values, action).astype(np.float32)

    def _look(self) -> None:
        self._mistake = self._rng.uniform(*_MISTAKE) * (self._rng.random() < _MISTAKEN)

    def _begin_piece(self) -> None:
        rng, size = self._rng, len(self._task.action)
        if rng.random() < _SECOND_LOOK:
            self._look()
        self._left = int(rng.integers(*_LENGTHS))
        self._expert = self._task.make_expert(rng, noise=float(rng.choice(_NOISES)))
        kind = rng.random()
        chance = 0.0 if kind < _UNDISTURBED else 1.0 if kind < _UNDISTURBED + _RANDOM else _HELD
        self._held = rng.random(size) < chance
        # Grippers are commanded by their width: values at the ends of the range are what opens and closes them.
        extreme = rng.random(size) < 0.5
        self._values = np.where(extreme, rng.choice([-1.0, 1.0], size), rng.uniform(-1.0, 1.0, size))
