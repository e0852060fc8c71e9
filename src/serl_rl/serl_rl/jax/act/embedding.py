# SPDX-License-Identifier: Apache-2.0
"""Puts the encoder `small` into the ResNet of an ACT policy, whose first weights see something then.

Strides of both multiply to 32. The second to fourth convolution of `small` become the first of the ResNet's second to
fourth stage, all else there passes on what it gets; where `small` looks one place further to the lower right than a
ResNet does, neighbours are handed over in channels that are free. The ResNet pools behind its first convolution, which
`small` does not: what its first convolution gives is estimated from pooled outputs by least squares, on pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from serl_rl.encoders.architecture import SMALL
from serl_rl.encoders.encoder import Encoder
from serl_rl.foreign.act.config import ActConfig
from serl_rl.foreign.act.parameters import is_of_backbone
from serl_rl.jax.act.backbone import EPSILON
from serl_rl.spec import DataError

Array = NDArray[np.float32]

LEVELS: Final[Mapping[str, float]] = MappingProxyType({"mean": 0.5, "std": 0.5, "min": 0.0, "max": 1.0})
"""Statistics by which pictures in [0, 1] become what `small` takes, in [-1, 1], by MEAN_STD and MIN_MAX."""
STRIDE: Final = 32
"""What the edges of pictures are multiples of, where the two agree about places."""
_RIDGE: Final = 1e-6
_ROWS: Final = 20_000
_NEAR: Final = ((0, 0), (0, 1), (1, 0), (1, 1))
_FIRST: Final = SMALL[0].channels
_FREE: Final = 64 - _FIRST  # channels of the first stage that hold what was pooled


def with_encoder(
    parameters: Mapping[str, Array], config: ActConfig, encoder: Encoder, pictures: Array, seed: int
) -> dict[str, Array]:
    """Tensors of a policy whose backbone makes the maps of an encoder in its first channels, and zeros in the others.

    Args:
        parameters: tensors as `serl_rl.foreign.act.parameters.parameter_shapes` names them.
        config: of the policy.
        encoder: of kind `small`.
        pictures: (B, H, W, 3) in [-1, 1], for which the estimate is made.
        seed: of the filters by which it is made.

    Raises:
        DataError: the encoder is of another kind, the backbone one of bottlenecks, or the size of pictures none of
            both.
    """
    if encoder.kind != "small":
        raise DataError("encoder", "one of kind small", encoder.kind)
    if config.bottleneck:
        raise DataError("vision_backbone", "resnet18 or resnet34, into which the encoder fits", config.vision_backbone)
    if any(size % STRIDE for size in pictures.shape[1:3]):
        found = " x ".join(map(str, pictures.shape[1:3]))
        raise DataError("picture_size", f"a multiple of {STRIDE}, for the encoder in the backbone", found)
    made = _Backbone(parameters)
    kernels = [encoder.weights[f"conv_{index}/kernel"] for index in range(len(SMALL))]
    biases = [encoder.weights[f"conv_{index}/bias"] for index in range(len(SMALL))]
    filters, floor, estimate, offset = _first_layer(kernels[0], biases[0], pictures, np.random.default_rng(seed))
    made.put("conv1", filters, bias=floor)
    made.put("layer1.0.conv1", estimate, bias=offset)
    made.put("layer1.0.conv2", _moved(_FIRST, 1, 1), out=_FREE)
    made.put("layer2.0.conv1", kernels[1], bias=biases[1], first=_FREE)
    for stage in (2, 3, 4):
        channels = SMALL[stage - 1].channels
        made.put(f"layer{stage}.0.conv2", _moved(channels, 0, 0))
        if stage < 4:
            for place, (down, right) in enumerate(_NEAR):
                made.put(f"layer{stage}.1.conv1", _moved(channels, down, right), out=place * channels)
                if place:
                    start = place * channels
                    made.put(f"layer{stage}.1.conv2", _moved(channels, 0, 0), out=start, first=start)
            made.put(f"layer{stage + 1}.0.conv1", _spread(kernels[stage]), bias=biases[stage])
    return made.tensors


class _Backbone:
    """Tensors of a policy whose backbone lets nothing through, until convolutions are put into it."""

    def __init__(self, parameters: Mapping[str, Array]) -> None:
        self.tensors = dict(parameters)
        for name, values in parameters.items():
            if not is_of_backbone(name):
                continue
            fill = 0.0
            if name.endswith(".running_var"):
                fill = 1 - EPSILON
            elif ".bn" in name and name.endswith(".weight"):
                fill = 1.0
            self.tensors[name] = np.full_like(values, fill)

    def put(self, name: str, kernel: Array, *, bias: Array | None = None, out: int = 0, first: int = 0) -> None:
        """A kernel (h, w, in, out) in the middle of a larger one, from these channels on."""
        block, _, last = name.rpartition("conv")
        values = self.tensors[f"backbone.{name}.weight"]
        height, width, inputs, outputs = kernel.shape
        edge = (values.shape[2] - height) // 2
        values[out : out + outputs, first : first + inputs, edge : edge + height, edge : edge + width] = (
            kernel.transpose(3, 2, 0, 1)
        )
        if bias is not None:
            self.tensors[f"backbone.{block}bn{last}.bias"][out : out + outputs] = bias


def _first_layer(
    kernel: Array, bias: Array, pictures: Array, rng: np.random.Generator
) -> tuple[Array, Array, Array, Array]:
    """Filters (5, 5, 3, F) before the pooling, what keeps them positive (F,), and the estimate of it with its bias."""
    drawn = rng.normal(0, 1 / np.sqrt(kernel[..., 0].size), (*kernel.shape[:3], _FREE - 2 * _FIRST))
    filters = np.concatenate([kernel, -kernel, drawn], -1).astype(np.float32)
    seen = _convolved(pictures, filters, 2, (2, 2))
    floor = -seen.min((0, 1, 2))  # the rectifier cuts nothing off
    pooled = jax.lax.reduce_window(
        jnp.asarray(seen + floor), -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0))
    )
    height, width = pooled.shape[1:3]
    around = np.pad(np.asarray(pooled), ((0, 0), (1, 1), (1, 1), (0, 0)))
    near = [around[:, y : y + height, x : x + width] for y in range(3) for x in range(3)]
    rows = np.concatenate([*near, np.ones_like(near[0][..., :1])], -1).reshape(-1, 9 * _FREE + 1)
    wanted = _convolved(pictures, kernel, 4, (0, 1)) + bias
    some = rng.permutation(len(rows))[:_ROWS]
    rows, wanted = rows[some], wanted.reshape(-1, _FIRST)[some]
    squares = rows.T @ rows.astype(np.float64)
    squares += np.eye(len(squares)) * _RIDGE * np.trace(squares) / len(squares)
    found = np.linalg.solve(squares, rows.T @ wanted.astype(np.float64)).astype(np.float32)
    return filters, floor, found[:-1].reshape(3, 3, _FREE, _FIRST), found[-1]


def _convolved(pictures: Array, kernel: Array, stride: int, padding: tuple[int, int]) -> Array:
    x, weights, form = jnp.asarray(pictures), jnp.asarray(kernel), ("NHWC", "HWIO", "NHWC")
    return np.asarray(
        jax.lax.conv_general_dilated(x, weights, (stride, stride), (padding, padding), dimension_numbers=form)
    )


def _moved(channels: int, down: int, right: int) -> Array:
    """A kernel that gives what lies so far below and to the right."""
    kernel = np.zeros((3, 3, channels, channels), np.float32)
    kernel[1 + down, 1 + right] = np.eye(channels)
    return kernel


def _spread(kernel: Array) -> Array:
    """A kernel over places 0 to 2 as one over places -1 to 1, which finds place 2 in channels of the neighbour."""
    inputs = kernel.shape[2]
    made = np.zeros((3, 3, len(_NEAR) * inputs, kernel.shape[3]), np.float32)
    for y in range(3):
        for x in range(3):
            down, right = int(y == 2), int(x == 2)
            start = _NEAR.index((down, right)) * inputs
            made[1 + y - down, 1 + x - right, start : start + inputs] = kernel[y, x]
    return made
