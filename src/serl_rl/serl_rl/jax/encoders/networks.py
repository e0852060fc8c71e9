# SPDX-License-Identifier: Apache-2.0
"""Networks of encoders: RGB pictures (B, H, W, 3) with values 0 to 255 become feature maps float32 (B, h, w, c).

Sizes below are for pictures of 128 x 128 pixels; any other size does, too.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from numpy.typing import NDArray

from serl_rl.encoders import architecture
from serl_rl.encoders.encoder import Encoder

# Of ImageNet, red, green, blue, from 0 to 1: what published weights expect their input to be normalized by.
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)


class SmallEncoder(nn.Module):
    """Four convolutions with 61 280 parameters; 4 x 4 x 64 features."""

    @nn.compact
    def __call__(self, pictures: jax.Array) -> jax.Array:
        """Feature maps of pictures."""
        x = pictures.astype(jnp.float32) / 127.5 - 1.0
        for index, (channels, size, stride) in enumerate(architecture.SMALL):
            x = nn.relu(nn.Conv(channels, (size, size), stride, name=f"conv_{index}")(x))
        return x


class ResNet(nn.Module):
    """ResNet v1 (He et al., arXiv 1512.03385) of basic blocks with GroupNorm of 4 groups; 4 x 4 x 512 features.

    Parameters are named as in SERL's published ResNet-10, so that its weights fit.
    """

    stages: tuple[int, ...]
    """Blocks in each."""

    @nn.compact
    def __call__(self, pictures: jax.Array) -> jax.Array:
        """Feature maps of pictures."""
        x = (pictures.astype(jnp.float32) / 255.0 - jnp.array(_MEAN)) / jnp.array(_DEVIATION)
        x = nn.Conv(architecture.RESNET_WIDTH, (7, 7), 2, padding=3, use_bias=False, name="conv_init")(x)
        x = nn.relu(nn.GroupNorm(4, epsilon=1e-5, name="norm_init")(x))
        x = nn.max_pool(x, (3, 3), (2, 2), padding="SAME")
        for index, (channels, stride) in enumerate(architecture.resnet_blocks(self.stages)):
            x = ResNetBlock(channels, stride, name=f"ResNetBlock_{index}")(x)
        return x


class ResNetBlock(nn.Module):
    """Two convolutions and what bypasses them."""

    channels: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Feature maps of feature maps."""
        y = nn.Conv(self.channels, (3, 3), self.stride, use_bias=False, name="Conv_0")(x)
        y = nn.relu(nn.GroupNorm(4, epsilon=1e-5, name="MyGroupNorm_0")(y))
        y = nn.Conv(self.channels, (3, 3), use_bias=False, name="Conv_1")(y)
        y = nn.GroupNorm(4, epsilon=1e-5, name="MyGroupNorm_1")(y)
        if x.shape != y.shape:
            x = nn.Conv(self.channels, (1, 1), self.stride, use_bias=False, name="conv_proj")(x)
            x = nn.GroupNorm(4, epsilon=1e-5, name="norm_proj")(x)
        return nn.relu(x + y)


class MobileNet(nn.Module):
    """A narrow MobileNetV2 (Sandler et al., arXiv 1801.04381) with GroupNorm of 8 groups; 4 x 4 x 64 features."""

    @nn.compact
    def __call__(self, pictures: jax.Array) -> jax.Array:
        """Feature maps of pictures."""
        x = (pictures.astype(jnp.float32) / 255.0 - jnp.array(_MEAN)) / jnp.array(_DEVIATION)
        x = nn.Conv(architecture.MOBILENET_WIDTH, (3, 3), 2, use_bias=False, name="conv_init")(x)
        x = nn.relu6(nn.GroupNorm(8, name="norm_init")(x))
        for index, (channels, stride) in enumerate(architecture.MOBILENET_BLOCKS):
            x = InvertedResidual(channels, stride, name=f"block_{index}")(x)
        return nn.relu(x)


class InvertedResidual(nn.Module):
    """Widens the channels, filters each by itself, narrows them again."""

    channels: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Feature maps of feature maps."""
        wide = architecture.MOBILENET_WIDENING * x.shape[-1]
        y = nn.Conv(wide, (1, 1), use_bias=False, name="conv_widen")(x)
        y = nn.relu6(nn.GroupNorm(8, name="norm_widen")(y))
        y = DepthwiseConv(self.stride, name="conv_each")(y)
        y = nn.relu6(nn.GroupNorm(8, name="norm_each")(y))
        y = nn.Conv(self.channels, (1, 1), use_bias=False, name="conv_narrow")(y)
        y = nn.GroupNorm(8, name="norm_narrow")(y)
        return x + y if x.shape == y.shape else y


class EfficientNetLite(nn.Module):
    """The first stages of EfficientNet-Lite0 with batch normalization folded into the convolutions, then pooled.

    Its input is that of the published weights: about from -1 to 1.
    """

    stages: int
    """How many of them."""

    @nn.compact
    def __call__(self, pictures: jax.Array) -> jax.Array:
        """Feature maps of pictures."""
        x = (pictures.astype(jnp.float32) - 127.0) / 128.0
        x = nn.relu6(nn.Conv(architecture.LITE_WIDTH, (3, 3), 2, name="conv_init")(x))
        for index, block in enumerate(architecture.lite_blocks(self.stages)):
            x = LiteBlock(block, name=f"block_{index}")(x)
        square = (architecture.lite_pool(self.stages),) * 2
        return nn.avg_pool(x, square, square, "SAME", count_include_pad=False)


class LiteBlock(nn.Module):
    """Widens the channels, filters each by itself, narrows them again; with biases in place of normalization."""

    block: architecture.LiteBlock

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Feature maps of feature maps."""
        y, wide = x, self.block.widening * x.shape[-1]
        if self.block.widening > 1:
            y = nn.relu6(nn.Conv(wide, (1, 1), name="conv_widen")(y))
        y = nn.relu6(DepthwiseConv(self.block.stride, self.block.size, use_bias=True, name="conv_each")(y))
        y = nn.Conv(self.block.channels, (1, 1), name="conv_narrow")(y)
        return x + y if x.shape == y.shape else y


class DepthwiseConv(nn.Module):
    """A convolution of every channel by itself; on a CPU, a few products are several times as fast as XLA's."""

    stride: int
    size: int = 3
    """Edge of the kernel."""
    use_bias: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Feature maps of feature maps."""
        _, height, width, channels = x.shape
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (self.size, self.size, 1, channels))
        h, w = -(-height // self.stride), -(-width // self.stride)
        x = jnp.pad(x, ((0, 0), self._padding(height, h), self._padding(width, w), (0, 0)))
        rows, columns = (h - 1) * self.stride + 1, (w - 1) * self.stride + 1
        shifted = (
            x[:, i : i + rows : self.stride, j : j + columns : self.stride] * kernel[i, j, 0]
            for i in range(self.size)
            for j in range(self.size)
        )
        filtered = sum(shifted, start=jnp.zeros(()))
        return filtered + self.param("bias", nn.initializers.zeros, (channels,)) if self.use_bias else filtered

    def _padding(self, size: int, result: int) -> tuple[int, int]:
        """What "SAME" pads before and behind: evenly, what is left over at the end."""
        total = max((result - 1) * self.stride + self.size - size, 0)
        return total // 2, total - total // 2


def make_encoder(kind: str) -> nn.Module:
    """The network of a kind, as in `EncoderConfig`.

    Of RGB pictures (B, H, W, 3), uint8 or float, with values 0 to 255 it makes feature maps float32 (B, h, w, c).

    Raises:
        EncoderError: there is no such kind.
    """
    architecture.parameter_shapes(kind)
    if kind == "small":
        return SmallEncoder()
    if kind in architecture.LITE:
        return EfficientNetLite(architecture.LITE[kind])
    return MobileNet() if kind == "mobilenet" else ResNet(architecture.RESNET_BLOCKS[kind])


def encoder_params(encoder: Encoder) -> dict[str, Any]:
    """The weights of an encoder as `make_encoder(encoder.kind).apply` takes them, in the memory of the encoder."""
    return {"params": unflatten_dict(dict(encoder.weights), sep="/")}


def named_weights(params: Any) -> dict[str, NDArray[np.float32]]:
    """Inverse of `encoder_params`: the weights by name, as `Encoder.from_weights` takes them."""
    return flatten_dict(jax.device_get(params["params"]), sep="/")
