# SPDX-License-Identifier: Apache-2.0
"""The ResNet-10 of SERL and of LeRobot's HIL-SERL in numpy, for one picture at a time; 4 x 4 x 512 of 128 x 128 pixels.

Its parameters are named as in SERL's flax checkpoints, which are the names of our own encoder of this kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from serl_rl.encoders.architecture import RESNET_BLOCKS, parameter_shapes, resnet_blocks
from serl_rl.foreign.layers import TORCH_EPSILON, Array, Convolution, GroupNorm, max_pool, relu, same_padding

KIND: Final = "resnet10"
SHAPES: Final[Mapping[str, tuple[int, ...]]] = parameter_shapes(KIND)
"""Shape of each parameter by its name, kernels (kh, kw, in, out)."""

IMAGENET_MEAN: Final = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_DEVIATION: Final = np.array([0.229, 0.224, 0.225], np.float32)
"""Mean and standard deviation of red, green and blue in pictures of ImageNet, from 0 to 1."""

_GROUPS: Final = 4


class ResNet10:
    """Feature maps (h, w, 512) of normalized pictures (H, W, 3)."""

    def __init__(self, parameters: Mapping[str, Array]) -> None:
        """Take the parameters, which are all of `SHAPES`."""
        self.parameters = parameters
        self._blocks = list(resnet_blocks(RESNET_BLOCKS[KIND]))

    def __call__(self, picture: Array) -> Array:
        """The feature map of a picture, whose values nobody changes before the first convolution."""
        first = Convolution(self.parameters["conv_init/kernel"], None, 2, ((3, 3), (3, 3)))
        x = relu(self._norm("norm_init")(first(picture)))
        x = max_pool(x, 3, 2, same_padding(x, 3, 2))
        for index, (_, stride) in enumerate(self._blocks):
            x = self._block(f"ResNetBlock_{index}", x, stride)
        return x

    def _block(self, name: str, x: Array, stride: int) -> Array:
        y = relu(self._norm(f"{name}/MyGroupNorm_0")(self._convolved(f"{name}/Conv_0", x, stride)))
        y = self._norm(f"{name}/MyGroupNorm_1")(self._convolved(f"{name}/Conv_1", y, 1))
        if f"{name}/conv_proj/kernel" in self.parameters:
            x = self._norm(f"{name}/norm_proj")(self._convolved(f"{name}/conv_proj", x, stride))
        return relu(x + y)

    def _convolved(self, name: str, x: Array, stride: int) -> Array:
        kernel = self.parameters[f"{name}/kernel"]
        return Convolution(kernel, None, stride, same_padding(x, kernel.shape[0], stride))(x)

    def _norm(self, name: str) -> GroupNorm:
        scale, bias = self.parameters[f"{name}/scale"], self.parameters[f"{name}/bias"]
        return GroupNorm(scale, bias, _GROUPS, TORCH_EPSILON)


def torch_names() -> Iterator[tuple[str, str]]:
    """Name of each parameter, and the one that LeRobot's network has for it."""
    parts = {
        "conv_init": "embedder.0",
        "norm_init": "embedder.1.group_norm",
        "Conv_0": "conv1.conv",
        "MyGroupNorm_0": "norm1.group_norm",
        "Conv_1": "conv2.conv",
        "MyGroupNorm_1": "norm2.group_norm",
        "conv_proj": "shortcut.0.conv",
        "norm_proj": "shortcut.1.group_norm",
    }
    for name in SHAPES:
        *block, layer, leaf = name.split("/")
        stage = f"encoder.stages.{block[0].removeprefix('ResNetBlock_')}." if block else ""
        yield name, f"{stage}{parts[layer]}.{'bias' if leaf == 'bias' else 'weight'}"


def normalized(picture: NDArray[Any]) -> Array:
    """A picture (H, W, 3) of uint8 as networks of ImageNet expect it."""
    return (picture.astype(np.float32) / np.float32(255.0) - IMAGENET_MEAN) / IMAGENET_DEVIATION
