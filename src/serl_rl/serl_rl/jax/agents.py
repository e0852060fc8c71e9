# SPDX-License-Identifier: Apache-2.0
"""What a learner needs of an agent, and how one is made from its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Self

import jax
from numpy.typing import NDArray

from serl_rl.config import LearningConfig
from serl_rl.jax.bc import BCAgent
from serl_rl.jax.drqv2 import DrQv2Agent
from serl_rl.jax.encoders.encoder import Encoder
from serl_rl.jax.hybrid import HybridAgent
from serl_rl.jax.sac import SACAgent
from serl_rl.jax.vice import VICEAgent
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.spec import TransitionSpec

Info = dict[str, jax.Array]


class Agent(Protocol):
    """Parameters and optimizer states of one algorithm, immutable."""

    @property
    def spec(self) -> TransitionSpec:
        """Of the transitions that it learns from."""

    @property
    def updates(self) -> jax.Array:
        """Updates done so far, int32 ()."""

    def update(self, batch: dict[str, Any]) -> tuple[Self, Info]:
        """Train on minibatches with leaves (n_steps, utd_ratio, B, ...).

        Returns:
            The new agent and scalars averaged over the call. The buffers of the old agent are reused: it is gone.
        """

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The whole state as named arrays, but for what never changes (frozen encoders)."""

    def with_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The agent with that state. Raises DataError if names, shapes or dtypes are not those of `arrays()`."""

    def policy_snapshot(self) -> PolicySnapshot:
        """What acting needs."""


def create_agent(seed: int, spec: TransitionSpec, config: LearningConfig, encoder: Encoder | None = None) -> Agent:
    """A new agent of the configured algorithm.

    Args:
        seed: of its parameters and of all that it draws.
        spec: of the transitions.
        config: names the algorithm and holds its settings.
        encoder: needed where observations hold pictures; the first weights of a trained one.

    Raises:
        DataError: the observations do not fit the configuration, or the encoder is missing or of another kind.
    """
    match config.agent:
        case "sac":
            return SACAgent.create(seed, spec, config.sac, config.vision, encoder)
        case "drqv2":
            return DrQv2Agent.create(seed, spec, config.drqv2, config.vision, encoder)
        case "hybrid":
            return HybridAgent.create(seed, spec, config.hybrid, config.sac, config.vision, encoder)
        case "vice":
            return VICEAgent.create(seed, spec, config.vice, config.sac, config.vision, encoder)
        case "bc":
            return BCAgent.create(seed, spec, config.bc, config.vision, encoder)
