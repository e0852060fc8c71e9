# SPDX-License-Identifier: Apache-2.0
"""Several processes that train one agent, each on its part of every minibatch, as `torch.nn.parallel` does it.

Whoever starts the processes initializes `torch.distributed`; agents need not be told. All processes begin with the same
state and random key, so they stay the same, and the same as one process that is given all parts at once: gradients are
averaged, and every process draws for the whole minibatch and takes what is for its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import distributed


class ParallelError(RuntimeError):
    """Another process of those that train together is gone, or does not answer."""


def average(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Means of tensors over all processes, of any shapes; what they are where there is one process.

    Raises:
        ParallelError: another process is gone.
    """
    rank, count = place()
    if count == 1:
        return list(tensors)
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    try:
        distributed.all_reduce(flat)
    except RuntimeError as error:
        raise ParallelError(
            f"torch.distributed: process {rank} of {count} (from 0) expected gradients of the others, and one of"
            f" them is gone or does not answer ({error}): see why it ended, end the others, and start all of them again"
            " from the newest checkpoint"
        ) from error
    parts = (flat / count).split([tensor.numel() for tensor in tensors])
    return [part.reshape(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


def own_rows(draw: Callable[[tuple[int, ...]], torch.Tensor], shape: tuple[int, ...]) -> torch.Tensor:
    """What is drawn for this process's rows (B, ...) of a minibatch that all processes have together.

    Args:
        draw: gives as many random rows as it is asked for.
        shape: of this process's rows.
    """
    rank, count = place()
    if count == 1:
        return draw(shape)
    return draw((count * shape[0], *shape[1:]))[rank * shape[0] : (rank + 1) * shape[0]]


def place() -> tuple[int, int]:
    """Number of this process, and how many train together."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()
