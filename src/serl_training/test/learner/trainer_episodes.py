# SPDX-License-Identifier: Apache-2.0
"""Episodes from which trainers of these tests learn: a state of three numbers, actions of two."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from serl_rl.storage.chunk import Chunk, TransitionSpec

SPEC = TransitionSpec({"state": ((3,), "float32")}, 2)


def demonstration(episode: int, length: int = 10) -> Chunk:
    """An episode that a person has shown."""
    rng = np.random.default_rng(episode)
    end = np.arange(length) == length - 1
    return Chunk(
        observation={"state": rng.standard_normal((length + 1, 3), dtype=np.float32)},
        action=rng.uniform(-1, 1, (length, 2)).astype(np.float32),
        reward=end.astype(np.float32),
        mask=(~end).astype(np.float32),
        truncated=np.zeros(length, np.bool_),
        intervention=np.ones(length, np.bool_),
        policy_version=np.zeros(length, np.uint64),
        actor_id="actor",
        episode=episode,
        first_step=0,
        demonstration=True,
        last=True,
        success=True,
    )


def own(episode: int, length: int = 10) -> Chunk:
    """An episode of the policy's own."""
    intervention = np.zeros(length, np.bool_)
    return replace(demonstration(episode, length), demonstration=False, intervention=intervention)
