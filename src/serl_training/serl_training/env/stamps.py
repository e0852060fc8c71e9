# SPDX-License-Identifier: Apache-2.0
"""When the observations of an episode were made: what a recording keeps, and learning does not need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from serl_training.env.episode import Observation


class StampedEnv(gym.Wrapper[Observation, NDArray[np.float32], Observation, NDArray[np.float32]]):
    """An environment that remembers when each observation since its last reset was made.

    It is asked beside `info`, which is the same for the same seed and actions; a stamp never is.
    """

    def __init__(self, env: gym.Env[Observation, NDArray[np.float32]], newest: Callable[[], int]) -> None:
        """Wrap an environment; `newest` says the stamp of its newest observation [ns]."""
        super().__init__(env)
        self._newest = newest
        self._stamps: list[int] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode; the stamps of the last one are forgotten."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._stamps = [self._newest()]
        return observation, info

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, Any, bool, bool, dict[str, Any]]:
        """Act for one step by an action (A,)."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._stamps.append(self._newest())
        return observation, reward, terminated, truncated, info

    def stamps(self, first_step: int, steps: int) -> NDArray[np.int64]:
        """(steps + 1,) [ns] of the observations before `first_step` and behind it and each step that follows.

        Raises:
            IndexError: the episode has not had so many steps.
        """
        last = first_step + steps
        if not 0 <= first_step <= last < len(self._stamps):
            raise IndexError(f"steps {first_step} to {last}: the episode has had {len(self._stamps) - 1}")
        return np.array(self._stamps[first_step : last + 1], np.int64)
