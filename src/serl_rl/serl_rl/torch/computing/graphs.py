# SPDX-License-Identifier: Apache-2.0
"""Steps of fixed shapes as CUDA graphs: what a step asks of the GPU is recorded once, then asked for as a whole.

A graph reads and writes the tensors that it was recorded with. Those of an agent are the same before and after a step,
so a graph belongs to one agent; minibatches are copied into tensors of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

_WARM_UP = 3

Step = Callable[[list[torch.Tensor], list[torch.Tensor]], torch.Tensor]
"""From the tensors of an agent, which it changes in place, and those of a minibatch to the numbers (N,) it reports."""


@dataclass(frozen=True)
class RecordedStep:
    """A step that is repeated on the tensors of one agent."""

    rows: list[torch.Tensor]
    """Where it looks for the minibatch."""
    numbers: torch.Tensor
    """Where it leaves what it reports, (N,)."""
    replay: Callable[[], None]

    def __call__(self, rows: Sequence[torch.Tensor]) -> torch.Tensor:
        """Take the step on a minibatch; numbers (N,) of this call, which no later one writes over."""
        torch._foreach_copy_(self.rows, list(rows))
        self.replay()
        return self.numbers.clone()


def record_step(step: Step, state: Sequence[torch.Tensor], rows: Sequence[torch.Tensor]) -> RecordedStep:
    """Record a step; neither the agent nor its random key has moved afterwards.

    Args:
        step: works on the GPU alone, and never waits for it.
        state: tensors of the agent that it will be repeated on.
        rows: a minibatch of the shapes that it will be repeated on.
    """
    own = [row.clone() for row in rows]
    copies = [leaf.clone() for leaf in state]

    def rehearse() -> None:
        """Choose algorithms and make what libraries need: none of that can be recorded."""
        for _ in range(_WARM_UP):
            step(copies, own)

    numbers, replay = record(rehearse, lambda: step(list(state), own))
    return RecordedStep(own, numbers, replay)


def record(rehearse: Callable[[], None], call: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, Callable[[], None]]:
    """What a call will return, and what makes the GPU do it all again, after a rehearsal in a stream beside.

    Needs a GPU. The call itself is recorded and not done. Other threads may use the GPU meanwhile.
    """
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        rehearse()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        numbers = call()
    return numbers, graph.replay
