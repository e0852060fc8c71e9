# SPDX-License-Identifier: Apache-2.0
"""Shapes and dtypes of the transitions of one task, and the error that says what does not fit them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from serl_config.strict_json import parse_json
from serl_config.text import printable

Kind = Literal["vector", "image", "features", "other"]

OBSERVATION_DTYPES = ("float32", "float16", "uint8")
MAX_ARRAY_ELEMENTS = 2**26
MAX_NAME_LENGTH = 200
MAX_FRAME_STACK = 16


class DataError(ValueError):
    """Data that does not fit its specification: says which field, what was expected and what was found."""

    def __init__(self, field: str, expected: str, found: str) -> None:
        super().__init__(printable(f"{field}: expected {expected}, found {found}"))
        self.field = field
        self.expected = expected
        self.found = found


class ImplausibleError(DataError):
    """Numbers outside their plausible range: data of the right form that nothing should be learned from."""


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

    @cached_property
    def kind(self) -> Kind:
        """What the entry is.

        vector: float32 (k,), can be concatenated into the input of an MLP
        image: uint8 (H, W, C)
        features: float16 (K, h, w, C), what a frozen encoder made of K randomly shifted views of one picture
        other: anything else
        """
        return kind_of(self.shape, self.dtype)


def kind_of(shape: tuple[int, ...], dtype: Any) -> Kind:
    """What an entry of this shape and dtype is, as `ArraySpec.kind` lists them; without the axis of rows or batch."""
    name = np.dtype(dtype).name
    if len(shape) == 1 and name == "float32":
        return "vector"
    if len(shape) == 3 and name == "uint8":
        return "image"
    if len(shape) == 4 and name == "float16":
        return "features"
    return "other"


_SHAPES = ("observation", "action_dim", "encoder", "frame_stack")
_MOST_DIFFERENCES = 8


@dataclass(frozen=True)
class Plausible:
    """Largest magnitudes of what is worth learning from. One absurd number is enough to ruin a network for ever."""

    vector: float = 1e3
    """Largest value in a vector, which is scaled to about unit range."""
    reward: float = 1e4


@dataclass(frozen=True)
class TransitionSpec:
    """Shapes of the transitions of one task, and what their numbers mean.

    Args:
        observation: name -> `ArraySpec`, or `(shape, dtype)`. Kept sorted by name.
        action_dim: number of action components A, each in [-1, 1].
        encoder: hash of the frozen encoder that made the features; empty exactly when there are none. Features of
            different encoders have different fingerprints, so they never meet in one buffer or file.
        frame_stack: pictures (or their features) that make one observation: the newest and those before it.
        meaning: everything that gives the numbers a meaning (what they are, in which order, units, scales and frames),
            as a tree of JSON. Data of another meaning do not mix. Empty: unknown, as in files from before it was kept;
            agrees with any.
        plausible: ranges of the values. No part of what two specifications have to agree in.
    """

    observation: Mapping[str, ArraySpec]
    action_dim: int
    encoder: str = ""
    frame_stack: int = 1
    meaning: Mapping[str, Any] = field(default_factory=dict)
    plausible: Plausible = field(default=Plausible(), compare=False)

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
        if not 1 <= self.frame_stack <= MAX_FRAME_STACK:
            raise DataError("frame_stack", f"1 to {MAX_FRAME_STACK}", str(self.frame_stack))
        features = [name for name, entry in entries.items() if entry.kind == "features"]
        if bool(features) != bool(self.encoder) or len(self.encoder) > MAX_NAME_LENGTH:
            expected = "the hash of the encoder" if features else "none without features"
            raise DataError("encoder", expected, repr(self.encoder[:40]))
        # As it comes back from a file, where a tuple is a list.
        object.__setattr__(self, "meaning", json.loads(json.dumps(dict(self.meaning), sort_keys=True)))

    @classmethod
    def from_spaces(
        cls, observation_space: Any, action_space: Any, *, encoder: str = "", frame_stack: int = 1
    ) -> TransitionSpec:
        """Build the spec from a Gymnasium `Dict` observation space and a flat `Box` action space."""
        entries = {name: ArraySpec(box.shape, box.dtype.name) for name, box in observation_space.spaces.items()}
        return cls(entries, int(action_space.shape[0]), encoder, frame_stack)

    @classmethod
    def from_json(cls, text: str) -> TransitionSpec:
        """Inverse of `to_json`; raises DataError for anything else."""
        try:
            tree = parse_json(text)
            entries = {
                str(name): ArraySpec(tuple(shape), dtype) for name, (shape, dtype) in tree["observation"].items()
            }
            # The latter are absent in files from before there were features, stacks and meanings.
            return cls(
                entries,
                int(tree["action_dim"]),
                str(tree.get("encoder", "")),
                int(tree.get("frame_stack", 1)),
                dict(tree.get("meaning", {})),
            )
        except DataError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise DataError("spec", "the JSON of a TransitionSpec", f"{text[:80]!r} ({error})") from None

    def to_json(self) -> str:
        """Canonical text of the spec; equal specs give equal text."""
        observation = {name: [list(entry.shape), entry.dtype] for name, entry in self.observation.items()}
        tree: dict[str, Any] = {
            "observation": observation,
            "action_dim": self.action_dim,
            "encoder": self.encoder,
            "frame_stack": self.frame_stack,
        }
        if self.meaning:
            tree["meaning"] = self.meaning
        return json.dumps(tree, sort_keys=True, separators=(",", ":"))

    def agrees(self, found: TransitionSpec) -> bool:
        """Whether data of another specification fit this one: equal, where both say what their numbers mean."""
        same = all(getattr(self, name) == getattr(found, name) for name in _SHAPES)
        return same and (not self.meaning or not found.meaning or self.meaning == found.meaning)

    def difference(self, found: TransitionSpec) -> str:
        """What another specification has otherwise, in words: "expected ..., found ...", field by field."""
        ours, theirs = self._properties(), found._properties()
        names = [name for name in ours | theirs if ours.get(name) != theirs.get(name)]
        sides = (", ".join(f"{name}: {side.get(name, 'none')}" for name in names) for side in (ours, theirs))
        words = ["expected {}; found {}".format(*sides)] if names else []
        if self.meaning and found.meaning:
            words += differences(self.meaning, found.meaning)
        return "; ".join(words)

    def _properties(self) -> dict[str, str]:
        entries = {name: f"{entry.dtype} {entry.shape}" for name, entry in self.observation.items()}
        return entries | {
            "action": f"{self.action_dim} components",
            "encoder": self.encoder or "none",
            "frame_stack": str(self.frame_stack),
        }

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that differ between different specs."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    @cached_property
    def meaning_hash(self) -> str:
        """16 hexadecimal digits that differ between different meanings; empty where it is unknown."""
        return (
            hashlib.sha256(json.dumps(self.meaning, sort_keys=True).encode()).hexdigest()[:16] if self.meaning else ""
        )

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    @property
    def vector_names(self) -> tuple[str, ...]:
        """Entries that are flat float32 vectors, in the order in which networks concatenate them."""
        return tuple(name for name, entry in self.observation.items() if entry.kind == "vector")

    @property
    def frame_names(self) -> tuple[str, ...]:
        """All other entries: images and feature maps."""
        return tuple(name for name, entry in self.observation.items() if entry.kind != "vector")

    def drawn_shape(self, name: str) -> tuple[int, ...]:
        """Shape of an entry in a sampled observation: one view of features, and `frame_stack` frames side by side.

        vector (k,), image (H, W, frame_stack * C) and features (h, w, frame_stack * C), oldest frame first.
        """
        entry = self.observation[name]
        if entry.kind == "vector":
            return entry.shape
        *outer, channels = entry.shape[1:] if entry.kind == "features" else entry.shape
        return (*outer, self.frame_stack * channels)


def differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Where two trees differ: "path (name): expected ..., found ..."."""
    ours, theirs = dict(_leaves(expected)), dict(_leaves(found))
    paths = [path for path in ours | theirs if ours.get(path) != theirs.get(path)]
    words = []
    for path in paths[:_MOST_DIFFERENCES]:
        name = ours.get(f"{path.rpartition('.')[0]}.name")
        label = f" ({name})" if name is not None and not path.endswith(".name") else ""
        words.append(f"{path}{label}: expected {ours.get(path, 'nothing')}, found {theirs.get(path, 'nothing')}")
    if len(paths) > len(words):
        words.append(f"and {len(paths) - len(words)} more")
    return words


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Values of a tree by their paths, as in "state[3].scale"."""
    if isinstance(tree, Mapping):
        for name, branch in tree.items():
            yield from _leaves(branch, f"{path}.{name}" if path else name)
    elif isinstance(tree, list):
        for index, branch in enumerate(tree):
            yield from _leaves(branch, f"{path}[{index}]")
    else:
        yield path, tree
