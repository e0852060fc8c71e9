# SPDX-License-Identifier: Apache-2.0
"""Episodes of an environment, cut into the chunks that the learner stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from serl_rl.storage.chunk import Chunk, stack_observations

Observation = dict[str, NDArray[Any]]


class EpisodeLost(RuntimeError):
    """The running episode cannot be finished; a new one may work."""


class Behaviour(Protocol):
    """What chooses actions."""

    def reset(self) -> None:
        """Begin an episode."""

    def act(self, observation: Observation) -> tuple[NDArray[np.float32], int]:
        """Return the action (n,) in [-1, 1] and the version of the policy that chose it."""


@dataclass(frozen=True)
class EpisodeSummary:
    """How an episode went."""

    episode: int
    length: int
    total_reward: float
    success: bool
    interventions: int
    """Number of steps in which a person led."""


class ChunkBuilder:
    """Collects the transitions of one episode and hands them out as chunks of at most `size` transitions."""

    def __init__(
        self,
        observation: Observation,
        *,
        actor_id: str,
        episode: int,
        demonstration: bool,
        size: int,
        encoder: str = "",
        frame_stack: int = 1,
        meaning: str = "",
    ) -> None:
        """Start at the first observation of an episode; the last three are of the `TransitionSpec`, see `Chunk`."""
        self._actor_id, self._episode, self._demonstration, self._size = actor_id, episode, demonstration, size
        self._encoder, self._frame_stack, self._meaning = encoder, frame_stack, meaning
        self._first_step = 0
        self._start([observation])

    def _start(self, observations: list[Observation]) -> None:
        """Begin a chunk at the last of some observations; those before it are what frames are stacked with."""
        self._observations = observations
        self._history = len(observations) - 1
        self._actions: list[NDArray[np.float32]] = []
        self._rewards: list[float] = []
        self._interventions: list[bool] = []
        self._versions: list[int] = []

    def add(
        self,
        executed: NDArray[np.float32],
        reward: float,
        observation: Observation,
        *,
        terminated: bool,
        truncated: bool,
        intervention: bool,
        version: int,
        success: bool,
    ) -> Chunk | None:
        """Add one transition; return a chunk when it is full or the episode has ended."""
        self._actions.append(executed)
        self._rewards.append(reward)
        self._observations.append(observation)
        self._interventions.append(intervention)
        self._versions.append(version)
        if not (terminated or truncated) and len(self._actions) < self._size:
            return None
        return self._cut(terminated, truncated and not terminated, success)

    def flush(self) -> Chunk | None:
        """Return what was collected of an episode that is left before its end, if anything."""
        return self._cut(False, False, False) if self._actions else None

    def _cut(self, terminated: bool, truncated: bool, success: bool) -> Chunk:
        count = len(self._actions)
        mask = np.ones(count, np.float32)
        cut = np.zeros(count, np.bool_)
        mask[-1], cut[-1] = float(not terminated), truncated
        ended = terminated or truncated
        chunk = Chunk(
            observation=stack_observations(self._observations, self._history),
            action=np.stack(self._actions).astype(np.float32),
            reward=np.array(self._rewards, np.float32),
            mask=mask,
            truncated=cut,
            intervention=np.array(self._interventions, np.bool_),
            policy_version=np.array(self._versions, np.uint64),
            actor_id=self._actor_id,
            episode=self._episode,
            first_step=self._first_step,
            demonstration=self._demonstration,
            last=ended,
            success=ended and success,
            encoder=self._encoder,
            frame_stack=self._frame_stack,
            meaning=self._meaning,
        )
        self._first_step += count
        self._start(self._observations[-self._frame_stack :])
        return chunk


def run_episode(
    env: gym.Env[Observation, NDArray[np.float32]],
    behaviour: Behaviour,
    *,
    seed: int,
    options: dict[str, Any],
    before_step: Callable[[], None] = lambda: None,
    on_chunk: Callable[[Chunk], None] = lambda _chunk: None,
    on_info: Callable[[dict[str, Any]], None] = lambda _info: None,
    actor_id: str = "actor",
    demonstration: bool = False,
    chunk_size: int = 8,
    encoder: str = "",
    frame_stack: int = 1,
    meaning: str = "",
) -> EpisodeSummary:
    """Run one episode to its end.

    Args:
        env: whose ``info`` has ``executed_action``, ``intervention`` and ``success``.
        behaviour: chooses the actions.
        seed: of the start state.
        options: of the reset; ``episode`` is the number under which the transitions are stored.
        before_step: called before each step; may wait, or raise to leave the episode.
        on_info: gets what `reset` and each `step` say besides, before the next action is chosen.
        on_chunk: gets each chunk as soon as it is full, and what there is when the episode is left early.
        actor_id: stored with the transitions.
        demonstration: stored with the transitions.
        chunk_size: most transitions of a chunk.
        encoder: of the `TransitionSpec`, stored with the transitions.
        frame_stack: of the `TransitionSpec`, stored with the transitions.
        meaning: hash of the meaning, of the `TransitionSpec`, stored with the transitions.
    """
    observation, info = env.reset(seed=seed, options=options)
    behaviour.reset()
    on_info(info)
    builder = ChunkBuilder(
        observation,
        actor_id=actor_id,
        episode=options["episode"],
        demonstration=demonstration,
        size=chunk_size,
        encoder=encoder,
        frame_stack=frame_stack,
        meaning=meaning,
    )
    length, total_reward, interventions = 0, 0.0, 0
    try:
        while True:
            before_step()
            action, version = behaviour.act(observation)
            observation, reward, terminated, truncated, info = env.step(action)
            on_info(info)
            length += 1
            total_reward += float(reward)
            interventions += info["intervention"]
            chunk = builder.add(
                info["executed_action"],
                float(reward),
                observation,
                terminated=terminated,
                truncated=truncated,
                intervention=info["intervention"],
                version=version,
                success=info["success"],
            )
            if chunk is not None:
                on_chunk(chunk)
            if terminated or truncated:
                return EpisodeSummary(options["episode"], length, total_reward, info["success"], interventions)
    finally:
        rest = builder.flush()
        if rest is not None:
            on_chunk(rest)


def episode_seeds(seed: int, purpose: str) -> Iterator[int]:
    """Endless start-state seeds for one purpose; different purposes never share a stream."""
    generator = np.random.default_rng([seed, *purpose.encode()])
    while True:
        yield int(generator.integers(2**31))


def episode_seed(seed: int, purpose: str, episode: int) -> int:
    """The start-state seed of one numbered episode, the same after a restart."""
    return int(np.random.default_rng([seed, episode, *purpose.encode()]).integers(2**31))
