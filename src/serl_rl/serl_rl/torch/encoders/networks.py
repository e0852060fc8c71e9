# SPDX-License-Identifier: Apache-2.0
"""Networks of encoders: RGB pictures (B, H, W, 3) with values 0 to 255 become feature maps float32 (B, h, w, c).

They are those of `serl_rl.jax.encoders.networks`, with the same names and shapes of parameters. Inside, maps are
(B, c, h, w) as PyTorch has them. They lie in memory as they come, channels last, unless the settings say otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from serl_rl.encoders import architecture
from serl_rl.encoders.encoder import Encoder
from serl_rl.torch.computing.device import constant
from serl_rl.torch.computing.modes import laid_out
from serl_rl.torch.computing.tree import named_leaves

Params = dict[str, Any]

# Of ImageNet, red, green, blue, from 0 to 1: what published weights expect their input to be normalized by.
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)


def encode(kind: str, params: Params, pictures: torch.Tensor) -> torch.Tensor:
    """Feature maps float32 (B, h, w, c) of RGB pictures (B, H, W, 3), uint8 or float, with values 0 to 255.

    Args:
        kind: of the network, as in `EncoderConfig`.
        params: its parameters, as `encoder_params` makes them.
        pictures: what is encoded.

    Raises:
        EncoderError: there is no such kind.
    """
    architecture.parameter_shapes(kind)
    weights, x = params["params"], pictures.to(torch.float32)
    if kind == "small":
        maps = _small(weights, _maps(x / 127.5 - 1.0))
    elif kind in architecture.LITE:
        maps = _efficientnet_lite(weights, _maps((x - 127.0) / 128.0), architecture.LITE[kind])
    elif kind == "mobilenet":
        maps = _mobilenet(weights, _maps(_normalized(x)))
    else:
        maps = _resnet(weights, _maps(_normalized(x)), architecture.RESNET_BLOCKS[kind])
    return maps.permute(0, 2, 3, 1).to(torch.float32)


def encoder_params(encoder: Encoder, device: torch.device | None = None) -> Params:
    """The weights of an encoder as `encode` takes them, copied to a device (None: in the memory of the CPU)."""
    weights: Params = {}
    for name, values in encoder.weights.items():
        *layers, parameter = name.split("/")
        below = weights
        for layer in layers:
            below = below.setdefault(layer, {})
        below[parameter] = torch.tensor(values, device=device)
    return {"params": weights}


def named_weights(params: Params) -> dict[str, NDArray[np.float32]]:
    """Inverse of `encoder_params`: copies of the weights by name, as `Encoder.from_weights` takes them."""
    return {name: leaf.detach().cpu().numpy().copy() for name, leaf in named_leaves(params["params"])}


def _maps(pictures: torch.Tensor) -> torch.Tensor:
    return laid_out(pictures.permute(0, 3, 1, 2))


def _normalized(pictures: torch.Tensor) -> torch.Tensor:
    mean, deviation = (constant(values, pictures.device) for values in (_MEAN, _DEVIATION))
    return (pictures / 255.0 - mean) / deviation


def _small(weights: Params, x: torch.Tensor) -> torch.Tensor:
    for index, layer in enumerate(architecture.SMALL):
        x = F.relu(_convolution(weights[f"conv_{index}"], x, layer.stride))
    return x


def _resnet(weights: Params, x: torch.Tensor, stages: tuple[int, ...]) -> torch.Tensor:
    x = _convolution(weights["conv_init"], x, 2, padding=((3, 3), (3, 3)))
    x = F.relu(_group_norm(weights["norm_init"], x, 4, 1e-5))
    x = F.max_pool2d(_padded(x, (3, 3), 2, -torch.inf), 3, 2)
    for index, (channels, stride) in enumerate(architecture.resnet_blocks(stages)):
        x = _resnet_block(weights[f"ResNetBlock_{index}"], x, channels, stride)
    return x


def _resnet_block(weights: Params, x: torch.Tensor, channels: int, stride: int) -> torch.Tensor:
    """Two convolutions and what bypasses them."""
    y = _convolution(weights["Conv_0"], x, stride)
    y = F.relu(_group_norm(weights["MyGroupNorm_0"], y, 4, 1e-5))
    y = _convolution(weights["Conv_1"], y, 1)
    y = _group_norm(weights["MyGroupNorm_1"], y, 4, 1e-5)
    if x.shape != y.shape:
        x = _convolution(weights["conv_proj"], x, stride)
        x = _group_norm(weights["norm_proj"], x, 4, 1e-5)
    return F.relu(x + y)


def _mobilenet(weights: Params, x: torch.Tensor) -> torch.Tensor:
    x = F.relu6(_group_norm(weights["norm_init"], _convolution(weights["conv_init"], x, 2), 8, 1e-6))
    for index, (_, stride) in enumerate(architecture.MOBILENET_BLOCKS):
        block = weights[f"block_{index}"]
        y = F.relu6(_group_norm(block["norm_widen"], _convolution(block["conv_widen"], x, 1), 8, 1e-6))
        y = F.relu6(_group_norm(block["norm_each"], _convolution(block["conv_each"], y, stride, each=True), 8, 1e-6))
        y = _group_norm(block["norm_narrow"], _convolution(block["conv_narrow"], y, 1), 8, 1e-6)
        x = x + y if x.shape == y.shape else y
    return F.relu(x)


def _efficientnet_lite(weights: Params, x: torch.Tensor, stages: int) -> torch.Tensor:
    x = F.relu6(_convolution(weights["conv_init"], x, 2))
    for index, block in enumerate(architecture.lite_blocks(stages)):
        layers, y = weights[f"block_{index}"], x
        if block.widening > 1:
            y = F.relu6(_convolution(layers["conv_widen"], y, 1))
        y = F.relu6(_convolution(layers["conv_each"], y, block.stride, each=True))
        y = _convolution(layers["conv_narrow"], y, 1)
        x = x + y if x.shape == y.shape else y
    return _mean_pool(x, architecture.lite_pool(stages))


def _convolution(
    layer: Mapping[str, torch.Tensor],
    x: torch.Tensor,
    stride: int,
    *,
    each: bool = False,
    padding: tuple[tuple[int, int], tuple[int, int]] | None = None,
) -> torch.Tensor:
    """A convolution of maps (B, c, h, w).

    Args:
        layer: kernel (height, width, in, out), and perhaps a bias.
        x: the maps.
        stride: along both axes.
        each: filter every channel by itself, with a kernel (height, width, 1, c).
        padding: before and behind each axis; None: so that a stride of 1 keeps the size.
    """
    kernel, bias = layer["kernel"], layer.get("bias")
    edges = padding or _same(x, (kernel.shape[0], kernel.shape[1]), stride)
    even = edges if all(before == behind for before, behind in edges) else ((0, 0), (0, 0))
    if edges != even:
        x = F.pad(x, (*edges[1], *edges[0]))
    groups = x.shape[1] if each else 1
    filters = laid_out(kernel.permute(3, 2, 0, 1))
    return F.conv2d(x, filters, bias, stride, (even[0][0], even[1][0]), groups=groups)


def _same(x: torch.Tensor, window: tuple[int, int], stride: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """What has to be added before and behind each axis: evenly, what is left over at the end."""
    height, width = (
        max((-(-size // stride) - 1) * stride + edge - size, 0) for size, edge in zip(x.shape[2:], window, strict=True)
    )
    return (height // 2, height - height // 2), (width // 2, width - width // 2)


def _padded(x: torch.Tensor, window: tuple[int, int], stride: int, value: float) -> torch.Tensor:
    rows, columns = _same(x, window, stride)
    return F.pad(x, (*columns, *rows), value=value) if any(rows + columns) else x


def _mean_pool(x: torch.Tensor, edge: int) -> torch.Tensor:
    """Means of squares; of those that reach over the edge, over what is inside."""
    inside = x.new_ones((1, 1, *x.shape[2:]))
    means, shares = (F.avg_pool2d(_padded(each, (edge, edge), edge, 0.0), edge) for each in (x, inside))
    return means / shares


def _group_norm(layer: Mapping[str, torch.Tensor], x: torch.Tensor, groups: int, epsilon: float) -> torch.Tensor:
    """Mean 0 and variance 1 of each group of channels of a map, then scale and bias (Wu and He, arXiv 1803.08494)."""
    return F.group_norm(x, groups, layer["scale"], layer["bias"], epsilon)
