# SPDX-License-Identifier: Apache-2.0
"""Symmetric sampling: half demonstrations, half own experience (Ball et al., RLPD, arXiv 2302.02948)."""

from __future__ import annotations

import numpy as np

from serl_rl.batch_memory import BatchMemory
from serl_rl.replay import SINGLE, Batch, ReplayBuffer, Sampling, empty_batch, map_batch


class SymmetricSampler:
    """Fills a batch for several environment steps' worth of updates at once.

    Half of the rows of every minibatch come from the demonstrations, the rest from the online buffer; while one of the
    buffers is empty, all rows come from the other.

    Args:
        online, demonstrations: the buffers, of the same spec.
        batch_size: transitions in one minibatch B.
        seed: of the sampling.
        sampling: what is drawn from each of them.
    """

    def __init__(
        self,
        online: ReplayBuffer,
        demonstrations: ReplayBuffer,
        batch_size: int,
        seed: int,
        sampling: Sampling = SINGLE,
    ) -> None:
        if batch_size < 2:
            raise ValueError(f"batch_size: expected at least 2, one row of each buffer, found {batch_size}")
        self.online = online
        self.demonstrations = demonstrations
        self.batch_size = batch_size
        self.rng = np.random.default_rng(seed)
        self.sampling = sampling
        self._memory = BatchMemory()

    def sample(self, n_steps: int, utd_ratio: int) -> Batch:
        """Minibatches for `n_steps` environment steps of `utd_ratio` updates: leaves (n_steps, utd_ratio, B, ...).

        Raises ValueError while both buffers are empty.
        """
        # Other arrays than those of batches in use: JAX may still be reading them, it does not copy what it is given.
        shape = (n_steps, utd_ratio, self.batch_size)
        batch = empty_batch(self.online.spec, shape, self.sampling, self._memory.empty)
        if not len(self.demonstrations):
            self.online.sample_into(self.rng, batch, self.sampling)
        elif not len(self.online):
            self.demonstrations.sample_into(self.rng, batch, self.sampling)
        else:
            half = self.batch_size // 2
            self.demonstrations.sample_into(self.rng, map_batch(lambda rows: rows[:, :, :half], batch), self.sampling)
            self.online.sample_into(self.rng, map_batch(lambda rows: rows[:, :, half:], batch), self.sampling)
        return batch
