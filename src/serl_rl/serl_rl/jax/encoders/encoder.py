# SPDX-License-Identifier: Apache-2.0
"""Encoders: convolutional networks that turn a camera's picture into a small feature map.

One encoder serves all cameras. Frozen, it runs once for every frame, when the frame arrives (`FrameEncoder`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from numpy.typing import NDArray

from serl_rl.config import EncoderConfig
from serl_rl.encoders.file import EncoderError, check_weights, read_encoder, weights_hash
from serl_rl.jax.encoders.networks import MobileNet, ResNet, SmallEncoder

FOLDER = "config/encoders"
"""Where shipped weights lie: a file NAME.safetensors for each."""

_log = logging.getLogger(__name__)


_KINDS: dict[str, Callable[[], nn.Module]] = {
    "small": SmallEncoder,
    "resnet10": partial(ResNet, (1, 1, 1, 1)),
    "resnet18": partial(ResNet, (2, 2, 2, 2)),
    "resnet34": partial(ResNet, (3, 4, 6, 3)),
    "mobilenet": MobileNet,
}


def make_encoder(kind: str) -> nn.Module:
    """The network of a kind, as in `EncoderConfig`.

    Of RGB pictures (B, H, W, 3), uint8 or float, with values 0 to 255 it makes feature maps float32 (B, h, w, c).

    Raises:
        EncoderError: there is no such kind.
    """
    if kind not in _KINDS:
        raise EncoderError("encoder", " or ".join(_KINDS), repr(kind))
    return _KINDS[kind]()


@cache
def parameter_shapes(kind: str) -> Mapping[str, tuple[int, ...]]:
    """Names, as layer/.../parameter, and shapes of all parameters of a kind of encoder."""
    pictures = jax.ShapeDtypeStruct((1, 128, 128, 3), jnp.uint8)
    tree = jax.eval_shape(make_encoder(kind).init, jax.random.key(0), pictures)
    return {name: leaf.shape for name, leaf in sorted(flatten_dict(tree["params"], sep="/").items())}


@dataclass(frozen=True, eq=False)
class Encoder:
    """A network and its weights."""

    kind: str
    """As in `EncoderConfig`."""
    params: Any
    """What `make_encoder(kind).apply` takes first."""
    name: str
    """Where the weights come from, for people."""
    hash: str
    """`weights_hash`, of all that decides about the features."""

    @classmethod
    def from_weights(cls, kind: str, weights: Mapping[str, NDArray[Any]], name: str) -> Encoder:
        """An encoder with these weights; raises EncoderError, which begins with `name`, if they do not fit the kind."""
        check_weights(name, weights, parameter_shapes(kind))
        tree = {key: np.asarray(values, np.float32) for key, values in weights.items()}
        return cls(kind, {"params": unflatten_dict(tree, sep="/")}, name, weights_hash(kind, tree))

    @classmethod
    def random(cls, kind: str, seed: int) -> Encoder:
        """Random weights (He et al., arXiv 1502.01852): the same on every machine, so numpy draws them."""
        rng = np.random.default_rng(seed)
        weights = {}
        for name, shape in parameter_shapes(kind).items():
            if name.endswith("/kernel"):
                deviation = np.sqrt(2.0 / np.prod(shape[:-1]))
                weights[name] = (deviation * rng.standard_normal(shape)).astype(np.float32)
            else:
                weights[name] = np.full(shape, float(name.endswith("/scale")), np.float32)
        return cls.from_weights(kind, weights, f"random {kind} encoder, seed {seed}")

    @property
    def weights(self) -> dict[str, NDArray[np.float32]]:
        """The parameters by name, as `from_weights` takes them."""
        return flatten_dict(self.params["params"], sep="/")

    def feature_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Shape (h, w, c) of the features of a picture of this size [pixels]."""
        pictures = jax.ShapeDtypeStruct((1, height, width, 3), jnp.uint8)
        _, h, w, c = jax.eval_shape(make_encoder(self.kind).apply, self.params, pictures).shape
        return h, w, c


def load_encoder(config: EncoderConfig, cameras: Sequence[str], find: Callable[[str], Path]) -> Encoder:
    """The encoder that a configuration asks for.

    Args:
        config: its `weights` are "auto" for the shipped ones if they were trained for all of `cameras`, else random
            ones; "random"; a name in config/encoders; or the path of a safetensors file.
        cameras: whose pictures it is for.
        find: from "config/encoders/NAME.safetensors" to the file; raises FileNotFoundError where there is none.

    Raises:
        EncoderError: there is no such file, or it is damaged or of another structure.
    """
    if config.weights == "random":
        return Encoder.random(config.kind, config.seed)
    if config.weights == "auto":
        return _shipped_for(cameras, config, find) or Encoder.random(config.kind, config.seed)
    if config.weights.endswith(".safetensors"):
        return load_file(Path(config.weights), config.kind)
    try:
        path = find(f"{FOLDER}/{config.weights}.safetensors")
    except FileNotFoundError as error:
        raise EncoderError(
            "encoder.weights", f"auto, random, a name in {FOLDER} or a path that ends in .safetensors", str(error)
        ) from error
    return load_file(path, config.kind)


def load_file(path: Path, kind: str) -> Encoder:
    """The encoder of a file that `encoder_file.write_encoder` or anybody else wrote.

    Raises:
        EncoderError: there is no such file, or it is damaged or not of this kind.
    """
    weights, description = read_encoder(path)
    if description is not None and description.kind != kind:
        raise EncoderError(path, f"weights of a {kind} encoder", f"those of a {description.kind} encoder")
    return Encoder.from_weights(kind, weights, str(path))


def _shipped_for(cameras: Sequence[str], config: EncoderConfig, find: Callable[[str], Path]) -> Encoder | None:
    try:
        path = find(f"{FOLDER}/{config.kind}.safetensors")
    except FileNotFoundError:
        _log.warning("no weights of a %s encoder are shipped: it gets random ones, seed %d", config.kind, config.seed)
        return None
    _, description = read_encoder(path)
    trained_for = description.cameras if description else ()
    if unknown := sorted(set(cameras) - set(trained_for)):
        reason = f"{path.name} was not trained for the cameras {', '.join(unknown)}"
        _log.warning("%s: the encoder gets random weights, seed %d", reason, config.seed)
        return None
    return load_file(path, config.kind)


class FrameEncoder:
    """Encodes the frames of all cameras when they arrive, each as it is and shifted at random.

    The random shifts are those of DrQ (arXiv 2004.13649): up to `shift` pixels along each axis, the edge repeated.
    """

    def __init__(self, encoder: Encoder, views: int = 2, shift: int = 4, seed: int = 0) -> None:
        """Prepare `views` feature maps of each picture; the first call for each size of pictures compiles.

        Raises:
            ValueError: less than one view, or a negative shift.
        """
        if views < 1 or shift < 0:
            raise ValueError(f"expected at least 1 view and a shift from 0, found {views} and {shift}")
        self.hash = encoder.hash
        self._encoder = encoder
        self._views = views
        self._shift = shift
        self._rng = np.random.default_rng(seed)
        module, self._params = make_encoder(encoder.kind), jax.device_put(encoder.params)

        def encode(params: Any, pictures: jax.Array) -> jax.Array:
            return jnp.asarray(module.apply(params, pictures), jnp.float16)

        self._encode = jax.jit(encode)

    def feature_shape(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Shape (K, h, w, c) of the features of one picture of this size [pixels], K the views."""
        return (self._views, *self._encoder.feature_shape(height, width))

    def encode(self, pictures: Mapping[str, NDArray[np.uint8]]) -> dict[str, NDArray[np.float16]]:
        """Features float16 (K, h, w, c) of each picture (H, W, 3); view 0 is that of the picture as it is.

        Raises:
            ValueError: a picture is not uint8 with three channels.
        """
        by_shape: dict[tuple[int, ...], list[str]] = {}
        for name, picture in pictures.items():
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
                raise ValueError(f"{name}: expected a picture uint8 (H, W, 3), found {picture.dtype} {picture.shape}")
            by_shape.setdefault(picture.shape, []).append(name)
        features: dict[str, NDArray[np.float16]] = {}
        for names in by_shape.values():
            maps = np.asarray(self._encode(self._params, self._stack([pictures[name] for name in names])))
            per_camera = maps.reshape(len(names), self._views, *maps.shape[1:])
            features |= dict(zip(names, per_camera, strict=True))
        return features

    def _stack(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """All views of all pictures, uint8 (N K, H, W, 3)."""
        height, width, _ = pictures[0].shape
        if self._shift >= min(height, width):
            raise ValueError(f"expected pictures larger than the shift of {self._shift} pixels, found {height, width}")
        stack = np.empty((len(pictures), self._views, height, width, 3), np.uint8)
        shifts = self._rng.integers(-self._shift, self._shift + 1, (len(pictures), self._views - 1, 2)).tolist()
        for picture, views, offsets in zip(pictures, stack, shifts, strict=True):
            views[0] = picture
            for view, (down, right) in zip(views[1:], offsets, strict=True):
                _shift_into(view, picture, down, right)
        return stack.reshape(-1, height, width, 3)


def _shift_into(view: NDArray[np.uint8], picture: NDArray[np.uint8], down: int, right: int) -> None:
    """Write the picture, moved by pixels and its edge repeated where nothing is left, into `view`."""
    height, width, _ = picture.shape
    moved = picture[np.clip(np.arange(-down, height - down), 0, height - 1)]
    first, end = max(right, 0), width + min(right, 0)
    view[:, first:end] = moved[:, first - right : end - right]
    view[:, :first] = moved[:, :1]
    view[:, end:] = moved[:, -1:]
