# SPDX-License-Identifier: Apache-2.0
"""One episode of an environment, cut into the chunks that the learner stores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from serl_rl.spec import TransitionSpec
from serl_rl.storage.chunk import Chunk, stack_observations

from serl_training.actor.behaviours import Behaviour
from serl_training.env.episode import EpisodeDiscarded, EpisodeMode, EpisodeStart, Observation, WorldBroken


@dataclass(frozen=True)
class ChunkFormat:
    """What all chunks of an actor have in common."""

    spec: TransitionSpec
    actor_id: str = "actor"
    size: int = 8
    """The largest number of transitions in a chunk."""


@dataclass(frozen=True)
class EpisodeSummary:
    """How an episode went."""

    episode: int
    length: int
    total_reward: float
    success: bool
    interventions: int
    """Number of steps in which a person led."""


@dataclass(frozen=True)
class StepOutcome:
    """What one step of an environment led to, besides the next observation."""

    executed: NDArray[np.float32]
    """The action (A,) in [-1, 1] that was executed, which need not be the one that was chosen."""
    reward: float
    terminated: bool
    """The task has ended by itself, so nothing follows that could be worth something."""
    truncated: bool
    """The time is over, which says nothing about what would have followed."""
    intervention: bool
    """A person led."""
    version: int
    """The version of the policy that chose the action; 0 where none did."""
    success: bool


class ChunkBuilder:
    """Collects the transitions of one episode and hands them out as chunks of at most `chunk_format.size`."""

    def __init__(self, observation: Observation, start: EpisodeStart, chunk_format: ChunkFormat) -> None:
        """Start at the first observation of an episode, entries as `chunk_format.spec` has them."""
        self._start, self._format = start, chunk_format
        self._first_step = 0
        self._begin([observation])

    def _begin(self, observations: list[Observation]) -> None:
        """Begin a chunk at the last of some observations; those before it are what frames are stacked with."""
        self._observations = observations
        self._history = len(observations) - 1
        self._steps: list[StepOutcome] = []

    def add(self, step: StepOutcome, observation: Observation) -> Chunk | None:
        """Add one transition; return a chunk when it is full or the episode has ended.

        Args:
            step: from the newest observation.
            observation: that the step led to.

        Raises:
            DataError: the chunk does not fit the specification, or holds values that are worth nothing.
        """
        self._steps.append(step)
        self._observations.append(observation)
        if not (step.terminated or step.truncated) and len(self._steps) < self._format.size:
            return None
        return self._cut()

    def flush(self) -> Chunk | None:
        """Return what was collected of an episode that is left before its end, None if there is nothing.

        Raises:
            DataError: as `add`.
        """
        return self._cut() if self._steps else None

    def discard(self) -> None:
        """Forget what has not been handed out."""
        self._begin(self._observations[-1:])

    def _cut(self) -> Chunk:
        steps, spec = self._steps, self._format.spec
        count, last = len(steps), steps[-1]
        mask = np.ones(count, np.float32)
        truncated = np.zeros(count, np.bool_)
        mask[-1] = float(not last.terminated)
        truncated[-1] = last.truncated and not last.terminated
        ended = last.terminated or last.truncated
        chunk = Chunk(
            observation=stack_observations(self._observations, self._history),
            action=np.stack([step.executed for step in steps]).astype(np.float32),
            reward=np.array([step.reward for step in steps], np.float32),
            mask=mask,
            truncated=truncated,
            intervention=np.array([step.intervention for step in steps], np.bool_),
            policy_version=np.array([step.version for step in steps], np.uint64),
            actor_id=self._format.actor_id,
            episode=self._start.number,
            first_step=self._first_step,
            demonstration=self._start.mode is EpisodeMode.DEMONSTRATION,
            last=ended,
            success=ended and last.success,
            encoder=spec.encoder,
            frame_stack=spec.frame_stack,
            meaning=spec.meaning_hash,
        )
        self._first_step += count
        self._begin(self._observations[-spec.frame_stack :])
        chunk.check(spec)
        return chunk


def run_episode(
    env: gym.Env[Observation, NDArray[np.float32]],
    behaviour: Behaviour,
    start: EpisodeStart,
    chunk_format: ChunkFormat,
    *,
    on_chunk: Callable[[Chunk], None] = lambda _chunk: None,
    on_discard: Callable[[int], None] = lambda _first_step: None,
    before_step: Callable[[], None] = lambda: None,
    at_end: Callable[[], None] = lambda: None,
    whole: bool = False,
) -> EpisodeSummary:
    """Run one episode to its end.

    Args:
        env: takes actions (A,); its ``info`` has ``executed_action``, ``intervention`` and ``success``.
        behaviour: chooses the actions.
        start: which episode it is.
        chunk_format: of the chunks.
        on_chunk: gets each chunk as soon as it is full, and what there is when the episode is left early.
        on_discard: told where an episode was cut by who discarded what follows, if some of it was handed over before.
        before_step: called before each step; may wait, or raise to leave the episode.
        at_end: called when the episode has ended, before its last step is collected; may raise as `before_step`.
        whole: hand over the chunks when the episode is over, none at all where its world breaks. Otherwise those that
            were full before stay handed over.

    Raises:
        EpisodeLost: the environment could not finish a step.
        EpisodeDiscarded: a person does not want all of it; what is left of it was handed over and is truncated.
        WorldBroken: its world is none any more; what is collected is thrown away.
        DataError: something was measured that does not fit the specification.
    """
    observation, info = env.reset(seed=start.seed, options=start.options)
    behaviour.reset()
    builder = ChunkBuilder(observation, start, chunk_format)
    length, total_reward, interventions = 0, 0.0, 0
    kept: list[Chunk] = []
    sent = 0
    cut: int | None = None

    def hand_over(chunk: Chunk) -> None:
        nonlocal sent
        if whole:
            kept.append(chunk)
        else:
            on_chunk(chunk)
            sent += len(chunk)

    try:
        while True:
            before_step()
            action, version = behaviour.act(observation, info)
            observation, reward, terminated, truncated, info = env.step(action)
            step = StepOutcome(
                executed=info["executed_action"],
                reward=float(reward),
                terminated=terminated,
                truncated=truncated,
                intervention=info["intervention"],
                version=version,
                success=info["success"],
            )
            length += 1
            total_reward += step.reward
            interventions += step.intervention
            if terminated or truncated:
                at_end()
            chunk = builder.add(step, observation)
            if chunk is not None:
                hand_over(chunk)
            if terminated or truncated:
                return EpisodeSummary(start.number, length, total_reward, step.success, interventions)
    except WorldBroken:
        builder.discard()
        kept.clear()
        raise
    except EpisodeDiscarded as discarded:
        cut = discarded.first_void(length)
        raise
    finally:
        rest = builder.flush()
        for chunk in [*kept, rest] if rest is not None else kept:
            left = chunk if cut is None else chunk.before(cut)
            if left is not None:
                on_chunk(left)
        if cut is not None and sent > 0 and cut <= sent:
            on_discard(cut)
