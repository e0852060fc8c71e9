# SPDX-License-Identifier: Apache-2.0
"""The update of an agent, made of its steps on single minibatches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from serl_rl.config import VisionConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.jax.devices import kept_on, mesh_of, placed
from serl_rl.jax.encoders.networks import encoder_params
from serl_rl.jax.vision import encode_pictures, shift_pictures
from serl_rl.spec import DataError, TransitionSpec
from serl_rl.vision_inputs import check_vision, has_pictures

Params = Any
Batch = dict[str, Any]
Info = dict[str, jax.Array]
Prepare = Callable[[jax.Array, Batch], tuple[jax.Array, Batch]]
"""From a key and a minibatch as it was drawn to the next key and the minibatch that the steps see."""


class SteppingAgent(Protocol):
    """What an agent has that is updated step by step."""

    @property
    def key(self) -> jax.Array:
        """A random key (), the source of all that it draws."""

    @property
    def spec(self) -> TransitionSpec:
        """The specification of its transitions."""

    @property
    def vision(self) -> VisionConfig:
        """How it looks at frames."""

    def replace(self, **changes: Any) -> Self:
        """A copy with other values in some fields."""


AgentT = TypeVar("AgentT", bound=SteppingAgent)
Step = Callable[[AgentT, Batch], tuple[AgentT, Info]]


class Update(Generic[AgentT]):
    """Steps on all minibatches, and perhaps a last step on the last minibatch of each environment step.

    Without pictures all of it is one compiled loop. With them each step is a call, because XLA computes convolutions
    inside loops slowly on CPUs.

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
        last_step = last_step or _no_step
        self.step, self.last_step, self.entries = step, last_step, entries
        self._programs: dict[Mesh | None, _Programs[AgentT]] = {}

    def __call__(self, agent: AgentT, batch: Batch) -> tuple[AgentT, Info]:
        """The agent after the update with leaves (n_steps, utd_ratio, B, ...), and means of what the steps report.

        Pictures are shifted at random first. The buffers of the old agent are reused: it is gone. An agent that lies on
        a mesh is updated on its devices.
        """
        if has_pictures(agent.spec):
            return self.by_calls(agent, batch, partial(prepared, vision=agent.vision))
        mesh = mesh_of(agent.key)
        return self._on(mesh).whole(agent, self._looked_at(batch, mesh))

    @property
    def compiled(self) -> int:
        """Number of programs that were compiled so far."""
        return sum(function._cache_size() for programs in self._programs.values() for function in programs)  # type: ignore[attr-defined]

    def by_calls(self, agent: AgentT, batch: Batch, prepare: Prepare) -> tuple[AgentT, Info]:
        """The agent after the update, with a call for each step on minibatches that are prepared when their turn comes.

        Args:
            agent: to update; its buffers are reused.
            batch: leaves (n_steps, utd_ratio, B, ...).
            prepare: makes what the steps see of each minibatch, with the agent's key.
        """
        mesh = mesh_of(agent.key)
        programs, batch = self._on(mesh), self._looked_at(batch, mesh)
        n_steps, utd_ratio = batch["action"].shape[:2]
        collected: dict[str, list[jax.Array]] = {}
        for step, update in np.ndindex(n_steps, utd_ratio):
            key, minibatch = prepare(agent.key, jax.tree.map(lambda rows, at=(step, update): rows[at], batch))
            agent, info = programs.single(agent.replace(key=key), minibatch)
            if update == utd_ratio - 1:
                agent, last_info = programs.last(agent, minibatch)
                info |= last_info
            for name, value in info.items():
                collected.setdefault(name, []).append(value)
        return agent, {name: jnp.mean(jnp.stack(values)) for name, values in collected.items()}

    def _looked_at(self, batch: Batch, mesh: Mesh | None) -> Batch:
        seen = batch if self.entries is None else {name: batch[name] for name in self.entries}
        return seen if mesh is None else placed(seen, mesh)

    def _on(self, mesh: Mesh | None) -> _Programs[AgentT]:
        """What is compiled for a mesh, or for agents on one device."""
        if mesh not in self._programs:
            self._programs[mesh] = self._make_programs(mesh)
        return self._programs[mesh]

    def _make_programs(self, mesh: Mesh | None) -> _Programs[AgentT]:
        kept = partial(kept_on, mesh) if mesh is not None else _as_it_is
        step, last_step = kept(self.step), kept(self.last_step)

        def environment_step(agent: AgentT, minibatches: Batch) -> tuple[AgentT, Info]:
            agent, info = jax.lax.scan(step, agent, minibatches)
            agent, last_info = last_step(agent, jax.tree.map(lambda leaf: leaf[-1], minibatches))
            return agent, jax.tree.map(jnp.mean, info) | last_info

        def whole(agent: AgentT, batch: Batch) -> tuple[AgentT, Info]:
            agent, info = jax.lax.scan(environment_step, agent, batch)
            return agent, jax.tree.map(jnp.mean, info)

        return _Programs(*(jax.jit(function, donate_argnums=0) for function in (step, last_step, whole)))


class _Programs(NamedTuple, Generic[AgentT]):
    """The functions that are compiled of an update, which take an agent and a batch."""

    single: Step[AgentT]
    last: Step[AgentT]
    whole: Step[AgentT]


def _as_it_is(step: Step[AgentT]) -> Step[AgentT]:
    return step


def _no_step(agent: AgentT, batch: Batch) -> tuple[AgentT, Info]:
    return agent, {}


@partial(jax.jit, static_argnames="vision")
def prepared(key: jax.Array, batch: Batch, *, vision: VisionConfig, frozen: Params = None) -> tuple[jax.Array, Batch]:
    """The next key, and a minibatch whose pictures are shifted at random and perhaps encoded.

    Args:
        key: a random key (), that of the agent.
        batch: leaves (B, ...).
        vision: says how far pictures are shifted.
        frozen: parameters of the encoder that encodes them; None leaves them pictures.
    """
    key, *keys = jax.random.split(key, 1 + len(batch))
    result = dict(batch)
    for own_key, (name, entry) in zip(keys, sorted(batch.items()), strict=True):
        if isinstance(entry, dict):
            steps = batch["valid"].shape if name == "visited" else ()
            rows = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), entry) if steps else entry
            shifted = shift_pictures(own_key, rows, vision)
            seen = shifted if frozen is None else encode_pictures(frozen, vision.encoder.kind, shifted)
            result[name] = (
                jax.tree.map(lambda leaf, at=steps: leaf.reshape(*at, *leaf.shape[1:]), seen) if steps else seen
            )
    return key, result


def trained_encoder(spec: TransitionSpec, vision: VisionConfig, encoder: Encoder | None) -> Params:
    """First parameters of the encoder that an agent trains; None where its observations hold no pictures.

    Raises:
        DataError: the observations do not fit `vision`, or the encoder is missing, frozen or of another kind.
    """
    check_vision(spec, vision, encoder)
    if encoder is None or not has_pictures(spec):
        return None
    if vision.encoder.frozen:
        raise DataError("observation", "features of a frozen encoder", "pictures; create_agent puts it in front")
    return jax.tree.map(jnp.asarray, encoder_params(encoder))
