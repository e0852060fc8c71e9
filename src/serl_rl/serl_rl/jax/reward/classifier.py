# SPDX-License-Identifier: Apache-2.0
"""The networks of a reward classifier in JAX; see `serl_rl.reward.classifier`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from serl_rl.config import RewardClassifierConfig, VisionConfig
from serl_rl.encoders.architecture import feature_shape
from serl_rl.encoders.encoder import Encoder
from serl_rl.jax.encoders.networks import encoder_params, make_encoder
from serl_rl.jax.vision import CameraHead
from serl_rl.reward.classifier import StageClassifier, untrained_info
from serl_rl.reward.classifier_file import ClassifierInfo
from serl_rl.reward.data import FrameSource


class StageHead(nn.Module):
    """Logits (B, stages) of the feature maps of all cameras."""

    cameras: tuple[str, ...]
    stages: int
    embeddings: int
    width: int
    dropout: float

    @nn.compact
    def __call__(self, features: Mapping[str, jax.Array], *, training: bool = False) -> jax.Array:
        """Logits (B, stages) of feature maps (B, h, w, c); with `training` some values are dropped out."""
        vision = VisionConfig(embeddings=self.embeddings, width=self.width)
        parts = [CameraHead(vision, name=f"camera_{name}")(features[name]) for name in self.cameras]
        x = nn.Dropout(self.dropout)(jnp.concatenate(parts, axis=-1), deterministic=not training)
        x = nn.relu(nn.LayerNorm(name="norm")(nn.Dense(self.width, name="dense")(x)))
        x = nn.Dropout(self.dropout)(x, deterministic=not training)
        return nn.Dense(self.stages, name="logits")(x)


def make_head(info: ClassifierInfo, dropout: float = 0.0) -> StageHead:
    """The network behind the encoder."""
    return StageHead(info.cameras, len(info.source.stages), info.embeddings, info.width, dropout)


def initial_head(info: ClassifierInfo, seed: int) -> Any:
    """Random parameters of `make_head(info)`."""
    maps = {
        name: jnp.zeros((1, *feature_shape(info.encoder, *view.shape[:2]))) for name, view in info.source.views.items()
    }
    return make_head(info).init(jax.random.key(seed), maps)


class RewardClassifier(StageClassifier):
    """Judges pictures, with JAX."""

    def __init__(self, info: ClassifierInfo, encoder: Encoder, head: Any) -> None:
        """Put a classifier together.

        Args:
            info: says what it is for.
            encoder: that all cameras share.
            head: parameters of `make_head`.
        """
        network, layers = make_encoder(encoder.kind), make_head(info)

        @jax.jit
        def logits(params: Any, pictures: Mapping[str, jax.Array]) -> jax.Array:
            maps = {name: network.apply(params["encoder"], pictures[name]) for name in info.cameras}
            return jnp.asarray(layers.apply(params["head"], maps))

        params = jax.device_put({"encoder": encoder_params(encoder), "head": head})

        def compute(pictures: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.float32]:
            return np.asarray(logits(params, pictures))

        super().__init__(info, encoder, head, compute)

    @classmethod
    def untrained(
        cls, source: FrameSource, config: RewardClassifierConfig, encoder: Encoder, seed: int = 0
    ) -> RewardClassifier:
        """One that knows nothing yet and calls nothing a success."""
        info = untrained_info(source, config, encoder)
        return cls(info, encoder, initial_head(info, seed))
