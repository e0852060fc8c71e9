# SPDX-License-Identifier: Apache-2.0
"""A classifier that tells from pictures how far a task has come, and the one file that holds it.

Each camera's picture goes through an encoder that all share, spatial embeddings and a layer of its own; what follows
gives one logit for each stage. The ordinary case has two stages, failure and success.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from numpy.typing import NDArray

from serl_rl.config import EncoderConfig, VisionConfig
from serl_rl.encoder_file import EncoderError
from serl_rl.encoders import Encoder, load_encoder, make_encoder, parameter_shapes
from serl_rl.reward_data import FrameSource
from serl_rl.spec import DataError
from serl_rl.tensors import pack, unpack
from serl_rl.vision import CameraHead

FORMAT = 1
_LARGEST_FILE = 2**30


class ClassifierError(ValueError):
    """A classifier file that cannot be used: says what was expected, what was found, and what to do."""


class StageHead(nn.Module):
    """Logits (B, stages) of the feature maps of all cameras."""

    cameras: tuple[str, ...]
    stages: int
    embeddings: int
    width: int
    dropout: float

    @nn.compact
    def __call__(self, features: Mapping[str, jax.Array], *, training: bool = False) -> jax.Array:
        """Logits (B, stages) of feature maps (B, h, w, c); with `training` some values are dropped out."""
        vision = VisionConfig(embeddings=self.embeddings, width=self.width)
        parts = [CameraHead(vision, name=f"camera_{name}")(features[name]) for name in self.cameras]
        x = nn.Dropout(self.dropout)(jnp.concatenate(parts, axis=-1), deterministic=not training)
        x = nn.relu(nn.LayerNorm(name="norm")(nn.Dense(self.width, name="dense")(x)))
        x = nn.Dropout(self.dropout)(x, deterministic=not training)
        return nn.Dense(self.stages, name="logits")(x)


@dataclass(frozen=True)
class ClassifierInfo:
    """What a classifier file says of itself."""

    source: FrameSource
    """Task, cameras with their crops, stages: of the frames it was trained with, and of those it can judge."""
    encoder: str
    """Kind, as in `EncoderConfig`."""
    weights: str
    """Where the weights of a frozen encoder are found, as in `EncoderConfig`; empty: they are in this file."""
    encoder_hash: str
    embeddings: int
    width: int
    temperature: float
    """Logits are divided by it."""
    thresholds: tuple[float, ...]
    """Probability from which a frame counts as showing the stages 1, 2, ...; the last one is success."""
    consecutive: int
    """Frames in a row that must show a stage until it counts."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Of held-out frames, by name."""
    trained_on: tuple[str, ...] = ()
    """Ids of the episodes that it has seen, and that can judge it no more."""

    def to_json(self) -> str:
        """Text that `from_json` reads."""
        values = {**vars(self), "source": self.source.to_json(), "format": FORMAT}
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ClassifierInfo:
        """Inverse of `to_json`; raises DataError for anything else."""
        try:
            tree = json.loads(text)
            if tree.pop("format") != FORMAT:
                raise DataError("format", str(FORMAT), "another one; train the classifier anew")
            info = cls(
                source=FrameSource.from_json(tree.pop("source")),
                encoder=str(tree.pop("encoder")),
                weights=str(tree.pop("weights")),
                encoder_hash=str(tree.pop("encoder_hash")),
                embeddings=int(tree.pop("embeddings")),
                width=int(tree.pop("width")),
                temperature=float(tree.pop("temperature")),
                thresholds=tuple(map(float, tree.pop("thresholds"))),
                consecutive=int(tree.pop("consecutive")),
                metrics={str(name): float(value) for name, value in tree.pop("metrics").items()},
                trained_on=tuple(map(str, tree.pop("trained_on"))),
            )
        except DataError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError("classifier", "the JSON of a ClassifierInfo", f"{text[:80]!r} ({error})") from None
        if tree:
            raise DataError("classifier", "known fields", ", ".join(tree))
        info._check()
        return info

    def _check(self) -> None:
        if not (np.isfinite(self.temperature) and self.temperature > 0.0):
            raise DataError("temperature", "a number above 0", str(self.temperature))
        count = len(self.source.stages) - 1
        if len(self.thresholds) != count or not all(0.0 <= value <= 1.0 for value in self.thresholds):
            raise DataError("thresholds", f"{count} in [0, 1]", str(list(self.thresholds)))
        if self.consecutive < 1 or not 1 <= self.embeddings <= 64 or not 1 <= self.width <= 4096:
            found = f"{self.consecutive}, {self.embeddings}, {self.width}"
            raise DataError("consecutive, embeddings, width", "from 1, 1 to 64, 1 to 4096", found)

    @cached_property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras, sorted."""
        return tuple(sorted(self.source.views))

    def head(self, dropout: float = 0.0) -> StageHead:
        """The network behind the encoder."""
        return StageHead(self.cameras, len(self.source.stages), self.embeddings, self.width, dropout)


class RewardClassifier:
    """Judges pictures."""

    def __init__(self, info: ClassifierInfo, encoder: Encoder, head: Any) -> None:
        """Put a classifier together.

        Args:
            info: says what it is for.
            encoder: that all cameras share.
            head: parameters of `info.head()`.
        """
        self.info, self.encoder, self.head = info, encoder, head
        network, layers = make_encoder(encoder.kind), info.head()

        def logits(params: Any, pictures: Mapping[str, jax.Array]) -> jax.Array:
            maps = {name: network.apply(params["encoder"], pictures[name]) for name in info.cameras}
            return jnp.asarray(layers.apply(params["head"], maps))

        self._params = jax.device_put({"encoder": encoder.params, "head": head})
        self._logits = jax.jit(logits)

    def logits(self, pictures: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Logits (B, S), before the temperature, of pictures uint8 (B, H, W, 3) of each camera.

        Raises:
            DataError: a camera is missing, or pictures have another shape.
        """
        batch = {}
        for name in self.info.cameras:
            shape = self.info.source.views[name].shape
            found = pictures.get(name)
            if found is None or found.shape[1:] != shape or found.dtype != np.uint8:
                what = "nothing" if found is None else f"{found.dtype} {found.shape}"
                raise DataError(f"pictures of {name}", f"uint8 (B, {shape[0]}, {shape[1]}, 3)", what)
            batch[name] = found
        return np.asarray(self._logits(self._params, batch))

    def probabilities(self, pictures: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.float64]:
        """Calibrated probabilities (S,) of the stages, of a picture (H, W, 3) of each camera; errors as `logits`."""
        logits = self.logits({name: np.ascontiguousarray(picture)[None] for name, picture in pictures.items()})
        scaled = logits[0].astype(np.float64) / self.info.temperature
        exponentials = np.exp(scaled - scaled.max())
        return exponentials / exponentials.sum()

    def save(self, path: Path) -> None:
        """Write the file in one step: it is whole, or not there."""
        arrays = {f"head/{name}": np.asarray(leaf) for name, leaf in flatten_dict(self.head, sep="/").items()}
        if not self.info.weights:
            arrays |= {f"encoder/{name}": np.asarray(leaf) for name, leaf in self.encoder.weights.items()}
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        with temporary.open("xb") as file:
            file.write(pack(arrays, {"classifier": self.info.to_json()}))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


def read_info(path: Path) -> ClassifierInfo:
    """What a classifier file says of itself, without its encoder.

    Raises:
        ClassifierError: as `load_classifier`, as far as this can tell.
    """
    return _read(path)[0]


def load_classifier(path: Path, find: Callable[[str], Path]) -> RewardClassifier:
    """Read a classifier.

    Args:
        path: of the file that `RewardClassifier.save` wrote.
        find: finds the weights of a frozen encoder, as for `serl_rl.encoders.load_encoder`.

    Raises:
        ClassifierError: the file is missing, damaged, or does not fit what it says of itself; or the encoder is not
            the one that it was trained with.
    """
    info, arrays = _read(path)
    parts: dict[str, dict[str, NDArray[Any]]] = {"head": {}, "encoder": {}}
    for name, array in arrays.items():
        part, _, rest = name.partition("/")
        if part not in parts:
            raise ClassifierError(f"{path}: expected arrays of head and encoder, found {name!r}")
        parts[part][rest] = array
    encoder = _find_encoder(path, info, parts["encoder"], find)
    _check_arrays(path, parts["head"], _head_shapes(info))
    head = unflatten_dict({name: array.astype(np.float32) for name, array in parts["head"].items()}, sep="/")
    return RewardClassifier(info, encoder, head)


def _read(path: Path) -> tuple[ClassifierInfo, dict[str, NDArray[Any]]]:
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise ClassifierError(f"{path}: expected a classifier of at most {_LARGEST_FILE} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise ClassifierError(
            f"{path}: cannot be read: {error.strerror}; train a classifier with ./serl reward train"
        ) from error
    try:
        arrays, metadata = unpack(data)
        if "classifier" not in metadata:
            raise DataError("metadata", "that of a reward classifier", ", ".join(metadata) or "none")
        return ClassifierInfo.from_json(metadata["classifier"]), arrays
    except DataError as error:
        raise ClassifierError(f"{path}: is damaged, or no reward classifier: {error}") from error


def _find_encoder(
    path: Path, info: ClassifierInfo, own: Mapping[str, NDArray[Any]], find: Callable[[str], Path]
) -> Encoder:
    try:
        if info.weights:
            config = EncoderConfig(kind=info.encoder, weights=info.weights)  # type: ignore[arg-type]
            encoder = load_encoder(config, info.cameras, find)
        else:
            _check_arrays(path, own, parameter_shapes(info.encoder))
            encoder = Encoder.from_weights(info.encoder, dict(own), str(path))
    except (EncoderError, ValueError) as error:
        raise ClassifierError(f"{path}: its encoder cannot be used: {error}") from error
    if encoder.hash != info.encoder_hash:
        raise ClassifierError(
            f"{path}: expected the encoder {info.encoder_hash}, which it was trained with, found {encoder.hash} "
            f"({encoder.name}); train the classifier anew"
        )
    return encoder


def _head_shapes(info: ClassifierInfo) -> dict[str, tuple[int, ...]]:
    network = make_encoder(info.encoder)
    maps = {}
    for name, view in info.source.views.items():
        pictures = jax.ShapeDtypeStruct((1, *view.shape), jnp.uint8)
        maps[name] = jax.eval_shape(
            lambda x: network.init_with_output(jax.random.key(0), x)[0],
            pictures,
        )
    tree = jax.eval_shape(info.head().init, jax.random.key(0), maps)
    return {name: leaf.shape for name, leaf in flatten_dict(tree, sep="/").items()}


def _check_arrays(path: Path, found: Mapping[str, NDArray[Any]], expected: Mapping[str, tuple[int, ...]]) -> None:
    if found.keys() != expected.keys():
        difference = sorted(found.keys() ^ expected.keys())
        raise ClassifierError(
            f"{path}: expected {len(expected)} arrays, found {len(found)}; differs in {difference[0]}"
        )
    for name, shape in expected.items():
        array = found[name]
        if array.shape != shape or not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
            raise ClassifierError(f"{path}: {name}: expected finite numbers {shape}, found {array.dtype} {array.shape}")
