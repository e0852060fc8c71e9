# SPDX-License-Identifier: Apache-2.0
"""The imported policy beside the learner: what it would do at each observation becomes a part of the observation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, cast

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from serl_rl.base_action import BASE_ACTION
from serl_rl.policy.acting_policy import ActingPolicy
from serl_rl.spec import DataError, TransitionSpec
from serl_rl.storage.chunk import Chunk

from serl_training.env.episode import Observation


class BaseActionEnv(gym.Wrapper[Observation, NDArray[np.float32], Observation, NDArray[np.float32]]):
    """An environment that says beside each observation what an imported policy would do there."""

    def __init__(self, env: gym.Env[Observation, NDArray[np.float32]], policy: ActingPolicy) -> None:
        """Wrap an environment.

        Args:
            env: with observations as its task has them: pictures as cameras give them.
            policy: the imported one, for these.
        """
        super().__init__(env)
        self._policy = policy
        spaces = dict(cast(gym.spaces.Dict, env.observation_space).spaces)
        spaces[BASE_ACTION] = gym.spaces.Box(-1.0, 1.0, (policy.action_dim,), np.float32)
        self.observation_space = cast(gym.Space[Observation], gym.spaces.Dict(spaces))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._policy.reset()
        return self._with_base(observation), info

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, Any, bool, bool, dict[str, Any]]:
        """Act for one step by an action (A,). Where somebody else led, the imported policy looks anew."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if info.get("interrupted", info.get("intervention", False)):
            self._policy.reset()
        return self._with_base(observation), reward, terminated, truncated, info

    def _with_base(self, observation: Observation) -> Observation:
        return {**observation, BASE_ACTION: base_action(self._policy, observation)}


def base_action(policy: ActingPolicy, observation: Observation) -> NDArray[np.float32]:
    """What an imported policy would do at an observation, (A,) in [-1, 1]."""
    return np.clip(policy.act(observation, deterministic=True), -1.0, 1.0).astype(np.float32)


def with_base_actions(
    chunks: Iterable[Chunk], pictures: Iterable[Chunk], policy: ActingPolicy, spec: TransitionSpec
) -> Iterator[Chunk]:
    """Chunks of demonstrations, in order, as an environment beside an imported policy would have given them.

    Args:
        chunks: whole episodes in consecutive pieces, as the learner takes them.
        pictures: the same pieces with observations as the task has them.
        policy: the imported one.
        spec: of the chunks that are wanted.

    Raises:
        DataError: a piece of an episode comes without the one before it, or does not fit the specification.
    """
    newest = np.zeros(0, np.float32)
    expected: tuple[str, int, int] | None = None
    for chunk, seen in zip(chunks, pictures, strict=True):
        if chunk.first_step and expected != (chunk.actor_id, chunk.episode, chunk.first_step):
            raise DataError("first_step", "0, or the step behind the chunk before it", str(chunk.first_step))
        if not chunk.first_step:
            policy.reset()
            newest = base_action(policy, _row(seen, 0))
        actions = [newest]
        for step in range(len(chunk)):
            if chunk.intervention[step]:
                policy.reset()
            actions.append(base_action(policy, _row(seen, step + 1)))
        newest = actions[-1]
        expected = (chunk.actor_id, chunk.episode, chunk.first_step + len(chunk))
        whole = replace(
            chunk, observation={**chunk.observation, BASE_ACTION: np.stack(actions)}, meaning=spec.meaning_hash
        )
        whole.check(spec)
        yield whole


def _row(chunk: Chunk, row: int) -> Observation:
    return {name: rows[row] for name, rows in chunk.observation.items()}
