# SPDX-License-Identifier: Apache-2.0
"""Tensors of a PyTorch module by their dotted names: taken with the shapes that are expected, until none is left."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from serl_rl.foreign.errors import ForeignError
from serl_rl.foreign.layers import (
    TORCH_EPSILON,
    Array,
    Convolution,
    LayerNorm,
    Linear,
    convolution_kernel,
    linear_kernel,
    silu,
)
from serl_rl.foreign.resnet10 import SHAPES, ResNet10, torch_names


class TorchTensors:
    """Named tensors of a file, each of which has to be taken."""

    def __init__(self, source: Path, tensors: Mapping[str, Array]) -> None:
        """`source` is named in errors."""
        self.source = source
        self._tensors = tensors
        self._used: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def any_below(self, prefix: str) -> bool:
        """Whether there is a tensor whose name begins so."""
        return any(name.startswith(prefix) for name in self._tensors)

    def take(self, name: str, shape: tuple[int | None, ...]) -> Array:
        """The tensor of this name and shape; None in the shape stands for any size but 0. Raises ForeignError."""
        if name not in self._tensors:
            raise ForeignError(self.source, f"a tensor {name!r}", f"{len(self._tensors)} tensors without it")
        tensor = self._tensors[name]
        fits = len(tensor.shape) == len(shape)
        pairs = zip(shape, tensor.shape, strict=False)
        if not fits or any(not found or size not in (None, found) for size, found in pairs):
            expected = f"{name} of shape {shape}".replace("None", "any")
            raise ForeignError(self.source, expected, str(tensor.shape))
        self._used.add(name)
        return tensor

    def linear(self, name: str, inputs: int | None, outputs: int | None = None) -> Linear:
        """A linear layer."""
        weight = self.take(f"{name}.weight", (outputs, inputs))
        return Linear(linear_kernel(weight), self.take(f"{name}.bias", (weight.shape[0],)))

    def norm(self, name: str, width: int) -> LayerNorm:
        """A layer normalization."""
        return LayerNorm(self.take(f"{name}.weight", (width,)), self.take(f"{name}.bias", (width,)), TORCH_EPSILON)

    def convolution(self, name: str, inputs: int, kernel: int, stride: int) -> Convolution:
        """A convolution without padding."""
        weight = self.take(f"{name}.weight", (None, inputs, kernel, kernel))
        return Convolution(convolution_kernel(weight), self.take(f"{name}.bias", (weight.shape[0],)), stride)

    def resnet10(self, prefix: str) -> ResNet10:
        """LeRobot's ResNet-10, whose tensors' names begin so."""
        parameters = {}
        for name, torch_name in torch_names():
            shape = SHAPES[name]
            if len(shape) == 4:
                height, width, inputs, outputs = shape
                found = convolution_kernel(self.take(f"{prefix}{torch_name}", (outputs, inputs, height, width)))
            else:
                found = self.take(f"{prefix}{torch_name}", shape)
            parameters[name] = found
        return ResNet10(parameters)

    def mlp(self, prefix: str, inputs: int) -> Mlp:
        """Hidden layers `prefix`.0, .3, ... with layer normalizations behind them; at least one."""
        layers: list[tuple[Linear, LayerNorm]] = []
        while not layers or f"{prefix}.{3 * len(layers)}.weight" in self:
            linear = self.linear(f"{prefix}.{3 * len(layers)}", inputs)
            inputs = linear.bias.shape[0]
            layers.append((linear, self.norm(f"{prefix}.{3 * len(layers) + 1}", inputs)))
        return Mlp(layers)

    def expect_all_taken(self) -> None:
        """Raise ForeignError if a tensor is left that nobody took."""
        if left := sorted(self._tensors.keys() - self._used):
            raise ForeignError(self.source, f"only the {len(self._used)} tensors of this network", f"{left[0]!r} too")


class Mlp:
    """Hidden layers: linear, layer normalization, SiLU."""

    def __init__(self, layers: list[tuple[Linear, LayerNorm]]) -> None:
        self._layers = layers
        self.width = layers[-1][0].bias.shape[0]

    def __call__(self, x: Array) -> Array:
        """Features (width,) of a vector."""
        for linear, norm in self._layers:
            x = silu(norm(linear(x)))
        return x
