# SPDX-License-Identifier: Apache-2.0
"""The one schema of a recorded episode, whatever format it comes from or goes to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from serl_config.text import printable
from serl_rl.spec import MAX_NAME_LENGTH, DataError, TransitionSpec

MAX_STEPS: Final = 2**16
"""Most actions of an episode."""
MAX_EPISODE_BYTES: Final = 2**30
"""[bytes] Largest episode: one at a time is in memory."""
MAX_RATE: Final = 10_000.0
"""[Hz]"""
MAX_TEXT: Final = 1000

UNKNOWN_ACTOR: Final = "unknown"
"""Who acted in recordings that do not say it."""

NANOSECONDS: Final = 1_000_000_000


class RecordingError(RuntimeError):
    """A recording that cannot be read or written; one line that names the file or folder."""

    def __init__(self, text: str) -> None:
        super().__init__(printable(text))


@dataclass(frozen=True)
class RecordingSpec:
    """What all episodes of a recording have in common.

    Args:
        transitions: names, shapes and dtypes of the observation, size of the action, what the numbers mean. Of single
            frames: stacks are made when a recording is read for learning.
        rate: control steps per second [Hz].
        task: name of the task, or what the person was told to do; may be empty.

    Raises:
        DataError: there is no such rate, or the task is too long or no text.
    """

    transitions: TransitionSpec
    rate: float
    task: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.rate <= MAX_RATE:  # NaN is refused, too
            raise DataError("rate", f"a number of control steps per second, at most {MAX_RATE:g}", f"{self.rate}")
        if len(self.task) > MAX_TEXT:
            raise DataError("task", f"at most {MAX_TEXT} characters", f"{len(self.task)}")
        try:
            self.task.encode()
        except UnicodeEncodeError as error:  # a command line that is not UTF-8
            raise DataError("task", "text in UTF-8", repr(self.task[error.start])) from error
        object.__setattr__(self, "transitions", replace(self.transitions, frame_stack=1))

    @property
    def cameras(self) -> tuple[str, ...]:
        """Entries of the observation that are pictures, uint8 (H, W, C)."""
        return tuple(name for name, entry in self.transitions.observation.items() if entry.kind == "image")

    @property
    def action_names(self) -> tuple[str, ...]:
        """Names of the components of an action, as the task says them, or action[0], action[1], ..."""
        return names_of(self.transitions.meaning.get("action"), "action", self.transitions.action_dim)

    def entry_names(self, name: str) -> tuple[str, ...]:
        """Names of the values of a vector of the observation, as the task says them, or name[0], name[1], ..."""
        meaning = self.transitions.meaning.get("state") if name == "state" else None
        return names_of(meaning, name, self.transitions.observation[name].elements)

    def without(self, names: frozenset[str]) -> RecordingSpec:
        """This specification without some entries of the observation; raises DataError where there is no such entry."""
        observation = self.transitions.observation
        unknown = names - set(observation)
        if unknown:
            raise DataError("observation", f"names out of {sorted(observation)}", ", ".join(sorted(unknown)))
        kept = {name: entry for name, entry in observation.items() if name not in names}
        encoder = self.transitions.encoder if any(entry.kind == "features" for entry in kept.values()) else ""
        return replace(self, transitions=replace(self.transitions, observation=kept, encoder=encoder))


@dataclass(frozen=True)
class Episode:
    """An episode of n control steps.

    observation: name -> (n + 1, *shape); row i is what was seen before action i, row n what was seen last
    action: (n, A) float32, as executed
    reward: (n,) float32
    intervention: (n,) bool, a person led
    policy_version: (n,) uint64, version of the parameters that acted
    stamp: (n + 1,) int64 [ns], when each observation was made
    stamped: whether the stamps were measured; otherwise they follow from the rate, beginning at 0
    terminated: the episode truly ended; truncated: a time limit or a stop ended it. Both false: it goes on elsewhere
    success: of the episode
    demonstration: it was recorded to be learned from
    actor: who acted; number: of the episode, for this actor
    """

    observation: Mapping[str, NDArray[Any]]
    action: NDArray[np.float32]
    reward: NDArray[np.float32]
    intervention: NDArray[np.bool_]
    policy_version: NDArray[np.uint64]
    stamp: NDArray[np.int64]
    stamped: bool
    terminated: bool
    truncated: bool
    success: bool
    demonstration: bool
    actor: str
    number: int

    def __len__(self) -> int:
        return len(self.action)

    @property
    def nbytes(self) -> int:
        """[bytes] of its arrays."""
        columns = (self.action, self.reward, self.intervention, self.policy_version, self.stamp)
        return sum(array.nbytes for array in (*columns, *self.observation.values()))

    def check(self, spec: RecordingSpec) -> None:
        """Raise DataError unless shapes and dtypes are those of `spec`, and floats finite."""
        n = len(self.action)
        if not 1 <= n <= MAX_STEPS:
            raise DataError("steps", f"1 to {MAX_STEPS}", str(n))
        entries = spec.transitions.observation
        if set(self.observation) != set(entries):
            raise DataError("observation", f"entries {sorted(entries)}", str(sorted(self.observation)))
        for name, entry in entries.items():
            _check_array(f"observation.{name}", self.observation[name], entry.dtype, (n + 1, *entry.shape))
        _check_array("action", self.action, "float32", (n, spec.transitions.action_dim))
        _check_array("reward", self.reward, "float32", (n,))
        _check_array("intervention", self.intervention, "bool", (n,))
        _check_array("policy_version", self.policy_version, "uint64", (n,))
        _check_array("stamp", self.stamp, "int64", (n + 1,))
        if self.stamp.min() < 0:
            raise DataError("stamp", "nanoseconds, not negative", str(self.stamp.min()))
        if not 0 <= self.number < 2**63:
            raise DataError("number", "0 to 2**63 - 1", str(self.number))
        if not 1 <= len(self.actor) <= MAX_NAME_LENGTH:
            raise DataError("actor", f"1 to {MAX_NAME_LENGTH} characters", f"{len(self.actor)}")
        if self.nbytes > MAX_EPISODE_BYTES:
            raise DataError("episode", f"at most {MAX_EPISODE_BYTES >> 20} MiB", f"{self.nbytes >> 20} MiB")

    def without(self, names: frozenset[str]) -> Episode:
        """This episode without some entries of the observation."""
        kept = {name: rows for name, rows in self.observation.items() if name not in names}
        return replace(self, observation=kept)


def nominal_stamps(count: int, rate: float) -> NDArray[np.int64]:
    """(count,) [ns]: what stamps would be at exactly this rate [Hz], beginning at 0."""
    return np.rint(np.arange(count) * (NANOSECONDS / rate)).astype(np.int64)


def check_budget(spec: RecordingSpec, steps: int) -> None:
    """Raise DataError where an episode of so many steps would be larger than one may be, before it is read."""
    if not 1 <= steps <= MAX_STEPS:
        raise DataError("steps", f"1 to {MAX_STEPS}", str(steps))
    entries = spec.transitions.observation.values()
    row = sum(math.prod(entry.shape) * np.dtype(entry.dtype).itemsize for entry in entries)
    if (steps + 1) * row > MAX_EPISODE_BYTES:
        found = f"{(steps + 1) * row >> 20} MiB in {steps} steps"
        raise DataError("episode", f"at most {MAX_EPISODE_BYTES >> 20} MiB", found)


def names_of(meaning: Any, name: str, count: int) -> tuple[str, ...]:
    """Names that a list of {"name": ...} gives to `count` values; name[i] where it does not say one for each."""
    if isinstance(meaning, list) and len(meaning) == count:
        names = [entry.get("name") if isinstance(entry, dict) else None for entry in meaning]
        if all(isinstance(each, str) for each in names) and len(set(names)) == count:
            return tuple(str(each) for each in names)
    return tuple(f"{name}[{index}]" for index in range(count))


def _check_array(name: str, array: NDArray[Any], dtype: str, shape: tuple[int, ...]) -> None:
    if not isinstance(array, np.ndarray) or array.dtype.name != dtype:
        raise DataError(name, dtype, str(getattr(array, "dtype", type(array).__name__)))
    if array.shape != shape:
        raise DataError(name, f"shape {shape}", f"shape {array.shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise DataError(name, "finite values", f"{array[index]} at {index}")
