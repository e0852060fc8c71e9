# SPDX-License-Identifier: Apache-2.0
"""The pickles of SERL and HIL-SERL: demonstrations, data of classifiers, buffers. Read without unpickling them.

Each is a list of transitions: dictionaries with `observations`, `actions`, `next_observations`, `rewards`, `dones` and
others. Nothing but arrays and what is built into Python is read; a pickle that names anything else is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from serl_config.files import FileError, open_file
from serl_rl.pickles.machine import Refused, kind_of
from serl_rl.pickles.transitions import TransitionMachine
from serl_rl.spec import ArraySpec, DataError, TransitionSpec

from serl_recording.episode import (
    MAX_EPISODE_BYTES,
    MAX_STEPS,
    UNKNOWN_ACTOR,
    Episode,
    RecordingError,
    RecordingSpec,
    nominal_stamps,
)
from serl_recording.format import Reader, Report, refuse
from serl_recording.serl_transition import SerlTransition, leads_to, read_transition

MAX_BYTES: Final = 2**32
"""[bytes] of a file, all of which is in memory at once."""
_NUMBER: Final = re.compile(r"(\d+)(?=\.pkl$)")


def read_transitions(path: Path) -> list[Any]:
    """The list in a pickle.

    Raises:
        RecordingError: there is none, or the pickle holds or names what is not read here.
    """
    expected = "expected a pickled list of transitions, as SERL and HIL-SERL write it"
    try:
        with open_file(path) as file:
            size = path.stat().st_size
            if size > MAX_BYTES:
                raise RecordingError(f"{path}: {expected}, of at most {MAX_BYTES >> 20} MiB, found {size >> 20} MiB")
            tree = TransitionMachine().run(file)
    except FileError as error:
        raise RecordingError(f"{path}: {expected}: {error.reason}") from error
    except Refused as error:
        raise RecordingError(f"{path}: {expected}, found {error}") from error
    if not isinstance(tree, list) or not tree:
        raise RecordingError(f"{path}: {expected}, found {kind_of(tree)}")
    return tree


class PickleReader(Reader):
    """Reads a pickle, or a folder of ``transitions_STEP.pkl``.

    An episode ends where `dones` says so, and where an observation is not what the transition before led to. In these
    files a time limit looks like a termination: an end with a reward is taken for a termination, one without for a time
    limit. A stack of observations is its newest one. `grasp_penalty` is not applied to the rewards.

    Args:
        path: of the file or folder.
        rate: control steps per second [Hz], which these files do not say.
        task: name of the task.

    Raises:
        RecordingError: it cannot be read, or `rate` is None.
    """

    def __init__(self, path: Path, rate: float | None = None, task: str = "") -> None:
        self._path = path
        self._files = [path] if path.is_file() else pickles_in(path)
        if not self._files:
            raise RecordingError(f"{path}: expected files *.pkl, found none")
        if rate is None:
            raise RecordingError(
                f"{path}: expected how many control steps a second has, which it does not say: give --rate (SERL: 10)"
            )
        self._first = read_transitions(self._files[0])
        try:
            head = read_transition(self._first[0], "transition 0")
            entries = {
                name: ArraySpec(rows.shape, "uint8" if rows.dtype == np.uint8 else "float32")
                for name, rows in head.observation.items()
            }
            self._spec = RecordingSpec(TransitionSpec(entries, len(head.action)), rate, task)
        except DataError as error:
            raise RecordingError(f"{self._files[0]}: {error}") from error

    @property
    def spec(self) -> RecordingSpec:
        """What the first transition is."""
        return self._spec

    def episodes(self, report: Report = refuse) -> Iterator[Episode]:
        """Every episode; a file that cannot be read is left out, and so is an episode with other spaces."""
        waiting: list[SerlTransition] = []
        number = 0
        for transition in self._ended(report):
            broken = transition is None or (bool(waiting) and not leads_to(waiting[-1], transition))
            if waiting and (broken or len(waiting) >= self._longest):
                yield from self._episode(waiting, number, report)
                waiting, number = [], number + 1
            if transition is None:
                continue
            waiting.append(transition)
            if transition.done:
                yield from self._episode(waiting, number, report)
                waiting, number = [], number + 1

    def _ended(self, report: Report) -> Iterator[SerlTransition | None]:
        """All transitions in order; None where some are missing, and at the end."""
        yield from self._transitions(report)
        yield None

    @property
    def _longest(self) -> int:
        row = sum(
            entry.elements * np.dtype(entry.dtype).itemsize for entry in self._spec.transitions.observation.values()
        )
        return max(1, min(MAX_STEPS, MAX_EPISODE_BYTES // max(row, 1) - 2))

    def _transitions(self, report: Report) -> Iterator[SerlTransition | None]:
        """All transitions in order; None where some are missing."""
        entries = self._spec.transitions.observation
        for index, path in enumerate(self._files):
            try:
                items = read_transitions(path) if index else self._first
            except RecordingError as error:
                report(error)
                yield None
                continue
            for place, item in enumerate(items):
                where = f"transition {place}"
                try:
                    found = read_transition(item, where)
                    for name, entry in entries.items():
                        rows = found.observation.get(name)
                        if rows is None or rows.shape != entry.shape or rows.dtype.name != entry.dtype:
                            what = "nothing" if rows is None else f"{rows.dtype} {rows.shape}"
                            raise DataError(f"{where}.observations.{name}", f"{entry.dtype} {entry.shape}", what)
                    if len(found.action) != self._spec.transitions.action_dim:
                        raise DataError(
                            f"{where}.actions", f"{self._spec.transitions.action_dim} values", f"{len(found.action)}"
                        )
                except DataError as error:
                    report(RecordingError(f"{path}: left out: {error}"))
                    yield None
                else:
                    yield found

    def _episode(self, transitions: list[SerlTransition], number: int, report: Report) -> Iterator[Episode]:
        n, last = len(transitions), transitions[-1]
        reward = np.array([each.reward for each in transitions], np.float32)
        won = bool(reward[-1] > 0)
        terminated = last.done and won
        episode = Episode(
            observation={
                name: np.stack([*(each.observation[name] for each in transitions), last.following[name]])
                for name in self._spec.transitions.observation
            },
            action=np.stack([each.action for each in transitions]),
            reward=reward,
            intervention=np.array([each.led for each in transitions]),
            policy_version=np.zeros(n, np.uint64),
            stamp=nominal_stamps(n + 1, self._spec.rate),
            stamped=False,
            terminated=terminated,
            truncated=not terminated,
            success=won if last.succeeded is None else last.succeeded,
            demonstration=True,
            actor=UNKNOWN_ACTOR,
            number=number,
        )
        try:
            episode.check(self._spec)
        except DataError as error:
            report(RecordingError(f"{self._path}: episode {number} was left out: {error}"))
        else:
            yield episode


def pickles_in(folder: Path) -> list[Path]:
    """Files of a folder, in the order of the numbers at the ends of their names."""

    def key(path: Path) -> tuple[int, str]:
        number = _NUMBER.search(path.name)
        return (int(number[1]) if number else 0, path.name)

    return sorted(folder.glob("*.pkl"), key=key)
