# SPDX-License-Identifier: Apache-2.0
"""A person made of code: demonstrates, watches the policy, takes over when it drifts and gives back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from serl_robots.model.pose import Pose
from serl_tasks.drift import DriftMonitor

from serl_tasks import ArmSample, Task


class ScriptedHuman:
    """Decides for each control step whether the person leads, and with which action."""

    def __init__(self, task: Task, seed: int, *, demonstration_noise: float = 0.3, interventions: bool = True) -> None:
        """Make a person.

        Args:
            task: with a scripted expert.
            seed: of the person's own randomness.
            demonstration_noise: standard deviation added to the normalized actions of demonstrations, so that they
                show recoveries too.
            interventions: whether the person takes over during training.
        """
        self._task, self._seed = task, seed
        self._noise, self._interventions = demonstration_noise, interventions
        self.begin(0, 0, demonstrating=False)

    def begin(self, episode: int, start_seed: int, *, demonstrating: bool) -> None:
        """Start an episode; the same seed and episode give the same person.

        Args:
            episode: its number.
            start_seed: the seed of its start state, and so of what the person knows of that.
            demonstrating: whether the person leads all the time.

        Raises:
            ValueError: `start_seed` is negative.
        """
        self._errors = self._task.errors.draw(start_seed)
        self._at_start = True
        rng = np.random.default_rng([self._seed, episode])
        self._demonstrating = demonstrating
        self._expert = self._task.make_expert(rng, noise=self._noise if demonstrating else 0.0)
        self._drift = DriftMonitor(rng)

    def act(self, arm: ArmSample, objects: Mapping[str, Pose]) -> NDArray[np.float32] | None:
        """Return the person's action (n,) in [-1, 1], or None while the policy leads. Call it once for each step.

        The person sees from the true poses, which these are, how the policy gets on. They act on what the robot knows.
        """
        if self._at_start:
            self._at_start, arm = False, arm.at_start()
        leads = self._demonstrating or (self._interventions and self._drift.leads(self._task.distance_to_goal(objects)))
        return self._expert.act(self._errors.arm(arm), self._errors.objects(objects)) if leads else None
