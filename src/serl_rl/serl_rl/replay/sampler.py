# SPDX-License-Identifier: Apache-2.0
"""Symmetric sampling: half demonstrations, half own experience (Ball et al., RLPD, arXiv 2302.02948).

What some algorithms want otherwise of a batch is arranged by `make_sampler`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serl_rl.config import LearningConfig
from serl_rl.replay.batch_memory import BatchMemory
from serl_rl.replay.buffer import (
    SINGLE,
    Batch,
    NothingToDraw,
    ReplayBuffer,
    Sampling,
    batch_bytes,
    empty_batch,
    machine_memory,
    map_batch,
)
from serl_rl.replay.prior import Prior


class SymmetricSampler:
    """Fills a batch for several environment steps' worth of updates at once.

    The first half of the rows of every minibatch comes from the demonstrations, the rest from the online buffer; while
    one of the buffers is empty, all rows come from the other. Prior data share the rows of the demonstrations: a buffer
    that is not empty gets its weight of them on the average over batches, where the demonstrations have weight 1.

    Args:
        online, demonstrations: the buffers, of the same spec.
        batch_size: transitions in one minibatch B.
        seed: of the sampling.
        sampling: what is drawn from each of them.
        demonstrations_only: leave the online buffer alone.
        goals: transitions that ended in success. Batches then have `goal`: next observations of these, as many as there
            are rows of own experience.
        priors: buffers of the same spec with what other runs have stored, and their weights.
    """

    def __init__(
        self,
        online: ReplayBuffer,
        demonstrations: ReplayBuffer,
        batch_size: int,
        seed: int,
        sampling: Sampling = SINGLE,
        *,
        demonstrations_only: bool = False,
        goals: ReplayBuffer | None = None,
        priors: Sequence[Prior] = (),
    ) -> None:
        if batch_size < 2:
            raise ValueError(f"batch_size: expected at least 2, one row of each buffer, found {batch_size}")
        self.online = online
        self.demonstrations = demonstrations
        self.batch_size = batch_size
        self.rng = np.random.default_rng(seed)
        self.sampling = sampling
        self.demonstrations_only = demonstrations_only
        self.goals = goals
        self.priors = tuple(priors)
        self._memory = BatchMemory()

    @property
    def waits_for(self) -> str:
        """What has to be stored before anything can be drawn, in words; empty: nothing.

        Demonstrations or goals that were never stored are not waited for: `sample` says that they are missing.
        """
        if not len(self.online) and not self._offline:
            return "transitions"
        if self.demonstrations_only and not self._offline and _is_emptied(self.demonstrations):
            return "demonstrations"
        if self.goals is not None and _is_emptied(self.goals):
            return "demonstrations that succeed"
        return ""

    def sample(self, n_steps: int, utd_ratio: int) -> Batch:
        """Minibatches for `n_steps` environment steps of `utd_ratio` updates: leaves (n_steps, utd_ratio, B, ...).

        Raises:
            NothingToDraw: while it `waits_for` something.
            ValueError: no demonstration, or no goal, was ever stored although they are wanted.
        """
        if what := self.waits_for:
            raise NothingToDraw(f"replay buffers: expected {what} to sample from, found none")
        batch = self._empty(n_steps, utd_ratio)
        if self.demonstrations_only and not self._offline and not self.demonstrations.inserted:
            raise ValueError("demonstrations: expected at least one to learn from, found none; record some")
        if self.demonstrations_only or not len(self.online):
            self._sample_offline(batch)
        elif not self._offline:
            self.online.sample_into(self.rng, batch, self.sampling)
        else:
            half = self.batch_size // 2
            self._sample_offline(map_batch(lambda rows: rows[:, :, :half], batch))
            self.online.sample_into(self.rng, map_batch(lambda rows: rows[:, :, half:], batch), self.sampling)
        if self.goals is not None:
            goals = self._empty_goals(n_steps, utd_ratio)
            if not self.goals.inserted:
                raise ValueError("goals: expected at least one demonstration that succeeded, found none; record some")
            self.goals.sample_into(self.rng, goals)
            batch["goal"] = goals["next_observation"]
        return batch

    @property
    def _offline(self) -> list[Prior]:
        """Demonstrations and prior data that something can be drawn from."""
        return [prior for prior in (Prior(self.demonstrations, 1.0), *self.priors) if len(prior.buffer)]

    def _sample_offline(self, batch: Batch) -> None:
        """Fill all rows (n_steps, utd_ratio, rows, ...) from demonstrations and prior data, by their weights.

        The borders between them are rounded with one random number, so that each gets its share on the average.
        """
        sources = self._offline or [Prior(self.demonstrations, 1.0)]
        rows = batch["reward"].shape[2]
        ends = [rows]
        if len(sources) > 1:
            shares = np.cumsum([source.weight for source in sources])
            ends = [int(end) for end in np.floor(rows * shares[:-1] / shares[-1] + self.rng.random())] + ends
        start = 0
        for source, end in zip(sources, ends, strict=True):
            if end > start:
                part = map_batch(partial(_columns, start=start, end=end), batch)
                source.buffer.sample_into(self.rng, part, self.sampling)
            start = end

    def empty(self, n_steps: int, utd_ratio: int) -> Batch:
        """A batch like those of `sample` with anything in it."""
        batch = self._empty(n_steps, utd_ratio)
        if self.goals is not None:
            batch["goal"] = self._empty_goals(n_steps, utd_ratio)["next_observation"]
        return batch

    def _empty(self, n_steps: int, utd_ratio: int) -> Batch:
        # Other arrays than those of batches in use: JAX may still be reading them, it does not copy what it is given.
        shape = (n_steps, utd_ratio, self.batch_size)
        return empty_batch(self.online.spec, shape, self.sampling, self._memory.empty)

    def _empty_goals(self, n_steps: int, utd_ratio: int) -> Batch:
        shape = (n_steps, utd_ratio, self.batch_size - self.batch_size // 2)
        return empty_batch(self.online.spec, shape, empty=self._memory.empty)


def _columns(rows: NDArray[Any], start: int, end: int) -> NDArray[Any]:
    return rows[:, :, start:end]


def _is_emptied(buffer: ReplayBuffer) -> bool:
    """Whether all that was stored was discarded."""
    return buffer.inserted > 0 and not len(buffer)


def sampling_of(config: LearningConfig) -> Sampling:
    """What the algorithm of a configuration learns from: single transitions, n steps, chunks of actions."""
    chunk = config.acting.chunk
    match config.agent:
        case "bc":
            return Sampling(action_chunk=config.bc.chunk)
        case "drqv2":
            n_step = max(config.drqv2.n_step, chunk)
            return Sampling(n_step, config.drqv2.discount, action_chunk=chunk if chunk > 1 else None)
        case "sac" | "hybrid" | "vice":
            visited = config.agent == "vice"
            return SINGLE if chunk == 1 else Sampling(chunk, config.sac.discount, chunk, visited)


def make_sampler(
    config: LearningConfig,
    online: ReplayBuffer,
    demonstrations: ReplayBuffer,
    goals: ReplayBuffer | None,
    seed: int,
    priors: Sequence[Prior] = (),
) -> SymmetricSampler:
    """The sampler for the algorithm of a configuration.

    Args:
        config: of the learning.
        online: own experience.
        demonstrations: of the same specification.
        goals: transitions that ended in success, where the algorithm wants them.
        seed: of the sampling.
        priors: what other runs have stored, of the same specification, with weights.

    Raises:
        ValueError: its batches cannot fit into the memory of this machine.
    """
    count, each = config.utd_ratio * config.batch_size, batch_bytes(online.spec, sampling_of(config))
    if count * each > machine_memory():
        raise ValueError(
            f"utd_ratio, batch_size: expected at most {machine_memory() // each} transitions of {each / 1024:.1f} kB "
            f"for an environment step, which fill the memory of this machine, found {config.utd_ratio} x "
            f"{config.batch_size}; lower one of them"
        )
    return SymmetricSampler(
        online,
        demonstrations,
        config.batch_size,
        seed,
        sampling_of(config),
        demonstrations_only=config.agent == "bc",
        goals=goals,
        priors=priors,
    )
