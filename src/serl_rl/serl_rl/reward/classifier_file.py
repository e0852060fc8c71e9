# SPDX-License-Identifier: Apache-2.0
"""The one file that holds a reward classifier, and what it says of itself. Imports no JAX."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from serl_config.files import FileError, read_bytes
from serl_config.strict_json import parse_json
from serl_config.text import printable

from serl_rl.reward.data import FrameSource
from serl_rl.spec import DataError
from serl_rl.storage.tensors import HEADER_LIMIT, expect_seal, unpack

FORMAT = 2
_UNSEALED = 1  # of older files: the same without a checksum
_LARGEST_FILE = 2**30


class ClassifierError(ValueError):
    """A classifier file that cannot be used: says what was expected, what was found, and what to do."""


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
    """Rates and losses on held-out frames, by name."""
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
            tree = parse_json(text, size=HEADER_LIMIT, finite=False)
            if tree.pop("format") not in (FORMAT, _UNSEALED):
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
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
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

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras, sorted."""
        return tuple(sorted(self.source.views))


def read_classifier(path: Path) -> tuple[ClassifierInfo, dict[str, NDArray[Any]]]:
    """What a classifier file says of itself, and its arrays by name.

    Raises:
        ClassifierError: the file is missing, damaged, or no classifier.
    """
    try:
        data = read_bytes(path, _LARGEST_FILE)
    except FileError as error:
        raise ClassifierError(f"{error}; train a classifier with ./serl reward train") from error
    try:
        arrays, metadata = unpack(data)
        if "classifier" not in metadata:
            raise DataError("metadata", "that of a reward classifier", ", ".join(metadata) or "none")
        info = ClassifierInfo.from_json(metadata["classifier"])
        if json.loads(metadata["classifier"])["format"] != _UNSEALED:
            expect_seal(metadata)
        return info, arrays
    except DataError as error:
        raise ClassifierError(f"{printable(path)}: is damaged, or no reward classifier: {error}") from error


def check_arrays(path: Path, found: Mapping[str, NDArray[Any]], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ClassifierError unless `found` are finite numbers with the `expected` names and shapes."""
    if found.keys() != expected.keys():
        difference = sorted(found.keys() ^ expected.keys())
        raise ClassifierError(
            f"{path}: expected {len(expected)} arrays, found {len(found)}; differs in {difference[0]}"
        )
    for name, shape in expected.items():
        array = found[name]
        if array.shape != shape or not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
            raise ClassifierError(f"{path}: {name}: expected finite numbers {shape}, found {array.dtype} {array.shape}")
