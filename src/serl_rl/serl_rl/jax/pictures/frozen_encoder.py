# SPDX-License-Identifier: Apache-2.0
"""Learning from pictures through a frozen encoder that encodes them anew, with new shifts, in every update.

The agent behind it learns from feature maps and knows nothing of pictures, nor of the encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, Self

import jax
from flax import struct
from numpy.typing import NDArray

from serl_rl.config import VisionConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.jax.encoders.networks import encoder_params
from serl_rl.jax.update import Batch, Info, SteppingAgent, Update, prepared
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.spec import TransitionSpec
from serl_rl.vision_inputs import behind_frozen_encoder, check_vision, of_pictures


class FeatureAgent(SteppingAgent, Protocol):
    """An agent of `serl_rl.jax` that learns from feature maps."""

    @property
    def steps(self) -> Update[Any]:
        """What its update is made of."""

    @property
    def updates(self) -> jax.Array:
        """Updates done so far, int32 ()."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The whole state as named arrays."""

    def with_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The agent with that state; raises DataError if it is not of its kind."""

    def policy_snapshot(self) -> PolicySnapshot:
        """A copy of what acting needs."""


class FrozenEncoderAgent(struct.PyTreeNode):
    """An agent that is given pictures, and the frozen encoder whose features it learns from. See `Agent`."""

    agent: FeatureAgent
    """All that is trained."""
    params: Any
    """The weights of the encoder, where JAX computes."""
    spec: TransitionSpec = struct.field(pytree_node=False)
    """The specification of the transitions, with pictures."""
    vision: VisionConfig = struct.field(pytree_node=False)
    encoder: Encoder = struct.field(pytree_node=False)

    @classmethod
    def create(
        cls,
        create: Callable[[TransitionSpec, VisionConfig], FeatureAgent],
        spec: TransitionSpec,
        vision: VisionConfig,
        encoder: Encoder | None,
    ) -> FrozenEncoderAgent:
        """Put a frozen encoder in front of a new agent.

        Args:
            create: makes the agent for transitions with feature maps.
            spec: of the transitions with pictures.
            vision: how the agent looks at them.
            encoder: of the pictures.

        Raises:
            DataError: the observations do not fit `vision`, or the encoder is missing or of another kind.
        """
        check_vision(spec, vision, encoder)
        assert encoder is not None
        agent = create(*behind_frozen_encoder(spec, vision, encoder))
        return cls(agent, jax.device_put(encoder_params(encoder)), spec, vision, encoder)

    @property
    def updates(self) -> jax.Array:
        """Updates done so far, int32 ()."""
        return self.agent.updates

    def update(self, batch: Batch) -> tuple[FrozenEncoderAgent, Info]:
        """Shift and encode the pictures of each minibatch, then take the agent's steps on it; see `Agent.update`."""
        prepare = partial(prepared, vision=self.vision, frozen=self.params)
        agent, info = self.agent.steps.by_calls(self.agent, batch, prepare)
        return self.replace(agent=agent), info

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The whole state as named arrays, without the encoder, which never changes."""
        return self.agent.arrays()

    def with_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> FrozenEncoderAgent:
        """The agent with that state. Raises DataError if names, shapes or dtypes are not those of `arrays()`."""
        return self.replace(agent=self.agent.with_arrays(arrays))

    def policy_snapshot(self) -> PolicySnapshot:
        """A copy of what acting needs beside the encoder, whose hash it names."""
        snapshot = self.agent.policy_snapshot()
        assert snapshot.frames is not None
        frames = replace(snapshot.frames, **of_pictures(self.spec, self.encoder))
        return replace(snapshot, frames=frames)
