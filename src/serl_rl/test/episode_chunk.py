# SPDX-License-Identifier: Apache-2.0
"""Episodes of the small worlds in which the agents of these tests learn, as the actor sends them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from serl_rl.storage.chunk import Chunk, stack_observations


def episode_chunk(
    observations: Sequence[dict[str, NDArray[Any]]],
    actions: Sequence[NDArray[np.float32]],
    rewards: Sequence[float] | NDArray[np.float32],
    *,
    terminated: bool,
    success: bool,
    demonstration: bool,
    encoder: str = "",
    frame_stack: int = 1,
) -> Chunk:
    """A whole episode of n steps, which ends for good or is cut off.

    Args:
        observations: n + 1.
        actions: n.
        rewards: n.
        terminated: whether it ends for good.
        success: whether it is one.
        demonstration: whether it shows how.
        encoder: through which its pictures are seen.
        frame_stack: how many of them are.
    """
    n = len(actions)
    end = np.arange(n) == n - 1
    return Chunk(
        observation=stack_observations(list(observations)),
        action=np.stack(actions).astype(np.float32),
        reward=np.array(rewards, np.float32),
        mask=(~(end & terminated)).astype(np.float32),
        truncated=end & (not terminated),
        intervention=np.zeros(n, np.bool_),
        policy_version=np.zeros(n, np.uint64),
        actor_id="actor",
        episode=0,
        first_step=0,
        demonstration=demonstration,
        last=True,
        success=success,
        encoder=encoder,
        frame_stack=frame_stack,
    )
