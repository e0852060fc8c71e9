# SPDX-License-Identifier: Apache-2.0
"""The update of an agent, made of its steps on single minibatches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, Protocol, Self, TypeVar

import torch

from serl_rl.config import TorchConfig, VisionConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.spec import DataError, TransitionSpec
from serl_rl.torch.computing.device import device_of
from serl_rl.torch.computing.modes import computing_as
from serl_rl.torch.computing.prefetch import minibatches
from serl_rl.torch.computing.program import Program
from serl_rl.torch.computing.tree import Flat
from serl_rl.torch.encoders.networks import encoder_params
from serl_rl.torch.networks import Params
from serl_rl.torch.prepare import prepared
from serl_rl.vision_inputs import check_vision, has_pictures

Batch = dict[str, Any]
Info = dict[str, torch.Tensor]


class SteppingAgent(Protocol):
    """What an agent has that is updated step by step."""

    @property
    def key(self) -> torch.Tensor:
        """A random key (2,), the source of all that it draws."""

    @property
    def spec(self) -> TransitionSpec:
        """The specification of its transitions."""

    @property
    def vision(self) -> VisionConfig:
        """How it looks at frames."""

    @property
    def computing(self) -> TorchConfig:
        """How its steps are computed."""

    @property
    def flat(self) -> Flat:
        """Its tensors, and what they are like."""

    def replace(self, **changes: Any) -> Self:
        """A copy with other values in some fields."""


AgentT = TypeVar("AgentT", bound=SteppingAgent)
Step = Callable[[AgentT, Batch], tuple[AgentT, Info]]
Prepare = Callable[[torch.Tensor, Batch], tuple[torch.Tensor, Batch]]
"""From a key and a minibatch as it was drawn to the next key and the minibatch that the steps see."""


class Update(Generic[AgentT]):
    """Steps on all minibatches, and perhaps a last step on the last minibatch of each environment step.

    Attributes:
        step, last_step, entries: what it was made of.
    """

    def __init__(
        self, step: Step[AgentT], last_step: Step[AgentT] | None = None, entries: Sequence[str] | None = None
    ) -> None:
        """Make an update of steps.

        Args:
            step: taken on each minibatch (B, ...).
            last_step: taken once for each environment step, on the last of its minibatches.
            entries: of a batch that the steps look at; None stands for all.
        """
        self.step, self.last_step, self.entries = step, last_step, entries
        self._single = Program(step)
        self._last = Program(last_step) if last_step else None

    def __call__(self, agent: AgentT, batch: Batch) -> tuple[AgentT, Info]:
        """The agent after the update with leaves (n_steps, utd_ratio, B, ...), and means of what the steps report.

        Pictures are shifted at random first. The tensors of the old agent are reused: it is gone.
        """
        prepare = partial(prepared, vision=agent.vision) if has_pictures(agent.spec) else None
        return self.by_calls(agent, batch, prepare)

    def by_calls(self, agent: AgentT, batch: Batch, prepare: Prepare | None) -> tuple[AgentT, Info]:
        """The agent after the update, with a call for each step on minibatches that are prepared when their turn comes.

        Args:
            agent: to update; its tensors are reused.
            batch: leaves (n_steps, utd_ratio, B, ...).
            prepare: makes what the steps see of each minibatch, with the agent's key; None: they see it as it is.
        """
        looked_at = batch if self.entries is None else {name: batch[name] for name in self.entries}
        utd_ratio = batch["action"].shape[1]
        collected: dict[str, list[torch.Tensor]] = {}
        for count, minibatch in enumerate(minibatches(looked_at, agent.computing, agent.key.device), start=1):
            if prepare is not None:
                with computing_as(agent.computing, agent.key.device):
                    key, minibatch = prepare(agent.key, minibatch)
                agent.key.copy_(key)  # in place, as all that a step changes
            agent, info = self._single(agent, minibatch)
            if self._last is not None and count % utd_ratio == 0:
                agent, last_info = self._last(agent, minibatch)
                info |= last_info
            for name, value in info.items():
                collected.setdefault(name, []).append(value)
        return agent, {name: torch.stack(values).to(torch.float32).mean() for name, values in collected.items()}


def trained_encoder(
    spec: TransitionSpec, vision: VisionConfig, encoder: Encoder | None, computing: TorchConfig
) -> Params | None:
    """First parameters of the encoder that an agent trains; None where its observations hold no pictures.

    Raises:
        DataError: the observations do not fit `vision`, or the encoder is missing, frozen or of another kind.
    """
    check_vision(spec, vision, encoder)
    if encoder is None or not has_pictures(spec):
        return None
    if vision.encoder.frozen:
        raise DataError("observation", "features of a frozen encoder", "pictures; create_agent puts it in front")
    return encoder_params(encoder, device_of(computing))
