# SPDX-License-Identifier: Apache-2.0
"""An encoder as everybody but a backend sees it: a kind of network, its weights, and what tells them from others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serl_rl.encoders.architecture import feature_shape, parameter_shapes
from serl_rl.encoders.file import Arrays, check_weights, weights_hash


@dataclass(frozen=True, eq=False)
class Encoder:
    """A network that turns a camera's picture into a small feature map. One encoder serves all cameras."""

    kind: str
    """Kind of the network, as in `EncoderConfig`."""
    weights: Mapping[str, NDArray[np.float32]]
    """All parameters by name, as `parameter_shapes` has them."""
    name: str
    """Where the weights come from, for people."""
    hash: str
    """`weights_hash`, of all that decides about the features."""

    @classmethod
    def from_weights(cls, kind: str, weights: Arrays, name: str) -> Encoder:
        """An encoder with these weights, floats of any precision.

        Raises:
            EncoderError: there is no such kind, or they do not fit it; the message begins with `name`.
        """
        check_weights(name, weights, parameter_shapes(kind))
        single = {key: np.asarray(values, np.float32) for key, values in weights.items()}
        return cls(kind, single, name, weights_hash(kind, single))

    @classmethod
    def random(cls, kind: str, seed: int) -> Encoder:
        """Random weights (He et al., arXiv 1502.01852): the same on every machine, so numpy draws them.

        Raises:
            EncoderError: there is no such kind.
        """
        rng = np.random.default_rng(seed)
        weights = {}
        for name, shape in parameter_shapes(kind).items():
            if name.endswith("/kernel"):
                deviation = np.sqrt(2.0 / np.prod(shape[:-1]))
                weights[name] = (deviation * rng.standard_normal(shape)).astype(np.float32)
            else:
                weights[name] = np.full(shape, float(name.endswith("/scale")), np.float32)
        return cls.from_weights(kind, weights, f"random {kind} encoder, seed {seed}")

    def feature_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Shape (h, w, c) of the features of a picture of this size [pixels]."""
        return feature_shape(self.kind, height, width)
