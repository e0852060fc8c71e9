# SPDX-License-Identifier: Apache-2.0
"""Shapes and dtypes of the transitions of one task, and the error that says what does not fit them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

OBSERVATION_DTYPES = ("float32", "float16", "uint8")
MAX_ARRAY_ELEMENTS = 2**26
MAX_NAME_LENGTH = 200


class DataError(ValueError):
    """Data that does not fit its specification: says which field, what was expected and what was found."""

    def __init__(self, field: str, expected: str, found: str) -> None:
        super().__init__(f"{field}: expected {expected}, found {found}")
        self.field = field
        self.expected = expected
        self.found = found


@dataclass(frozen=True)
class ArraySpec:
    """Shape and dtype of one observation entry."""

    shape: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))
        object.__setattr__(self, "dtype", np.dtype(self.dtype).name)
        if self.dtype not in OBSERVATION_DTYPES:
            raise DataError("dtype", " or ".join(OBSERVATION_DTYPES), self.dtype)
        if not self.shape or min(self.shape) < 1 or self.elements > MAX_ARRAY_ELEMENTS:
            raise DataError("shape", f"positive sizes, at most {MAX_ARRAY_ELEMENTS} elements", str(self.shape))

    @cached_property
    def elements(self) -> int:
        """Number of values in one array."""
        product = 1
        for size in self.shape:
            product *= size
        return product

    @cached_property
    def wire_dtype(self) -> np.dtype[Any]:
        """The dtype as it is written: little-endian on every machine."""
        return np.dtype(self.dtype).newbyteorder("<")

    @property
    def is_vector(self) -> bool:
        """Whether the entry can be concatenated into the input of an MLP."""
        return len(self.shape) == 1 and self.dtype == "float32"


@dataclass(frozen=True)
class TransitionSpec:
    """Shapes of the transitions of one task.

    Args:
        observation: name -> `ArraySpec`, or `(shape, dtype)`. Kept sorted by name.
        action_dim: number of action components A, each in [-1, 1].
    """

    observation: Mapping[str, ArraySpec]
    action_dim: int

    def __post_init__(self) -> None:
        entries: dict[str, ArraySpec] = {}
        for name in sorted(self.observation):
            entry = self.observation[name]
            if not name or len(name) > MAX_NAME_LENGTH:
                raise DataError("observation", f"names of 1 to {MAX_NAME_LENGTH} characters", repr(name[:40]))
            entries[name] = entry if isinstance(entry, ArraySpec) else ArraySpec(*entry)
        if not entries:
            raise DataError("observation", "at least one entry", "none")
        if not 1 <= self.action_dim <= 1000:
            raise DataError("action_dim", "1 to 1000", str(self.action_dim))
        object.__setattr__(self, "observation", entries)

    @classmethod
    def from_spaces(cls, observation_space: Any, action_space: Any) -> TransitionSpec:
        """Build the spec from a Gymnasium `Dict` observation space and a flat `Box` action space."""
        entries = {name: ArraySpec(box.shape, box.dtype.name) for name, box in observation_space.spaces.items()}
        return cls(entries, int(action_space.shape[0]))

    @classmethod
    def from_json(cls, text: str) -> TransitionSpec:
        """Inverse of `to_json`; raises DataError for anything else."""
        try:
            tree = json.loads(text)
            entries = {
                str(name): ArraySpec(tuple(shape), dtype) for name, (shape, dtype) in tree["observation"].items()
            }
            return cls(entries, int(tree["action_dim"]))
        except DataError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise DataError("spec", "the JSON of a TransitionSpec", f"{text[:80]!r} ({error})") from None

    def to_json(self) -> str:
        """Canonical text of the spec; equal specs give equal text."""
        observation = {name: [list(entry.shape), entry.dtype] for name, entry in self.observation.items()}
        tree = {"observation": observation, "action_dim": self.action_dim}
        return json.dumps(tree, sort_keys=True, separators=(",", ":"))

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that differ between different specs."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    @property
    def vector_names(self) -> tuple[str, ...]:
        """Entries that are flat float32 vectors, in the order in which networks concatenate them."""
        return tuple(name for name, entry in self.observation.items() if entry.is_vector)

    @property
    def frame_names(self) -> tuple[str, ...]:
        """All other entries: images and feature maps."""
        return tuple(name for name, entry in self.observation.items() if not entry.is_vector)
