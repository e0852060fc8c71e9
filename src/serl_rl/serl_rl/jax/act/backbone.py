# SPDX-License-Identifier: Apache-2.0
"""The ResNet that makes feature maps of pictures (He et al., arXiv 1512.03385), with frozen batch normalisation.

The normalisation is folded into the convolutions, which is exact as it never changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from serl_rl.foreign.act.config import ActConfig

Parameters = Mapping[str, Any]
_Convolved = Callable[[str, jax.Array, int, int], jax.Array]

EPSILON = 1e-5
SMALL_MAP = 3
"""Rows or columns of an output below which XLA's convolutions on a CPU take 50 times as long as the same product of
matrices, of the gradients, too."""


class Convolution(NamedTuple):
    """A convolution and the normalisation behind it."""

    kernel: jax.Array
    """(height, width, in, out)."""
    bias: jax.Array
    """(out,)."""


def fold(parameters: Parameters, config: ActConfig) -> dict[str, Convolution]:
    """The convolutions of the backbone, by name, from tensors as `parameter_shapes` names them."""
    names = ["conv1"]
    for stage, blocks in enumerate(config.backbone_blocks, 1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            names += [f"{name}.conv{index}" for index in range(1, 4 if config.bottleneck else 3)]
            if f"backbone.{name}.downsample.0.weight" in parameters:
                names.append(f"{name}.downsample")
    return {name: _folded(parameters, *_tensors(name)) for name in names}


def _tensors(name: str) -> tuple[str, str]:
    """What the tensors of a convolution, and those of its normalisation, begin with."""
    if name.endswith(".downsample"):
        return f"backbone.{name}.0", f"backbone.{name}.1"
    block, _, last = name.rpartition("conv")
    return f"backbone.{name}", f"backbone.{block}bn{last}"


def feature_map(layers: Mapping[str, Convolution], config: ActConfig, pictures: jax.Array) -> jax.Array:
    """Feature maps (B, h, w, C) of normalised pictures (B, H, W, 3); h is H / 32, rounded up."""

    def convolved(name: str, x: jax.Array, stride: int, dilation: int) -> jax.Array:
        return _convolve(layers[name], x, stride, dilation)

    return _through(config, convolved, pictures)


def calibrated(
    parameters: Mapping[str, NDArray[np.float32]], config: ActConfig, pictures: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    """Tensors whose frozen normalisations make the outputs of each convolution standard normal on these pictures.

    With new weights the normalisations change nothing otherwise, and activations double with each block.

    Args:
        parameters: tensors as `parameter_shapes` names them.
        config: of the policy.
        pictures: (B, H, W, 3), normalised.
    """
    made = dict(parameters)

    def measured(name: str, x: jax.Array, stride: int, dilation: int) -> jax.Array:
        convolution, norm = _tensors(name)
        kernel = jnp.transpose(jnp.asarray(made[f"{convolution}.weight"]), (2, 3, 1, 0))
        y = _convolve(Convolution(kernel, jnp.zeros(kernel.shape[-1])), x, stride, dilation)
        made[f"{norm}.running_mean"] = np.asarray(y.mean((0, 1, 2)))
        made[f"{norm}.running_var"] = np.asarray(y.var((0, 1, 2)))
        return _convolve(_folded(made, convolution, norm), x, stride, dilation)

    _through(config, measured, jnp.asarray(pictures))
    return made


def _through(config: ActConfig, convolved: _Convolved, pictures: jax.Array) -> jax.Array:
    """The network around its convolutions, each of which is called by name, with its input, stride and dilation."""
    x = jax.nn.relu(convolved("conv1", pictures, 2, 1))
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0)))
    dilated = bool(config.replace_final_stride_with_dilation)
    for stage, blocks in enumerate(config.backbone_blocks, 1):
        for block in range(blocks):
            last = dilated and stage == 4
            stride = 2 if block == 0 and stage > 1 and not last else 1
            dilation = 2 if last and block > 0 else 1
            shortcut = block == 0 and (stage > 1 or config.bottleneck)
            x = _block(convolved, f"layer{stage}.{block}", x, stride, dilation, config.bottleneck, shortcut)
    return x


def _block(
    convolved: _Convolved, name: str, x: jax.Array, stride: int, dilation: int, bottleneck: bool, shortcut: bool
) -> jax.Array:
    beside = convolved(f"{name}.downsample", x, stride, 1) if shortcut else x
    if bottleneck:
        x = jax.nn.relu(convolved(f"{name}.conv1", x, 1, 1))
        x = jax.nn.relu(convolved(f"{name}.conv2", x, stride, dilation))
        x = convolved(f"{name}.conv3", x, 1, 1)
    else:
        x = jax.nn.relu(convolved(f"{name}.conv1", x, stride, 1))
        x = convolved(f"{name}.conv2", x, 1, 1)
    return jax.nn.relu(x + beside)


def _convolve(layer: Convolution, x: jax.Array, stride: int = 1, dilation: int = 1) -> jax.Array:
    extent = (layer.kernel.shape[0] - 1) * dilation + 1
    padding = extent // 2
    height, width = ((size + 2 * padding - extent) // stride + 1 for size in x.shape[1:3])
    if dilation == 1 and min(height, width) < SMALL_MAP:
        return _convolve_small(layer, x, stride, (height, width))
    made = jax.lax.conv_general_dilated(
        x,
        layer.kernel,
        (stride, stride),
        ((padding, padding), (padding, padding)),
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return made + layer.bias


def _convolve_small(layer: Convolution, x: jax.Array, stride: int, shape: tuple[int, int]) -> jax.Array:
    """A convolution as one product of matrices, with a row for each place of the output."""
    size, _, channels, made = layer.kernel.shape
    padding = size // 2
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    height, width = ((count - 1) * stride + 1 for count in shape)
    seen = [
        x[:, row : row + height : stride, column : column + width : stride]
        for row in range(size)
        for column in range(size)
    ]
    rows = jnp.concatenate(seen, -1).reshape(-1, size * size * channels)
    kernel = layer.kernel.reshape(size * size * channels, made)
    return (rows @ kernel + layer.bias).reshape(x.shape[0], *shape, made)


def _folded(parameters: Parameters, convolution: str, norm: str) -> Convolution:
    scale = parameters[f"{norm}.weight"] * jax.lax.rsqrt(parameters[f"{norm}.running_var"] + EPSILON)
    kernel = jnp.transpose(parameters[f"{convolution}.weight"], (2, 3, 1, 0)) * scale
    return Convolution(kernel, parameters[f"{norm}.bias"] - parameters[f"{norm}.running_mean"] * scale)
