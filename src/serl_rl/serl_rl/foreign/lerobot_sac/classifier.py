# SPDX-License-Identifier: Apache-2.0
"""Judges pictures by a reward classifier of LeRobot's HIL-SERL, in numpy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from serl_rl.foreign.directories import CONFIG, MODEL
from serl_rl.foreign.errors import ForeignError
from serl_rl.foreign.files import read_tensors
from serl_rl.foreign.layers import Array, LayerNorm, Linear, relu, sigmoid, spatial_embeddings
from serl_rl.foreign.lerobot_sac.config import IMAGE, RESNET10, expect_options, find_directory, input_shapes
from serl_rl.foreign.resnet10 import normalized
from serl_rl.foreign.tensors import TorchTensors
from serl_rl.spec import DataError

_ONLY: Final[Mapping[str, tuple[Any, ...]]] = {
    "model_type": ("cnn",),
    "model_name": (RESNET10,),
    "normalization_mapping.VISUAL": ("MEAN_STD",),
}
_CHILDREN: Final = {"encoder.0.": "encoder.embedder.", "encoder.1.": "encoder.encoder."}
"""A classifier numbers the two parts of its ResNet, which have names elsewhere."""


class RewardClassifier:
    """The classifier of a directory.

    Attributes:
        inputs: (H, W, 3) of each camera's uint8 RGB picture, by LeRobot's names.
        classes: how many; with 2 there is one probability, that of success.
    """

    def __init__(self, path: Path) -> None:
        """Read a directory.

        Raises:
            ForeignError: a file or tensor is missing, does not fit the settings, or an option is not understood.
        """
        folder, config = find_directory(path, "reward_classifier")
        expect_options(folder, config, _ONLY)
        self.inputs = {name: shape for name, shape in input_shapes(folder, config).items() if name.startswith(IMAGE)}
        if config.get("num_cameras", 2) != len(self.inputs):
            raise ForeignError(folder / CONFIG, f"num_cameras {len(self.inputs)}", repr(config.get("num_cameras", 2)))
        aliases = tuple(f"encoders.{name.replace('.', '_')}.0." for name in self.inputs)
        raw = read_tensors(folder / MODEL)
        kept = {_renamed(name): values for name, values in raw.items() if not name.startswith(aliases)}
        tensors = TorchTensors(folder / MODEL, kept)
        self._backbone = tensors.resnet10("encoder.")
        self._heads = []
        for name, shape in self.inputs.items():
            prefix = f"encoders.{name.replace('.', '_')}"
            height, width, channels = self._backbone(np.zeros(shape, np.float32)).shape
            kernel = tensors.take(f"{prefix}.1.kernel", (channels, height, width, None))
            linear = tensors.linear(f"{prefix}.3", channels * kernel.shape[3])
            norm = tensors.norm(f"{prefix}.4", len(linear.bias))
            self._heads.append((np.ascontiguousarray(kernel.transpose(1, 2, 0, 3)), linear, norm))
        classes = config.get("num_classes", 2)
        if type(classes) is not int or not 2 <= classes <= 1000:
            raise ForeignError(folder / CONFIG, "num_classes of 2 to 1000", repr(classes)[:80])
        self.classes = classes
        self._hidden = tensors.linear("classifier_head.0", sum(len(linear.bias) for _, linear, _ in self._heads))
        self._norm = tensors.norm("classifier_head.2", len(self._hidden.bias))
        outputs = 1 if classes == 2 else classes
        self._last = tensors.linear("classifier_head.4", len(self._hidden.bias), outputs)
        tensors.expect_all_taken()

    def probabilities(self, pictures: Mapping[str, NDArray[Any]]) -> Array:
        """Probability of success (1,), or of each of more than two classes (classes,).

        Raises:
            DataError: a picture is missing, or of another shape or dtype.
        """
        parts = []
        for (name, shape), (kernel, linear, norm) in zip(self.inputs.items(), self._heads, strict=True):
            found = pictures.get(name)
            if found is None or found.shape != shape or found.dtype != np.uint8:
                what = "nothing" if found is None else f"{found.dtype} {found.shape}"
                raise DataError(name, f"uint8 {shape}", what)
            features = self._backbone(normalized(found))
            parts.append(np.tanh(norm(linear(spatial_embeddings(features, kernel)))))
        logits = self._last(relu(self._norm(self._hidden(np.concatenate(parts)))))
        if self.classes == 2:
            return sigmoid(logits)
        odds = np.exp(logits - logits.max())
        return odds / odds.sum()

    @property
    def backbone(self) -> Mapping[str, Array]:
        """Parameters of its ResNet-10, by the names of our encoder of this kind."""
        return self._backbone.parameters

    @property
    def cameras(self) -> Iterator[tuple[str, Array, Linear, LayerNorm, Array]]:
        """Of cameras: name, spatial embeddings (h, w, c, f), layer, and rows (width, hidden) of the common layer."""
        start = 0
        for name, (kernel, linear, norm) in zip(self.inputs, self._heads, strict=True):
            end = start + len(linear.bias)
            yield name, kernel, linear, norm, self._hidden.kernel[start:end]
            start = end

    @property
    def layers(self) -> tuple[Linear, LayerNorm, Linear]:
        """What follows all cameras: a layer, its normalization, and the last layer."""
        return self._hidden, self._norm, self._last


def _renamed(name: str) -> str:
    for children, named in _CHILDREN.items():
        if name.startswith(children):
            return named + name.removeprefix(children)
    return name
