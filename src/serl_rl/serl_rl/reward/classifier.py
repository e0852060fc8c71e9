# SPDX-License-Identifier: Apache-2.0
"""A classifier that tells from pictures how far a task has come, whatever backend computes it.

Each camera's picture goes through an encoder that all share, spatial embeddings and a layer of its own; what follows
gives one logit for each stage. The ordinary case has two stages, failure and success.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from serl_config.atomic_files import write_whole

from serl_rl.config import EncoderConfig, RewardClassifierConfig
from serl_rl.encoders.architecture import feature_shape, parameter_shapes
from serl_rl.encoders.encoder import Encoder
from serl_rl.encoders.file import EncoderError
from serl_rl.encoders.loading import load_encoder, load_same
from serl_rl.reward.classifier_file import ClassifierError, ClassifierInfo, check_arrays, read_classifier
from serl_rl.reward.data import FrameSource
from serl_rl.spec import DataError
from serl_rl.storage.nested import by_path, nested
from serl_rl.storage.tensors import pack

Logits = Callable[[Mapping[str, NDArray[np.uint8]]], NDArray[np.float32]]
"""Logits (B, S) of pictures (B, H, W, 3) of each camera."""


class StageClassifier:
    """Judges pictures."""

    def __init__(self, info: ClassifierInfo, encoder: Encoder, head: Any, compute: Logits) -> None:
        """Put a classifier together.

        Args:
            info: says what it is for.
            encoder: that all cameras share.
            head: parameters of the network behind the encoder: arrays in dictionaries, as `head_shapes` names them.
            compute: what it says of pictures of the right shape.
        """
        self.info, self.encoder, self.head, self._compute = info, encoder, head, compute

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
        return self._compute(batch)

    def probabilities(self, pictures: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.float64]:
        """Calibrated probabilities (S,) of the stages, of a picture (H, W, 3) of each camera; errors as `logits`."""
        logits = self.logits({name: np.ascontiguousarray(picture)[None] for name, picture in pictures.items()})
        scaled = logits[0].astype(np.float64) / self.info.temperature
        exponentials = np.exp(scaled - scaled.max())
        return exponentials / exponentials.sum()

    def save(self, path: Path) -> None:
        """Write the file in one step: it is whole, or not there."""
        write_classifier(path, self.info, self.encoder, by_path(self.head))


def write_classifier(path: Path, info: ClassifierInfo, encoder: Encoder, head: Mapping[str, Any]) -> None:
    """Write the file of a classifier in one step: it is whole, or not there.

    Args:
        path: of the file.
        info: what it says of itself.
        encoder: that all cameras share.
        head: parameters of the network behind it, by their paths, as `head_shapes` names them.

    Raises:
        OSError: it cannot be written.
    """
    arrays = {f"head/{name}": np.asarray(leaf) for name, leaf in head.items()}
    if not info.weights:
        arrays |= {f"encoder/{name}": np.asarray(leaf) for name, leaf in encoder.weights.items()}
    write_whole(path, pack(arrays, {"classifier": info.to_json()}))


def untrained_info(source: FrameSource, config: RewardClassifierConfig, encoder: Encoder) -> ClassifierInfo:
    """What a classifier says of itself that knows nothing yet and calls nothing a success."""
    return ClassifierInfo(
        source=source,
        encoder=encoder.kind,
        weights=config.weights if config.frozen else "",
        encoder_hash=encoder.hash,
        embeddings=config.embeddings,
        width=config.width,
        temperature=1.0,
        thresholds=(1.0,) * (len(source.stages) - 1),
        consecutive=config.consecutive,
    )


def read_parts(path: Path, find: Callable[[str], Path]) -> tuple[ClassifierInfo, Encoder, dict[str, Any]]:
    """What the file of a classifier holds: what it says of itself, its encoder, and the parameters behind it.

    Args:
        path: of the file that `StageClassifier.save` wrote.
        find: finds the weights of a frozen encoder, as for `load_encoder`.

    Raises:
        ClassifierError: the file is missing, damaged, or does not fit what it says of itself; or the encoder is not
            the one that it was trained with.
    """
    info, arrays = read_classifier(path)
    parts: dict[str, dict[str, NDArray[Any]]] = {"head": {}, "encoder": {}}
    for name, array in arrays.items():
        part, _, rest = name.partition("/")
        if part not in parts:
            raise ClassifierError(f"{path}: expected arrays of head and encoder, found {name!r}")
        parts[part][rest] = array
    encoder = _find_encoder(path, info, parts["encoder"], find)
    check_arrays(path, parts["head"], head_shapes(info))
    return info, encoder, nested({name: array.astype(np.float32) for name, array in parts["head"].items()})


def head_shapes(info: ClassifierInfo) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the parameters behind the encoder."""
    shapes: dict[str, tuple[int, ...]] = {}
    for camera, view in info.source.views.items():
        map_shape = feature_shape(info.encoder, *view.shape[:2])
        shapes[f"camera_{camera}/pooling/kernel"] = (*map_shape, info.embeddings)
        shapes |= _layer(f"camera_{camera}/dense", map_shape[2] * info.embeddings, info.width)
        shapes |= _norm(f"camera_{camera}/norm", info.width)
    shapes |= _layer("dense", info.width * len(info.cameras), info.width) | _norm("norm", info.width)
    shapes |= _layer("logits", info.width, len(info.source.stages))
    return {f"params/{name}": shape for name, shape in shapes.items()}


def _layer(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}/kernel": (inputs, outputs), f"{name}/bias": (outputs,)}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}/scale": (width,), f"{name}/bias": (width,)}


def _find_encoder(
    path: Path, info: ClassifierInfo, own: Mapping[str, NDArray[Any]], find: Callable[[str], Path]
) -> Encoder:
    try:
        if info.weights:
            config = EncoderConfig(kind=info.encoder, weights=info.weights)  # type: ignore[arg-type]
            if config.weights == "auto":  # what it was trained for was looked at then; now the hash decides
                encoder = load_same(config.kind, info.encoder_hash, find)
            else:
                encoder = load_encoder(config, info.cameras, find, world=None)
        else:
            check_arrays(path, own, parameter_shapes(info.encoder))
            encoder = Encoder.from_weights(info.encoder, dict(own), str(path))
    except (EncoderError, ValueError) as error:
        raise ClassifierError(f"{path}: its encoder cannot be used: {error}") from error
    if encoder.hash != info.encoder_hash:
        raise ClassifierError(
            f"{path}: expected the encoder {info.encoder_hash}, which it was trained with, found {encoder.hash} "
            f"({encoder.name}); train the classifier anew"
        )
    return encoder
