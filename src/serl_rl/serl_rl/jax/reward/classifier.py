# SPDX-License-Identifier: Apache-2.0
"""A classifier that tells from pictures how far a task has come.

Each camera's picture goes through an encoder that all share, spatial embeddings and a layer of its own; what follows
gives one logit for each stage. The ordinary case has two stages, failure and success.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from numpy.typing import NDArray
from serl_config.atomic_files import write_whole

from serl_rl.config import EncoderConfig, RewardClassifierConfig, VisionConfig
from serl_rl.encoders.architecture import parameter_shapes
from serl_rl.encoders.encoder import Encoder
from serl_rl.encoders.file import EncoderError
from serl_rl.encoders.loading import load_encoder, load_same
from serl_rl.jax.encoders.networks import encoder_params, make_encoder
from serl_rl.jax.vision import CameraHead
from serl_rl.reward.classifier_file import ClassifierError, ClassifierInfo, check_arrays, read_classifier
from serl_rl.reward.data import FrameSource
from serl_rl.spec import DataError
from serl_rl.storage.tensors import pack


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


def make_head(info: ClassifierInfo, dropout: float = 0.0) -> StageHead:
    """The network behind the encoder."""
    return StageHead(info.cameras, len(info.source.stages), info.embeddings, info.width, dropout)


def initial_head(info: ClassifierInfo, seed: int) -> Any:
    """Random parameters of `make_head(info)`."""
    network = make_encoder(info.encoder)
    maps = {}
    for name, view in info.source.views.items():
        pictures = jnp.zeros((1, *view.shape), jnp.uint8)
        shape = jax.eval_shape(lambda x: network.init_with_output(jax.random.key(0), x)[0], pictures).shape
        maps[name] = jnp.zeros(shape)
    return make_head(info).init(jax.random.key(seed), maps)


class RewardClassifier:
    """Judges pictures."""

    def __init__(self, info: ClassifierInfo, encoder: Encoder, head: Any) -> None:
        """Put a classifier together.

        Args:
            info: says what it is for.
            encoder: that all cameras share.
            head: parameters of `make_head`.
        """
        self.info, self.encoder, self.head = info, encoder, head
        network, layers = make_encoder(encoder.kind), make_head(info)

        def logits(params: Any, pictures: Mapping[str, jax.Array]) -> jax.Array:
            maps = {name: network.apply(params["encoder"], pictures[name]) for name in info.cameras}
            return jnp.asarray(layers.apply(params["head"], maps))

        self._params = jax.device_put({"encoder": encoder_params(encoder), "head": head})
        self._logits = jax.jit(logits)

    @classmethod
    def untrained(
        cls, source: FrameSource, config: RewardClassifierConfig, encoder: Encoder, seed: int = 0
    ) -> RewardClassifier:
        """One that knows nothing yet and calls nothing a success."""
        stages = len(source.stages)
        info = ClassifierInfo(
            source=source,
            encoder=encoder.kind,
            weights=config.weights if config.frozen else "",
            encoder_hash=encoder.hash,
            embeddings=config.embeddings,
            width=config.width,
            temperature=1.0,
            thresholds=(1.0,) * (stages - 1),
            consecutive=config.consecutive,
        )
        return cls(info, encoder, initial_head(info, seed))

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
        write_whole(path, pack(arrays, {"classifier": self.info.to_json()}))


def load_classifier(path: Path, find: Callable[[str], Path]) -> RewardClassifier:
    """Read a classifier.

    Args:
        path: of the file that `RewardClassifier.save` wrote.
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
    check_arrays(path, parts["head"], _head_shapes(info))
    head = unflatten_dict({name: array.astype(np.float32) for name, array in parts["head"].items()}, sep="/")
    return RewardClassifier(info, encoder, head)


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


def _head_shapes(info: ClassifierInfo) -> dict[str, tuple[int, ...]]:
    tree = jax.eval_shape(lambda: initial_head(info, 0))
    return {name: leaf.shape for name, leaf in flatten_dict(tree, sep="/").items()}
