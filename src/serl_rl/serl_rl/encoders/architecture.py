# SPDX-License-Identifier: Apache-2.0
"""What the networks of each kind of encoder are made of: their parameters and the size of their feature maps.

This is all that has to be known about an encoder where pictures are not looked at; the networks of a backend are built
from the same numbers. Names of parameters are layer/.../parameter, and kernels (height, width, channels in, out).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from math import prod
from types import MappingProxyType
from typing import Final, NamedTuple

from serl_rl.encoders.file import EncoderError

Shapes = Iterator[tuple[str, tuple[int, ...]]]

PICTURE_CHANNELS: Final = 3


class Convolution(NamedTuple):
    """One square convolution, padded so that a stride of 1 keeps the size of the map."""

    channels: int
    """Channels of the map that it makes."""
    size: int
    """Edge of its kernel."""
    stride: int


SMALL: Final = (Convolution(16, 5, 4), Convolution(32, 3, 2), Convolution(64, 3, 2), Convolution(64, 3, 2))
"""The convolutions of `small`, each followed by a rectifier."""

RESNET_WIDTH: Final = 64
"""Channels of the first stage of a ResNet; each further stage has twice as many, on maps of half the size."""
RESNET_BLOCKS: Final = MappingProxyType({"resnet10": (1, 1, 1, 1), "resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)})
"""Blocks in each of the four stages (He et al., arXiv 1512.03385)."""

MOBILENET_WIDTH: Final = 16
"""Channels behind the first convolution of `mobilenet`, whose stride is 2."""
MOBILENET_WIDENING: Final = 4
"""Factor by which a block widens its input before it filters each channel by itself."""
MOBILENET_BLOCKS: Final = ((16, 1), (24, 2), (24, 1), (32, 2), (32, 1), (48, 2), (48, 1), (64, 2), (64, 1))
"""Channels and stride of each block."""


class LiteBlocks(NamedTuple):
    """One stage of EfficientNet-Lite0: inverted residual blocks, all but the first of stride 1."""

    blocks: int
    channels: int
    """Behind each block."""
    size: int
    """Edge of the kernels that filter each channel by itself."""
    stride: int
    """Stride of the first block."""
    widening: int
    """Factor by which a block widens its input; 1: it does not."""


LITE: Final = MappingProxyType({f"efficientnet_lite0_{stages}": stages for stages in (3, 4, 5, 6)})
"""Kinds that are EfficientNet-Lite0 cut behind a stage, and which: maps of 128 x 128 pixels are at most 8 kB in half
precision."""
LITE_STRIDE: Final = 32
"""How much smaller than the picture a map is pooled to be."""
LITE_WIDTH: Final = 32
"""Channels behind the first convolution of EfficientNet-Lite0, whose stride is 2."""
LITE_STAGES: Final = (
    LiteBlocks(1, 16, 3, 1, 1),
    LiteBlocks(2, 24, 3, 2, 6),
    LiteBlocks(2, 40, 5, 2, 6),
    LiteBlocks(3, 80, 3, 2, 6),
    LiteBlocks(3, 112, 5, 1, 6),
    LiteBlocks(4, 192, 5, 2, 6),
    LiteBlocks(1, 320, 3, 1, 6),
)
"""All stages of EfficientNet-Lite0: EfficientNet-B0 (Tan and Le, arXiv 1905.11946) without squeeze and excitation."""


class LiteBlock(NamedTuple):
    """One block of EfficientNet-Lite0."""

    channels: int
    size: int
    stride: int
    widening: int


def lite_blocks(stages: int) -> Iterator[LiteBlock]:
    """The blocks of the first stages of EfficientNet-Lite0."""
    for stage in LITE_STAGES[:stages]:
        for position in range(stage.blocks):
            yield LiteBlock(stage.channels, stage.size, stage.stride if position == 0 else 1, stage.widening)


class ResNetBlock(NamedTuple):
    """One basic block of a ResNet."""

    channels: int
    stride: int


def resnet_blocks(stages: tuple[int, ...]) -> Iterator[ResNetBlock]:
    """The blocks of a ResNet with so many in each stage: the first of each but the first stage halves the map."""
    for stage, count in enumerate(stages):
        for position in range(count):
            yield ResNetBlock(RESNET_WIDTH * 2**stage, 2 if stage > 0 and position == 0 else 1)


class _Kind(NamedTuple):
    parameters: Callable[[], Shapes]
    strides: tuple[int, ...]
    channels: int


def _small() -> Shapes:
    inputs = PICTURE_CHANNELS
    for index, layer in enumerate(SMALL):
        yield from _convolution(f"conv_{index}", layer.size, inputs, layer.channels)
        inputs = layer.channels


def _norm(name: str, channels: int) -> Shapes:
    yield f"{name}/scale", (channels,)
    yield f"{name}/bias", (channels,)


def _resnet(stages: tuple[int, ...]) -> Shapes:
    yield "conv_init/kernel", (7, 7, PICTURE_CHANNELS, RESNET_WIDTH)
    yield from _norm("norm_init", RESNET_WIDTH)
    inputs = RESNET_WIDTH
    for index, (channels, stride) in enumerate(resnet_blocks(stages)):
        block = f"ResNetBlock_{index}"
        yield f"{block}/Conv_0/kernel", (3, 3, inputs, channels)
        yield from _norm(f"{block}/MyGroupNorm_0", channels)
        yield f"{block}/Conv_1/kernel", (3, 3, channels, channels)
        yield from _norm(f"{block}/MyGroupNorm_1", channels)
        if stride > 1 or inputs != channels:
            yield f"{block}/conv_proj/kernel", (1, 1, inputs, channels)
            yield from _norm(f"{block}/norm_proj", channels)
        inputs = channels


def _mobilenet() -> Shapes:
    yield "conv_init/kernel", (3, 3, PICTURE_CHANNELS, MOBILENET_WIDTH)
    yield from _norm("norm_init", MOBILENET_WIDTH)
    inputs = MOBILENET_WIDTH
    for index, (channels, _) in enumerate(MOBILENET_BLOCKS):
        block, wide = f"block_{index}", MOBILENET_WIDENING * inputs
        yield f"{block}/conv_widen/kernel", (1, 1, inputs, wide)
        yield from _norm(f"{block}/norm_widen", wide)
        yield f"{block}/conv_each/kernel", (3, 3, 1, wide)
        yield from _norm(f"{block}/norm_each", wide)
        yield f"{block}/conv_narrow/kernel", (1, 1, wide, channels)
        yield from _norm(f"{block}/norm_narrow", channels)
        inputs = channels


def _lite(stages: int) -> Shapes:
    yield from _convolution("conv_init", 3, PICTURE_CHANNELS, LITE_WIDTH)
    inputs = LITE_WIDTH
    for index, block in enumerate(lite_blocks(stages)):
        name, wide = f"block_{index}", block.widening * inputs
        if block.widening > 1:
            yield from _convolution(f"{name}/conv_widen", 1, inputs, wide)
        yield from _convolution(f"{name}/conv_each", block.size, 1, wide)
        yield from _convolution(f"{name}/conv_narrow", 1, wide, block.channels)
        inputs = block.channels


def _convolution(name: str, size: int, inputs: int, channels: int) -> Shapes:
    yield f"{name}/kernel", (size, size, inputs, channels)
    yield f"{name}/bias", (channels,)


def lite_pool(stages: int) -> int:
    """Edge of the squares of the map behind so many stages that are pooled into one feature."""
    return LITE_STRIDE // (2 * prod(stage.stride for stage in LITE_STAGES[:stages]))


def _lite_kind(stages: int) -> _Kind:
    strides = (2, *(block.stride for block in lite_blocks(stages)), lite_pool(stages))
    return _Kind(partial(_lite, stages), strides, LITE_STAGES[stages - 1].channels)


def _resnet_kind(stages: tuple[int, ...]) -> _Kind:
    blocks = tuple(resnet_blocks(stages))
    # The first convolution and the pooling behind it halve the map before the blocks do.
    return _Kind(partial(_resnet, stages), (2, 2, *(block.stride for block in blocks)), blocks[-1].channels)


_KINDS: Final[Mapping[str, _Kind]] = {
    "small": _Kind(_small, tuple(layer.stride for layer in SMALL), SMALL[-1].channels),
    **{kind: _resnet_kind(stages) for kind, stages in RESNET_BLOCKS.items()},
    "mobilenet": _Kind(_mobilenet, (2, *(stride for _, stride in MOBILENET_BLOCKS)), MOBILENET_BLOCKS[-1][0]),
    **{kind: _lite_kind(stages) for kind, stages in LITE.items()},
}


def _find(kind: str) -> _Kind:
    if kind not in _KINDS:
        raise EncoderError("encoder", " or ".join(_KINDS), repr(kind))
    return _KINDS[kind]


@cache
def parameter_shapes(kind: str) -> Mapping[str, tuple[int, ...]]:
    """Names and shapes of all parameters of a kind of encoder, sorted by name.

    Raises:
        EncoderError: there is no such kind.
    """
    return MappingProxyType(dict(sorted(_find(kind).parameters())))


def feature_shape(kind: str, height: int, width: int) -> tuple[int, int, int]:
    """Shape (h, w, c) of the feature map of a picture of this size [pixels].

    Raises:
        EncoderError: there is no such kind.
    """
    found = _find(kind)
    for stride in found.strides:
        height, width = -(-height // stride), -(-width // stride)
    return height, width, found.channels
