# SPDX-License-Identifier: Apache-2.0
"""A step of an agent as a program: traced once for each kind of agent and minibatch, with its gradients and its Adam.

The traced step is a list of operations on tensors, which TorchInductor turns into C++ or Triton. What has changed of
the agent is written into the tensors that hold it, so that a step allocates next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch.fx.experimental.proxy_tensor import make_fx

from serl_rl.config import TorchConfig
from serl_rl.torch.computing.device import can_compile
from serl_rl.torch.computing.parallel import place
from serl_rl.torch.computing.tree import leaves, structure, with_leaves

Batch = dict[str, Any]
Info = dict[str, torch.Tensor]


class ComputedAgent(Protocol):
    """An agent that says how it is computed."""

    @property
    def computing(self) -> TorchConfig:
        """How its steps are computed."""


AgentT = TypeVar("AgentT", bound=ComputedAgent)
_Compiled = tuple[Callable[..., Any], list[str]]


class Program(Generic[AgentT]):
    """A pure step (agent, minibatch) -> (agent, info) that is compiled where that is asked for and possible."""

    def __init__(self, step: Callable[[AgentT, Batch], tuple[AgentT, Info]]) -> None:
        """Compile nothing yet."""
        self._step = step
        self._compiled: dict[Any, _Compiled] = {}

    def __call__(self, agent: AgentT, batch: Batch) -> tuple[AgentT, Info]:
        """The agent after the step, in the same tensors, and what the step reports."""
        config = agent.computing
        state = leaves(agent)
        with (
            torch.no_grad(),
            torch.autocast(state[0].device.type, torch.bfloat16, enabled=config.precision == "bfloat16"),
        ):
            if not (config.compile and place()[1] == 1 and can_compile(state[0].device.type)):
                return self._step(agent, batch)
        kind = (structure(agent), structure(batch))
        if kind not in self._compiled:
            self._compiled[kind] = self._compile(agent, batch)
        compiled, names = self._compiled[kind]
        numbers = compiled(*state, *leaves(batch))
        return agent, dict(zip(names, numbers, strict=True))

    def _compile(self, agent: AgentT, batch: Batch) -> _Compiled:
        state, rows = leaves(agent), leaves(batch)
        names: list[str] = []

        def flat(*tensors: torch.Tensor) -> list[torch.Tensor]:
            old, given = list(tensors[: len(state)]), list(tensors[len(state) :])
            with (
                torch.no_grad(),
                torch.autocast(state[0].device.type, torch.bfloat16, enabled=agent.computing.precision == "bfloat16"),
            ):
                new, info = self._step(with_leaves(agent, old), with_leaves(batch, given))
            for into, value in zip(old, leaves(new), strict=True):
                if value is not into:
                    into.copy_(value)
            names[:] = list(info)
            return list(info.values())

        copies = [leaf.clone() for leaf in state]
        graph = make_fx(flat)(*copies, *rows)
        return torch.compile(graph, dynamic=False), names
