# SPDX-License-Identifier: Apache-2.0
"""The update of an agent, made of its steps on single minibatches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Protocol, Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from serl_rl.config import VisionConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.jax.encoders.networks import encoder_params
from serl_rl.jax.vision import check_vision, encode_pictures, has_pictures, shift_pictures
from serl_rl.spec import TransitionSpec

Params = Any
Batch = dict[str, Any]
Info = dict[str, jax.Array]


class SteppingAgent(Protocol):
    """What an agent has that is updated step by step."""

    @property
    def key(self) -> jax.Array:
        """Source of all that it draws."""

    @property
    def spec(self) -> TransitionSpec:
        """Of its transitions."""

    @property
    def vision(self) -> VisionConfig:
        """How it looks at frames."""

    @property
    def frozen_encoder(self) -> Params:
        """Of pictures that are encoded in every update; None otherwise."""

    def replace(self, **changes: Any) -> Self:
        """A copy with other values in some fields."""


AgentT = TypeVar("AgentT", bound=SteppingAgent)
Step = Callable[[AgentT, Batch], tuple[AgentT, Info]]


class Update(Generic[AgentT]):
    """Steps on all minibatches, and perhaps a last step on the last minibatch of each environment step.

    Without pictures all of it is one compiled loop. With them each step is a call, because XLA computes convolutions
    inside loops slowly on CPUs.
    """

    def __init__(self, step: Step[AgentT], last_step: Step[AgentT] | None = None) -> None:
        """An update of `step` for each minibatch (B, ...) and `last_step` for each environment step."""
        last_step = last_step or _no_step
        self._single, self._last = jax.jit(step, donate_argnums=0), jax.jit(last_step, donate_argnums=0)

        def environment_step(agent: AgentT, minibatches: Batch) -> tuple[AgentT, Info]:
            agent, info = jax.lax.scan(step, agent, minibatches)
            agent, last_info = last_step(agent, jax.tree.map(lambda leaf: leaf[-1], minibatches))
            return agent, jax.tree.map(jnp.mean, info) | last_info

        def whole(agent: AgentT, batch: Batch) -> tuple[AgentT, Info]:
            agent, info = jax.lax.scan(environment_step, agent, batch)
            return agent, jax.tree.map(jnp.mean, info)

        self._whole = jax.jit(whole, donate_argnums=0)

    def __call__(self, agent: AgentT, batch: Batch) -> tuple[AgentT, Info]:
        """The agent after the update with leaves (n_steps, utd_ratio, B, ...), and means of what the steps report.

        The buffers of the old agent are reused: it is gone.
        """
        encoder = agent.frozen_encoder
        agent = agent.replace(frozen_encoder=None)
        agent, info = self._by_calls(agent, encoder, batch) if has_pictures(agent.spec) else self._whole(agent, batch)
        return agent.replace(frozen_encoder=encoder), info

    @property
    def compiled(self) -> int:
        """Number of programs that were compiled so far."""
        return sum(function._cache_size() for function in (self._whole, self._single, self._last))  # type: ignore[attr-defined]

    def _by_calls(self, agent: AgentT, encoder: Params, batch: Batch) -> tuple[AgentT, Info]:
        n_steps, utd_ratio = batch["action"].shape[:2]
        collected: dict[str, list[jax.Array]] = {}
        for step, update in np.ndindex(n_steps, utd_ratio):
            minibatch = jax.tree.map(lambda rows, at=(step, update): rows[at], batch)
            agent, minibatch = _prepared(agent, encoder, minibatch)
            agent, info = self._single(agent, minibatch)
            if update == utd_ratio - 1:
                agent, last_info = self._last(agent, minibatch)
                info |= last_info
            for name, value in info.items():
                collected.setdefault(name, []).append(value)
        return agent, {name: jnp.mean(jnp.stack(values)) for name, values in collected.items()}


def _no_step(agent: AgentT, batch: Batch) -> tuple[AgentT, Info]:
    return agent, {}


def _prepare(agent: AgentT, encoder: Params, batch: Batch) -> tuple[AgentT, Batch]:
    """The agent with its next key, and the batch with shifted pictures, encoded where the encoder is frozen."""
    key, *keys = jax.random.split(agent.key, 1 + len(batch))
    prepared = dict(batch)
    for own_key, (name, entry) in zip(keys, sorted(batch.items()), strict=True):
        if isinstance(entry, dict):
            shifted = shift_pictures(own_key, entry, agent.vision)
            prepared[name] = (
                encode_pictures(encoder, agent.vision.encoder.kind, shifted) if agent.vision.encoder.frozen else shifted
            )
    return agent.replace(key=key), prepared


_prepared = jax.jit(_prepare, donate_argnums=0)


def divided_encoder(spec: TransitionSpec, vision: VisionConfig, encoder: Encoder | None) -> tuple[Params, Params, str]:
    """The encoder's part in an agent.

    Returns:
        first parameters of a trained encoder, parameters of a frozen one that encodes in every update (None each where
        there is none), and the hash of the encoder that acting needs beside the policy.

    Raises:
        DataError: the observations do not fit `vision`, or the encoder is missing or of another kind.
    """
    check_vision(spec, vision, encoder)
    if encoder is None or not has_pictures(spec):
        return None, None, spec.encoder
    weights = jax.tree.map(jnp.asarray, encoder_params(encoder))
    return (None, weights, encoder.hash) if vision.encoder.frozen else (weights, None, "")
