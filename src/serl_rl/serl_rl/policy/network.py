# SPDX-License-Identifier: Apache-2.0
"""The networks of a policy in numpy, for one observation at a time, made of named arrays. Imports no JAX."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from serl_rl.config import Activation, Pooling
from serl_rl.spec import MAX_ARRAY_ELEMENTS, DataError

NORM_EPSILON = 1e-6
BOTTLENECK_EPSILON = 1e-5  # as other stacks have it, whose networks begin with one


def _relu(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.maximum(x, np.float32(0.0))


def _silu(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return x * (np.float32(0.5) * np.tanh(np.float32(0.5) * x) + np.float32(0.5))


_ACTIVATIONS: Mapping[Activation, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
    "relu": _relu,
    "tanh": np.tanh,
    "silu": _silu,
}


class PolicyArrays:
    """Arrays of a snapshot, taken by name; checks shapes and that all were taken."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._arrays = arrays
        self._used: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def take(self, name: str, shape: tuple[int | None, ...]) -> NDArray[Any]:
        """The float32 array with this name and shape; in `(64, None)` None stands for any size.

        Raises:
            DataError: there is none of that name, shape and dtype, or it holds NaN or infinity.
        """
        if name not in self._arrays:
            raise DataError(name, "an array", "nothing")
        array = self._arrays[name]
        fits = len(array.shape) == len(shape)
        fits = fits and all(size in (None, found) for size, found in zip(shape, array.shape, strict=True))
        if array.dtype != np.float32 or not fits:
            raise DataError(name, f"float32 {shape}".replace("None", "any"), f"{array.dtype} {array.shape}")
        if not np.isfinite(array).all():
            raise DataError(name, "finite values", "nan or inf")
        self._used.add(name)
        return array

    def pass_over(self, prefix: str) -> None:
        """Count all arrays below a prefix as taken: somebody else has checked and taken them."""
        self._used.update(name for name in self._arrays if name.startswith(f"{prefix}/"))

    def dense(self, prefix: str, inputs: int, outputs: int | None = None) -> tuple[NDArray[Any], NDArray[Any]]:
        """Kernel (inputs, outputs) and bias (outputs,) of a dense layer."""
        kernel = self.take(f"{prefix}/kernel", (inputs, outputs))
        return kernel, self.take(f"{prefix}/bias", (kernel.shape[1],))

    def norm(self, prefix: str, width: int) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """Scale and bias (width,) of a layer normalization; None where there is none."""
        if f"{prefix}/scale" not in self._arrays:
            return None
        return self.take(f"{prefix}/scale", (width,)), self.take(f"{prefix}/bias", (width,))

    def expect_all_used(self) -> None:
        """Raise DataError if arrays are left that nobody took."""
        surplus = sorted(set(self._arrays) - self._used)
        if surplus:
            raise DataError("arrays", f"only {sorted(self._used)}", f"also {surplus[:5]}")


class Network:
    """Hidden layers and a linear one: PREFIXtrunk/dense_I, perhaps with trunk/norm_I, and PREFIXhead.

    PREFIXbottleneck, where there is one, stands before them.
    """

    def __init__(
        self, arrays: PolicyArrays, prefix: str, width: int, activation: Activation, outputs: int | None = None
    ) -> None:
        """Take the network's arrays.

        Args:
            arrays: of the policy.
            prefix: of their names.
            width: of the input.
            activation: of the hidden layers.
            outputs: how many there must be; None takes any number.

        Raises:
            DataError: they do not make such a network.
        """
        if activation not in get_args(Activation):
            raise DataError("activation", " or ".join(get_args(Activation)), repr(activation))
        self._activation = _ACTIVATIONS[activation]
        self._bottleneck: tuple[NDArray[Any], NDArray[Any], tuple[NDArray[Any], NDArray[Any]]] | None = None
        if f"{prefix}bottleneck/dense/kernel" in arrays:
            kernel, bias = arrays.dense(f"{prefix}bottleneck/dense", width)
            width = kernel.shape[1]
            norm = arrays.norm(f"{prefix}bottleneck/norm", width)
            if norm is None:
                raise DataError(f"{prefix}bottleneck/norm/scale", "an array", "nothing")
            self._bottleneck = kernel, bias, norm
        self._layers: list[tuple[NDArray[Any], NDArray[Any], tuple[NDArray[Any], NDArray[Any]] | None]] = []
        while f"{prefix}trunk/dense_{len(self._layers)}/kernel" in arrays:
            kernel, bias = arrays.dense(f"{prefix}trunk/dense_{len(self._layers)}", width)
            width = kernel.shape[1]
            norm = arrays.norm(f"{prefix}trunk/norm_{len(self._layers)}", width)
            self._layers.append((kernel, bias, norm))
        self._head = arrays.dense(f"{prefix}head", width, outputs)
        self.outputs = self._head[0].shape[1]

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs of an input (width,), which is left as it is."""
        if self._bottleneck is not None:
            kernel, bias, first_norm = self._bottleneck
            x = np.tanh(_normalized(x @ kernel + bias, first_norm, BOTTLENECK_EPSILON))
        for kernel, bias, norm in self._layers:
            x = x @ kernel + bias
            if norm is not None:
                x = _normalized(x, norm)
            x = self._activation(x)
        kernel, bias = self._head
        return x @ kernel + bias


class CameraHead:
    """What follows the encoder for one camera: pooling, dense layer, layer normalization, tanh."""

    def __init__(
        self, arrays: PolicyArrays, name: str, shape: tuple[int, int, int], pooling: Pooling, owner: str = ""
    ) -> None:
        if min(shape) < 1 or prod(shape) > MAX_ARRAY_ELEMENTS:
            raise DataError(f"frames {name}", "positive sizes", str(shape))
        height, width, channels = shape
        prefix = f"{owner}vision/heads_{name}"
        self._positions = height * width
        self._pooling = pooling
        match pooling:
            case "spatial_embeddings":
                kernel = arrays.take(f"{prefix}/pooling/kernel", (height, width, channels, None))
                self._kernel = kernel.reshape(self._positions, channels, -1)
                pooled = channels * self._kernel.shape[2]
            case "spatial_softmax":
                self._temperature = arrays.take(f"{prefix}/pooling/temperature", ())
                y, x = np.meshgrid(np.linspace(-1.0, 1.0, height), np.linspace(-1.0, 1.0, width), indexing="ij")
                self._grid = np.stack([x.ravel(), y.ravel()]).astype(np.float32)
                pooled = 2 * channels
            case "average":
                pooled = channels
        self._dense = arrays.dense(f"{prefix}/dense", pooled)
        self.width = self._dense[0].shape[1]
        norm = arrays.norm(f"{prefix}/norm", self.width)
        if norm is None:
            raise DataError(f"{prefix}/norm/scale", "an array", "nothing")
        self._norm = norm

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vector (width,) of a feature map (h, w, c)."""
        kernel, bias = self._dense
        return np.tanh(_normalized(self._pool(features.reshape(self._positions, -1)) @ kernel + bias, self._norm))

    def _pool(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._pooling == "spatial_embeddings":
            return np.einsum("pc,pce->ce", features, self._kernel).ravel()
        if self._pooling == "spatial_softmax":
            logits = features / self._temperature
            weights = np.exp(logits - logits.max(axis=0))
            return (self._grid @ (weights / weights.sum(axis=0))).ravel()
        return features.mean(axis=0)


def _normalized(
    x: NDArray[np.float32], norm: tuple[NDArray[Any], NDArray[Any]], epsilon: float = NORM_EPSILON
) -> NDArray[np.float32]:
    """Layer normalization of a vector that may be overwritten."""
    x -= x.mean()
    x *= np.float32(1.0) / np.sqrt(x @ x / np.float32(len(x)) + np.float32(epsilon))
    return x * norm[0] + norm[1]
