# SPDX-License-Identifier: Apache-2.0
"""Reads RLDS, ours with everything, that of others as far as it says it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from serl_config.files import FileError, read_bytes
from serl_config.strict_json import JsonError, parse_json
from serl_rl.spec import ArraySpec, DataError, TransitionSpec
from serl_rl.storage.pictures import decode_picture

from serl_recording.episode import UNKNOWN_ACTOR, Episode, RecordingError, RecordingSpec, check_budget, nominal_stamps
from serl_recording.format import Reader, Report, refuse
from serl_recording.formats.rlds.example import Values, decode_example
from serl_recording.formats.rlds.features import OBSERVATION, Feature, step_features
from serl_recording.formats.rlds.tfrecord import read_records
from serl_recording.formats.rlds.writer import FEATURES, SPEC
from serl_recording.optional import require

_LIMIT: Final = 2**24


class RldsReader(Reader):
    """Reads a dataset.

    By the letter of RLDS the last step of an episode has an observation only. Others often write an action and a reward
    there, too: where that reward is not 0 the step is taken for one, and its observation for what it led to.

    Args:
        folder: that holds features.json.
        rate: control steps per second [Hz], which RLDS does not say; ours does.
        task: where it says none.

    Raises:
        RecordingError: it cannot be read, or does not say the rate and `rate` is None.
    """

    def __init__(self, folder: Path, rate: float | None = None, task: str = "") -> None:
        require("google_crc32c", "an RLDS dataset")
        self._folder = folder
        self._files = sorted(folder.glob("*.tfrecord*"))
        if not self._files:
            raise RecordingError(f"{folder}: expected files *.tfrecord-*, found none")
        self._own = (folder / SPEC).exists()
        try:
            self._features = step_features(self._json(FEATURES))
            self._spec = self._stored_spec() if self._own else self._derived_spec(rate, task)
            self._check_features()
        except (DataError, KeyError, TypeError, ValueError) as error:
            raise RecordingError(f"{folder}: {error}") from error

    @property
    def spec(self) -> RecordingSpec:
        """What its features say, and more where we have written it."""
        return self._spec

    def episodes(self, report: Report = refuse) -> Iterator[Episode]:
        """Every record that can be read."""
        for path in self._files:
            for index, record in enumerate(read_records(path, report)):
                try:
                    episode = self._episode(decode_example(record), index)
                except DataError as error:
                    report(RecordingError(f"{path}: record {index} was left out: {error}"))
                else:
                    yield episode

    def _json(self, name: str) -> Any:
        path = self._folder / name
        try:
            return parse_json(read_bytes(path, _LIMIT), size=_LIMIT)
        except FileError as error:
            raise RecordingError(f"{path}: expected a part of an RLDS dataset: {error.reason}") from error
        except JsonError as error:
            raise RecordingError(f"{path}: {error}") from error

    def _stored_spec(self) -> RecordingSpec:
        tree = self._json(SPEC)
        transitions = TransitionSpec.from_json(json.dumps(tree["transitions"]))
        return RecordingSpec(transitions, float(tree["rate"]), str(tree["task"]))

    def _derived_spec(self, rate: float | None, task: str) -> RecordingSpec:
        if rate is None:
            raise RecordingError(
                f"{self._folder}: expected how many control steps a second has, which RLDS does not say: give --rate"
            )
        entries = {}
        for key, feature in self._features.items():
            if key.startswith(OBSERVATION) and (kind := _kind(feature)):
                entries[key.removeprefix(OBSERVATION)] = ArraySpec(feature.shape, kind)
        action = self._features.get("action")
        if action is None or len(action.shape) != 1:
            raise DataError("steps/action", "a vector (A,)", "none" if action is None else str(action.shape))
        return RecordingSpec(TransitionSpec(entries, action.shape[0]), rate, task)

    def _check_features(self) -> None:
        entries = self._spec.transitions.observation
        expected = {f"{OBSERVATION}{name}": entry.shape for name, entry in entries.items()}
        for name, shape in (expected | {"action": (self._spec.transitions.action_dim,)}).items():
            found = self._features.get(name)
            if found is None or found.shape != shape:
                raise DataError(f"steps/{name}", f"shape {shape}", "nothing" if found is None else str(found.shape))

    def _episode(self, record: Mapping[str, Values], index: int) -> Episode:
        size = self._spec.transitions.action_dim
        action = _numbers(record, "steps/action")
        count, rest = divmod(len(action), size)
        if rest:
            raise DataError("steps/action", f"actions of {size} values", f"{len(action)} values")
        check_budget(self._spec, max(count - 1, 0))
        reward = _numbers(record, "steps/reward", count, np.zeros(count))
        terminal = bool(_numbers(record, "steps/is_terminal", count, np.zeros(count))[-1])
        acted = bool(reward[-1] != 0) and not self._own
        n = count if acted else count - 1
        rows = {name: self._rows(name, record, count) for name in self._spec.transitions.observation}
        if acted:
            rows = {name: np.concatenate([each, each[-1:]]) for name, each in rows.items()}
        plain = Episode(
            observation=rows,
            action=action.reshape(count, size)[:n].astype(np.float32),
            reward=reward[:n].astype(np.float32),
            intervention=_numbers(record, "steps/intervention", count, np.zeros(count))[:n].astype(np.bool_),
            policy_version=_numbers(record, "steps/policy_version", count, np.zeros(count))[:n].astype(np.uint64),
            stamp=nominal_stamps(n + 1, self._spec.rate),
            stamped=False,
            terminated=terminal,
            truncated=not terminal,
            success=bool(reward[-1] > 0 or reward[n - 1] > 0),
            demonstration=True,
            actor=UNKNOWN_ACTOR,
            number=index,
        )
        episode = _with_metadata(plain, record, count) if self._own else plain
        episode.check(self._spec)
        return episode

    def _rows(self, name: str, record: Mapping[str, Values], count: int) -> NDArray[Any]:
        """The rows (count, ...) of an entry of the observation."""
        entry, key = self._spec.transitions.observation[name], f"steps/{OBSERVATION}{name}"
        values = record.get(key, [])
        if not self._features[f"{OBSERVATION}{name}"].picture:
            return _numbers(record, key, count * entry.elements).reshape(count, *entry.shape).astype(entry.dtype)
        if isinstance(values, np.ndarray) or len(values) != count:
            raise DataError(key, f"{count} pictures", f"{len(values)}")
        rows = np.empty((count, *entry.shape), np.uint8)
        for place, data in enumerate(values):
            rows[place] = decode_picture(data, entry.shape, f"{key}[{place}]")
        return rows


def _kind(feature: Feature) -> str:
    """The dtype of an entry of the observation, empty for what is none."""
    if feature.picture:
        return "uint8" if len(feature.shape) == 3 and min(feature.shape) > 0 else ""
    return "float32" if len(feature.shape) == 1 and feature.dtype.startswith("float") and feature.shape[0] > 0 else ""


def _numbers(
    record: Mapping[str, Values], key: str, count: int | None = None, otherwise: NDArray[Any] | None = None
) -> NDArray[Any]:
    """A list of numbers; raises DataError where it is none, or has another length than `count`."""
    if key not in record and otherwise is not None:
        return otherwise
    values = record.get(key)
    if (
        not isinstance(values, np.ndarray)
        or not len(values)
        or len(values) != (len(values) if count is None else count)
    ):
        found = "nothing" if values is None else f"{len(values)}"
        raise DataError(key, f"{'some' if count is None else count} numbers", found)
    return values


def _with_metadata(episode: Episode, record: Mapping[str, Values], count: int) -> Episode:
    def flag(name: str) -> bool:
        return bool(_numbers(record, f"episode_metadata/{name}", 1)[0])

    actor = record.get("episode_metadata/actor", [])
    if isinstance(actor, np.ndarray) or len(actor) != 1:
        raise DataError("episode_metadata/actor", "a text", "none")
    number = _numbers(record, "episode_metadata/number", 1)
    if number.dtype.kind != "i":
        raise DataError("episode_metadata/number", "a whole number", str(number[0]))
    return replace(
        episode,
        stamp=_numbers(record, "steps/stamp_ns", count),
        stamped=flag("stamped"),
        terminated=flag("terminated"),
        truncated=flag("truncated"),
        success=flag("success"),
        demonstration=flag("demonstration"),
        actor=actor[0].decode(errors="replace"),
        number=int(number[0]),
    )
