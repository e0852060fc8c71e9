# SPDX-License-Identifier: Apache-2.0
"""Minibatches on their way to where they are computed: the next one is copied while the one before is learned from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from serl_rl.config import TorchConfig
from serl_rl.replay.buffer import map_batch
from serl_rl.torch.computing.tree import leaves, map_tree

Batch = dict[str, Any]
Given = TypeVar("Given")
Started = TypeVar("Started")
Moved = TypeVar("Moved")


def minibatches(batch: Batch, config: TorchConfig, device: torch.device) -> Iterator[Batch]:
    """The minibatches (B, ...) of a batch (n_steps, utd_ratio, B, ...), in order, as tensors on a device.

    With `prefetch` on a GPU each is copied from pinned memory in a stream beside, one ahead; otherwise all at once.
    """
    places = np.ndindex(*batch["action"].shape[:2])
    if config.prefetch and device.type == "cuda":
        ahead = _Ahead(device)
        parts = (map_batch(itemgetter(place), batch) for place in places)
        yield from one_ahead(parts, ahead.start, ahead.finish)
        return
    rows = as_tensors(batch, device)
    for place in places:
        yield map_tree(itemgetter(place), rows)


def one_ahead(
    given: Iterable[Given], start: Callable[[Given], Started], finish: Callable[[Started], Moved]
) -> Iterator[Moved]:
    """What becomes of each thing, in order; the next one is started before the one before is handed out."""
    waiting: list[Started] = []
    for each in given:
        waiting.append(start(each))
        if len(waiting) > 1:
            yield finish(waiting.pop(0))
    for last in waiting:
        yield finish(last)


def as_tensors(batch: Batch, device: torch.device) -> Batch:
    """The leaves of a batch where it is computed."""

    def moved(rows: NDArray[Any] | torch.Tensor) -> torch.Tensor:
        tensor = torch.as_tensor(rows)
        return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor

    return map_batch(moved, batch)


class _Ahead:
    """Copies in a stream of its own. Needs a GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)

    def start(self, part: Batch) -> tuple[Batch, torch.cuda.Event]:
        """Ask for a copy, and go on."""
        with torch.cuda.stream(self._stream):
            rows = as_tensors(part, self._device)
            return rows, self._stream.record_event()

    def finish(self, copied: tuple[Batch, torch.cuda.Event]) -> Batch:
        """The copy; the stream that computes waits for it, this thread does not."""
        rows, event = copied
        current = torch.cuda.current_stream(self._device)
        current.wait_event(event)
        for leaf in leaves(rows):
            leaf.record_stream(current)  # its memory is not taken for another copy while it is computed with
        return rows
