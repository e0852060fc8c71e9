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
from serl_rl.torch.computing import graphs
from serl_rl.torch.computing.device import can_compile
from serl_rl.torch.computing.modes import computing_as
from serl_rl.torch.computing.parallel import place
from serl_rl.torch.computing.tree import Flat, leaves, structure, with_leaves

Batch = dict[str, Any]
Info = dict[str, torch.Tensor]


class ComputedAgent(Protocol):
    """An agent that says how it is computed."""

    @property
    def computing(self) -> TorchConfig:
        """How its steps are computed."""

    @property
    def key(self) -> torch.Tensor:
        """A random key (2,)."""

    @property
    def flat(self) -> Flat:
        """Its tensors, and what they are like."""


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
        compiles, records = self._compiles(agent), agent.computing.cuda_graphs and place()[1] == 1
        if not (compiles or records):
            with computing_as(agent.computing, agent.key.device):
                return self._step(agent, batch)
        flat, rows = agent.flat, leaves(batch)
        # The kind of an agent is a large tree, so what is found by it is noted at the agent.
        noted = (self, *((row.shape, row.dtype) for row in rows))
        if noted not in flat.programs:
            kind = (flat.structure, structure(batch))
            if compiles and kind not in self._compiled:
                self._compiled[kind] = self._compile(agent, batch)
            found = self._compiled[kind] if compiles else self._in_place(agent, batch)
            flat.programs[noted] = _recorded(found, flat.leaves, rows) if records else found
        program, names = flat.programs[noted]
        numbers = program(*flat.leaves, *rows)
        return agent, dict(zip(names, numbers, strict=True))

    def _compiles(self, agent: AgentT) -> bool:
        return agent.computing.compile and place()[1] == 1 and can_compile(agent.key.device.type)

    def _compile(self, agent: AgentT, batch: Batch) -> _Compiled:
        from torch._inductor import standalone_compile  # takes a second, and most agents are not compiled

        step, names = self._in_place(agent, batch)
        # Tracing takes the step: on copies.
        inputs = [leaf.clone() for leaf in agent.flat.leaves] + leaves(batch)
        graph = make_fx(step)(*inputs)
        with torch.no_grad():
            # Kernels of small networks are called from C++: from Python a fifth of the time would go into the calls.
            options = {"config_patches": {"cpp_wrapper": agent.key.device.type == "cpu"}}
            return standalone_compile(graph, inputs, dynamic_shapes="from_example_inputs", options=options), names

    def _in_place(self, agent: AgentT, batch: Batch) -> _Compiled:
        """The step of tensors of an agent, which it changes, and of a minibatch; names of its numbers once it ran."""
        count, names = len(agent.flat.leaves), list[str]()

        def step(*tensors: torch.Tensor) -> list[torch.Tensor]:
            old, given = list(tensors[:count]), list(tensors[count:])
            with computing_as(agent.computing, agent.key.device):
                new, info = self._step(with_leaves(agent, old), with_leaves(batch, given))
                for into, value in zip(old, leaves(new), strict=True):
                    if value is not into:
                        into.copy_(value)
            names[:] = list(info)
            return list(info.values())

        return step, names


def _recorded(program: _Compiled, state: list[torch.Tensor], rows: list[torch.Tensor]) -> _Compiled:
    """A program that is recorded on the tensors of one agent."""
    call, names = program

    def step(state: list[torch.Tensor], rows: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack([number.to(torch.float32) for number in call(*state, *rows)])

    recorded = graphs.record_step(step, state, rows)
    return lambda *tensors: recorded(tensors[len(state) :]).unbind(), names
