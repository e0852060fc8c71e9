# SPDX-License-Identifier: Apache-2.0
"""What is known in an episode, and the state vector that says it."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from serl_robots.control.action import Frame
from serl_robots.model.pose import Pose

from serl_tasks.arm_sample import ArmSample
from serl_tasks.episode_errors import EpisodeErrors, ErrorSettings, observation_noise
from serl_tasks.observation import StateVector
from serl_tasks.state_terms import Moment


class Observer:
    """Makes the observations of one episode after the other: `begin`, then `advance` with each step.

    Between these it remembers nothing: the same measurements give the same observation as often as one looks.
    """

    def __init__(
        self, vector: StateVector, settings: ErrorSettings, *, frame: Frame, horizon: int, action_size: int
    ) -> None:
        """Observe.

        Args:
            vector: what is observed.
            settings: of the errors of what is known.
            frame: of what is observed.
            horizon: control steps until an episode is cut off.
            action_size: A, number of components of an action.

        Raises:
            ConfigError: a term is said to be noisy that is not in the vector.
        """
        self._vector, self._settings, self._horizon = vector, settings, horizon
        self._frame: Frame = frame
        self._no_action = np.zeros(action_size, np.float32)
        self._deviations = vector.noise(settings)
        self._errors: EpisodeErrors | None = None
        self._start: Pose
        self._starts: dict[str, Pose] = {}
        self._start_wrench: NDArray[np.float64] | None = None
        self._last_action = self._no_action
        self._seed = self._step = 0

    @property
    def has_begun(self) -> bool:
        """Whether there was an episode yet."""
        return self._errors is not None

    @property
    def errors(self) -> EpisodeErrors:
        """What is wrong in this episode of what is measured and known. Raises RuntimeError before the first `begin`."""
        if self._errors is None:
            raise RuntimeError("no episode has begun; call begin() first")
        return self._errors

    def begin(self, arm: ArmSample, seed: int) -> None:
        """Begin an episode.

        Args:
            arm: as it is measured in the start state.
            seed: of that state.

        Raises:
            ValueError: `seed` is negative.
        """
        self._errors = self._settings.draw(seed)
        known = self._errors.arm(arm)
        self._start = known.tcp
        self._starts = {name: each.tcp for name, each in known.arms.items()}
        self._start_wrench = arm.wrench
        self._last_action = self._no_action
        self._seed, self._step = seed, 0

    def advance(self, action: NDArray[np.float32]) -> None:
        """A control step is over, in which this action (A,) was executed."""
        self._last_action = action
        self._step += 1

    def known(self, arm: ArmSample, objects: Mapping[str, Pose]) -> tuple[ArmSample, Mapping[str, Pose]]:
        """What is known of the arm and of the objects, whose true poses these are: what an expert acts on.

        Raises:
            RuntimeError: before the first `begin`.
        """
        if self._step == 0:
            arm = arm.at_start()
        return self.errors.arm(arm), self.errors.objects(objects)

    def state(self, arm: ArmSample, objects: Mapping[str, Pose]) -> NDArray[np.float32]:
        """The entry ``state`` of the observation, float32 (k,).

        Args:
            arm: as it is measured.
            objects: true poses, base frame; those that the state takes.

        Raises:
            RuntimeError: before the first `begin`.
        """
        elapsed = min(self._step / self._horizon, 1.0)
        moment = Moment(
            *self.known(arm, objects),
            self._start,
            elapsed,
            self._last_action,
            self._frame,
            self._start_wrench,
            self._starts,
        )
        noise = None
        if self._deviations is not None:
            noise = self._deviations * observation_noise(len(self._deviations), self._seed, self._step)
        return self._vector(moment, noise)
