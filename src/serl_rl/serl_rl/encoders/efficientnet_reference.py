# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-Lite0 as it was published, with batch normalization, in numpy and double precision.

Slow, and written from the published description alone: what the encoder with folded weights has to agree with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serl_rl.encoders.architecture import lite_blocks, lite_pool
from serl_rl.encoders.efficientnet_params import EPSILON

Maps = NDArray[np.float64]


def reference_features(arrays: Mapping[str, NDArray[Any]], pictures: NDArray[np.uint8], stages: int) -> Maps:
    """Feature maps (B, h, w, c) of RGB pictures (B, H, W, 3) behind the first stages.

    Args:
        arrays: the published weights by PyTorch's names, as `read_torch_arrays` reads them.
        pictures: to look at.
        stages: how many of the network's are run.
    """
    x = (pictures.astype(np.float64) - 127.0) / 128.0
    x = _relu6(_normalized(_convolved(x, arrays["_conv_stem.weight"], 2), arrays, "_bn0"))
    for index, block in enumerate(lite_blocks(stages)):
        name, y = f"_blocks.{index}", x
        if block.widening > 1:
            y = _relu6(_normalized(_convolved(y, arrays[f"{name}._expand_conv.weight"], 1), arrays, f"{name}._bn0"))
        y = _convolved(y, arrays[f"{name}._depthwise_conv.weight"], block.stride)
        y = _relu6(_normalized(y, arrays, f"{name}._bn1"))
        y = _normalized(_convolved(y, arrays[f"{name}._project_conv.weight"], 1), arrays, f"{name}._bn2")
        x = x + y if x.shape == y.shape else y
    return _pooled(x, lite_pool(stages))


def _convolved(x: Maps, kernel: NDArray[Any], stride: int) -> Maps:
    """Maps (B, h, w, c) of maps (B, H, W, C) with a kernel (c, C, k, k), or (C, 1, k, k) of each channel by itself."""
    size = kernel.shape[-1]
    padded = np.pad(x, ((0, 0), *(_padding(length, size, stride) for length in x.shape[1:3]), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (1, 2))[:, ::stride, ::stride]
    if kernel.shape[1] == 1 != x.shape[-1]:
        return np.asarray(np.einsum("bhwcij,cij->bhwc", windows, kernel[:, 0].astype(np.float64), optimize=True))
    return np.asarray(np.einsum("bhwcij,ocij->bhwo", windows, kernel.astype(np.float64), optimize=True))


def _normalized(x: Maps, arrays: Mapping[str, NDArray[Any]], name: str) -> Maps:
    scale, bias, mean, variance = (
        arrays[f"{name}.{part}"].astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / np.sqrt(variance + EPSILON) * scale + bias


def _relu6(x: Maps) -> Maps:
    return np.clip(x, 0.0, 6.0)


def _pooled(x: Maps, size: int) -> Maps:
    """Means of squares of `size` x `size`; of those at the edges, of what there is in them."""

    def sums(values: Maps) -> Maps:
        padded = np.pad(values, ((0, 0), *(_padding(length, size, size) for length in values.shape[1:3]), (0, 0)))
        batch, height, width, channels = padded.shape
        return np.asarray(padded.reshape(batch, height // size, size, width // size, size, channels).sum((2, 4)))

    return np.asarray(sums(x) / sums(np.ones_like(x)))


def _padding(length: int, size: int, stride: int) -> tuple[int, int]:
    """What is added before and behind, so that the result has length / stride, rounded up; an odd rest is behind."""
    total = max((-(-length // stride) - 1) * stride + size - length, 0)
    return total // 2, total - total // 2
