# SPDX-License-Identifier: Apache-2.0
"""Learning from pictures through a frozen encoder that encodes them anew, with new shifts, in every update.

The agent behind it learns from feature maps and knows nothing of pictures, nor of the encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, SupportsInt

from numpy.typing import NDArray

from serl_rl.agent import Checkpointable
from serl_rl.config import VisionConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.spec import TransitionSpec
from serl_rl.vision_inputs import behind_frozen_encoder, check_vision, of_pictures


class FeatureAgent(Checkpointable, Protocol):
    """An agent of a backend that learns from feature maps."""

    @property
    def key(self) -> Any:
        """Its random key, where the backend computes."""

    @property
    def steps(self) -> Any:
        """The `Update` of the backend that it takes."""

    @property
    def updates(self) -> SupportsInt:
        """Updates done so far."""


@dataclass(frozen=True)
class FrozenEncoderAgent:
    """An agent that is given pictures, and the frozen encoder whose features it learns from. See `Agent`."""

    agent: FeatureAgent
    """All that is trained."""
    params: Any
    """The weights of the encoder, where the backend computes."""
    prepared: Callable[..., Any]
    """From a key and a minibatch, `vision` and `frozen` weights to the next key and the minibatch with features."""
    spec: TransitionSpec
    """The specification of the transitions, with pictures."""
    vision: VisionConfig
    encoder: Encoder

    @classmethod
    def create(
        cls,
        create: Callable[[TransitionSpec, VisionConfig], FeatureAgent],
        spec: TransitionSpec,
        vision: VisionConfig,
        encoder: Encoder | None,
        *,
        place: Callable[[Encoder, FeatureAgent], Any],
        prepared: Callable[..., Any],
    ) -> FrozenEncoderAgent:
        """Put a frozen encoder in front of a new agent.

        Args:
            create: makes the agent for transitions with feature maps.
            spec: of the transitions with pictures.
            vision: how the agent looks at them.
            encoder: of the pictures.
            place: puts the weights of the encoder where the agent is computed.
            prepared: of the backend, shifts and encodes.

        Raises:
            DataError: the observations do not fit `vision`, or the encoder is missing or of another kind.
        """
        check_vision(spec, vision, encoder)
        assert encoder is not None
        agent = create(*behind_frozen_encoder(spec, vision, encoder))
        return cls(agent, place(encoder, agent), prepared, spec, vision, encoder)

    @property
    def updates(self) -> SupportsInt:
        """Updates done so far."""
        return self.agent.updates

    def update(self, batch: dict[str, Any]) -> tuple[FrozenEncoderAgent, dict[str, Any]]:
        """Shift and encode the pictures of each minibatch, then take the agent's steps on it; see `Agent.update`."""
        prepare = partial(self.prepared, vision=self.vision, frozen=self.params)
        agent, info = self.agent.steps.by_calls(self.agent, batch, prepare)
        return replace(self, agent=agent), info

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The whole state as named arrays, without the encoder, which never changes."""
        return self.agent.arrays()

    def with_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> FrozenEncoderAgent:
        """The agent with that state. Raises DataError if names, shapes or dtypes are not those of `arrays()`."""
        return replace(self, agent=self.agent.with_arrays(arrays))

    def policy_snapshot(self) -> PolicySnapshot:
        """A copy of what acting needs beside the encoder, whose hash it names."""
        snapshot = self.agent.policy_snapshot()
        assert snapshot.frames is not None
        frames = replace(snapshot.frames, **of_pictures(self.spec, self.encoder))
        return replace(snapshot, frames=frames)
