# SPDX-License-Identifier: Apache-2.0
"""Layers of other stacks' networks in numpy, for one observation at a time. Feature maps are (h, w, c), float32.

Kernels are as in flax: (in, out) of a linear layer, (kh, kw, in, out) of a convolution; `linear_kernel` and
`convolution_kernel` make them of PyTorch's.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[np.float32]
Padding = tuple[tuple[int, int], tuple[int, int]]
"""Places above and below a map, left and right of it."""

NO_PADDING: Final[Padding] = ((0, 0), (0, 0))

TORCH_EPSILON: Final = 1e-5
FLAX_EPSILON: Final = 1e-6
"""What layer normalizations of the two add to the variance where nobody says otherwise."""


class Linear(NamedTuple):
    """Kernel (in, out) and bias (out,)."""

    kernel: Array
    bias: Array

    def __call__(self, x: Array) -> Array:
        """Outputs (..., out) of inputs (..., in)."""
        return x @ self.kernel + self.bias


class LayerNorm(NamedTuple):
    """Scale and bias (width,), and what is added to the variance."""

    scale: Array
    bias: Array
    epsilon: float

    def __call__(self, x: Array) -> Array:
        """Normalized vector (width,)."""
        centred = x - x.mean()
        return centred / np.sqrt(np.mean(np.square(centred)) + np.float32(self.epsilon)) * self.scale + self.bias


class GroupNorm(NamedTuple):
    """Scale and bias (c,) of groups of channels that are normalized together."""

    scale: Array
    bias: Array
    groups: int
    epsilon: float

    def __call__(self, x: Array) -> Array:
        """Normalized feature map (h, w, c)."""
        height, width, channels = x.shape
        grouped = x.reshape(height * width, self.groups, channels // self.groups)
        centred = grouped - grouped.mean(axis=(0, 2), keepdims=True)
        variance = np.mean(np.square(centred), axis=(0, 2), keepdims=True)
        return (centred / np.sqrt(variance + np.float32(self.epsilon))).reshape(x.shape) * self.scale + self.bias


class Convolution(NamedTuple):
    """Kernel (kh, kw, in, out), bias (out,) or None, stride, and zeros around the map: above, below; left, right."""

    kernel: Array
    bias: Array | None
    stride: int = 1
    padding: Padding = NO_PADDING

    def __call__(self, x: Array) -> Array:
        """Feature map (h', w', out) of one (h, w, in)."""
        height, width, channels, outputs = self.kernel.shape
        windows = _windows(x, (height, width), self.stride, self.padding, 0.0)
        flat = windows.transpose(0, 1, 3, 4, 2).reshape(-1, height * width * channels)
        found = flat @ self.kernel.reshape(-1, outputs)
        if self.bias is not None:
            found = found + self.bias
        return found.reshape(*windows.shape[:2], outputs)


def max_pool(x: Array, size: int, stride: int, padding: Padding) -> Array:
    """Largest values (h', w', c) of windows of a feature map (h, w, c); what is padded never is the largest."""
    return _windows(x, (size, size), stride, padding, -np.inf).max(axis=(3, 4))


def same_padding(x: Array, kernel: int, stride: int) -> Padding:
    """Padding of a map (h, w, c) so that the result has ceil(side / stride) places on each axis, as "SAME" in JAX."""

    def around(side: int) -> tuple[int, int]:
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        return total // 2, total - total // 2

    return around(x.shape[0]), around(x.shape[1])


def spatial_embeddings(x: Array, kernel: Array) -> Array:
    """Sums over the positions, weighted by `kernel` (h, w, c, F), of a map (h, w, c): (c * F,), channel by channel."""
    height, width, channels, _ = kernel.shape
    places = height * width
    return np.einsum("pc,pcf->cf", x.reshape(places, channels), kernel.reshape(places, channels, -1)).ravel()


def relu(x: Array) -> Array:
    """The positive part."""
    return np.maximum(x, np.float32(0.0))


def silu(x: Array) -> Array:
    """The input times its logistic function."""
    return x * sigmoid(x)


def sigmoid(x: Array) -> Array:
    """Logistic function that does not overflow."""
    return np.float32(0.5) * (np.tanh(np.float32(0.5) * x) + np.float32(1.0))


def linear_kernel(weight: NDArray[Any]) -> Array:
    """(in, out) of PyTorch's (out, in)."""
    return np.ascontiguousarray(weight.T, np.float32)


def convolution_kernel(weight: NDArray[Any]) -> Array:
    """(kh, kw, in, out) of PyTorch's (out, in, kh, kw)."""
    return np.ascontiguousarray(weight.transpose(2, 3, 1, 0), np.float32)


def _windows(x: Array, size: tuple[int, int], stride: int, padding: Padding, fill: float) -> Array:
    """Windows (h', w', c, kh, kw) of a map (h, w, c)."""
    if padding != NO_PADDING:
        x = np.pad(x, (*padding, (0, 0)), constant_values=np.float32(fill))
    return sliding_window_view(x, size, axis=(0, 1))[::stride, ::stride]
