# SPDX-License-Identifier: Apache-2.0
"""``features.json`` of TensorFlow Datasets: what the steps and the metadata of an episode hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from serl_rl.spec import ArraySpec, DataError

from serl_recording.episode import RecordingSpec

_CLASSES: Final = "tensorflow_datasets.core.features."
_DICTIONARY: Final = _CLASSES + "features_dict.FeaturesDict"
_DATASET: Final = _CLASSES + "dataset_feature.Dataset"
_MOST: Final = 1000

OBSERVATION: Final = "observation/"

STEP: Final[Mapping[str, str]] = {
    "reward": "float32",
    "discount": "float32",
    "is_first": "bool",
    "is_last": "bool",
    "is_terminal": "bool",
    "intervention": "bool",
    "policy_version": "int64",
    "stamp_ns": "int64",
}
METADATA: Final[Mapping[str, str]] = {
    "success": "bool",
    "demonstration": "bool",
    "stamped": "bool",
    "terminated": "bool",
    "truncated": "bool",
    "number": "int64",
    "actor": "string",
}
INSTRUCTION: Final = "language_instruction"


@dataclass(frozen=True)
class Feature:
    """One value of each step.

    shape: of it, () of a number
    dtype: numpy's name, or string
    picture: it is a picture, encoded
    """

    shape: tuple[int, ...]
    dtype: str
    picture: bool = False

    @property
    def elements(self) -> int:
        """Number of values of one step."""
        return math.prod(self.shape)


def features_tree(spec: RecordingSpec, pictures: str) -> dict[str, Any]:
    """``features.json`` of a recording whose pictures are png or jpeg."""
    observation = {name: _entry(entry, pictures) for name, entry in spec.transitions.observation.items()}
    steps = {
        "observation": _dictionary(observation),
        "action": _tensor((spec.transitions.action_dim,), "float32"),
        INSTRUCTION: _text(),
        **{name: _scalar(dtype) for name, dtype in STEP.items()},
    }
    metadata = {name: _text() if dtype == "string" else _scalar(dtype) for name, dtype in METADATA.items()}
    sequence = {"pythonClassName": _DATASET, "sequence": {"feature": _dictionary(steps), "length": "-1"}}
    return _dictionary({"steps": sequence, "episode_metadata": _dictionary(metadata)})


def step_features(tree: Any) -> dict[str, Feature]:
    """What each step holds, as "outer/inner", by a ``features.json`` of anyone.

    Features that are no tensors, pictures or texts are left out.

    Raises:
        DataError: there are no steps in it, or too many features.
    """
    try:
        steps = tree["featuresDict"]["features"]["steps"]["sequence"]["feature"]
        found = dict(_flat(steps, "", [_MOST]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError("features.json", "the features of RLDS, with steps", f"others ({error!s:.80})") from error
    return found


def _flat(tree: Any, prefix: str, budget: list[int]) -> list[tuple[str, Feature]]:
    budget[0] -= 1
    if budget[0] < 0:
        raise ValueError(f"more than {_MOST} features")
    if "featuresDict" in tree:
        pairs = []
        for name, branch in tree["featuresDict"]["features"].items():
            pairs += _flat(branch, f"{prefix}/{name}" if prefix else name, budget)
        return pairs
    if "image" in tree:
        return [(prefix, Feature(_shape(tree["image"]), "uint8", picture=True))]
    if "tensor" in tree and tree["tensor"].get("encoding", "none") == "none":
        dtype = str(tree["tensor"]["dtype"])
        return [(prefix, Feature(_shape(tree["tensor"]), dtype if dtype == "string" else np.dtype(dtype).name))]
    if "text" in tree:
        return [(prefix, Feature((), "string"))]
    return []


def _shape(tree: Any) -> tuple[int, ...]:
    return tuple(int(size) for size in tree.get("shape", {}).get("dimensions", ()))


def _entry(entry: ArraySpec, pictures: str) -> dict[str, Any]:
    if entry.kind == "image" and entry.shape[2] in (1, 3):
        image = {"shape": _dimensions(entry.shape), "dtype": "uint8", "encodingFormat": pictures}
        return {"pythonClassName": _CLASSES + "image_feature.Image", "image": image}
    return _tensor(entry.shape, entry.dtype)


def _dictionary(features: Mapping[str, Any]) -> dict[str, Any]:
    return {"pythonClassName": _DICTIONARY, "featuresDict": {"features": dict(features)}}


def _tensor(shape: tuple[int, ...], dtype: str) -> dict[str, Any]:
    tensor = {"shape": _dimensions(shape), "dtype": dtype, "encoding": "none"}
    return {"pythonClassName": _CLASSES + "tensor_feature.Tensor", "tensor": tensor}


def _scalar(dtype: str) -> dict[str, Any]:
    tensor = {"shape": {}, "dtype": dtype, "encoding": "none"}
    return {"pythonClassName": _CLASSES + "scalar.Scalar", "tensor": tensor}


def _text() -> dict[str, Any]:
    return {"pythonClassName": _CLASSES + "text_feature.Text", "text": {}}


def _dimensions(shape: tuple[int, ...]) -> dict[str, Any]:
    return {"dimensions": [str(size) for size in shape]}
