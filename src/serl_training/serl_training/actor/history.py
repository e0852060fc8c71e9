# SPDX-License-Identifier: Apache-2.0
"""Observations whose vectors hold the newest values and those of the steps before, `acting.history` in all.

The newest come first. Before the first step of an episode there was nothing: its first values stand for what was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, cast

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from serl_rl.spec import DataError, TransitionSpec
from serl_rl.storage.chunk import Chunk

from serl_training.env.episode import Observation


class HistoryEnv(gym.Wrapper[Observation, NDArray[np.float32], Observation, NDArray[np.float32]]):
    """An environment whose vectors remember."""

    def __init__(self, env: gym.Env[Observation, NDArray[np.float32]], history: int, vectors: tuple[str, ...]) -> None:
        """Wrap an environment.

        Args:
            env: whose observations hold vectors (k,).
            history: values that an observation holds of each, so that they are (history * k,).
            vectors: names of these entries.
        """
        super().__init__(env)
        self._past: dict[str, deque[NDArray[Any]]] = {name: deque(maxlen=history) for name in vectors}
        spaces = dict(cast(gym.spaces.Dict, env.observation_space).spaces)
        for name in vectors:
            box = cast(gym.spaces.Box, spaces[name])
            low, high = (np.tile(bound, history) for bound in (box.low, box.high))
            spaces[name] = gym.spaces.Box(low, high, dtype=np.float32)
        self.observation_space = cast(gym.Space[Observation], gym.spaces.Dict(spaces))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        for past in self._past.values():
            past.clear()
        return self._remember(observation), info

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, Any, bool, bool, dict[str, Any]]:
        """Act for one step by an action (A,); observations hold the newest values first."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._remember(observation), reward, terminated, truncated, info

    def _remember(self, observation: Observation) -> Observation:
        held = dict(observation)
        for name, past in self._past.items():
            past.extendleft([observation[name]] * (1 if past else past.maxlen or 1))
            held[name] = np.concatenate(past)
        return held


def with_history(chunks: Iterable[Chunk], spec: TransitionSpec, history: int) -> Iterator[Chunk]:
    """Chunks of single values, in order, as an environment that remembers would have given them.

    Args:
        chunks: whole episodes in consecutive pieces.
        spec: of the chunks that are wanted.
        history: as of a `HistoryEnv`.

    Raises:
        DataError: a piece of an episode comes without the one before it, or does not fit the specification.
    """
    newest: dict[str, NDArray[Any]] = {}
    expected: tuple[str, int, int] | None = None
    for chunk in chunks:
        if chunk.first_step and expected != (chunk.actor_id, chunk.episode, chunk.first_step):
            raise DataError("first_step", "0, or the step behind the chunk before it", str(chunk.first_step))
        observation = dict(chunk.observation)
        for name in spec.vector_names:
            rows = chunk.observation[name]
            before = newest[name] if chunk.first_step else np.repeat(rows[:1], history - 1, axis=0)
            all_rows = np.concatenate([before, rows])
            observation[name] = np.concatenate(
                [all_rows[history - 1 - age : len(all_rows) - age] for age in range(history)], axis=1
            )
            newest[name] = all_rows[len(all_rows) - history : -1]  # the last row is the first of the next chunk
        expected = (chunk.actor_id, chunk.episode, chunk.first_step + len(chunk))
        remembering = replace(chunk, observation=observation, meaning=spec.meaning_hash)
        remembering.check(spec)
        yield remembering
