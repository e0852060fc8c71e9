# SPDX-License-Identifier: Apache-2.0
"""The workspace's own demonstration files, `serl_rl.storage.demonstrations`: what training reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serl_rl.spec import DataError, TransitionSpec
from serl_rl.storage.demonstrations import (
    DemonstrationFile,
    PictureStorage,
    demonstration_about,
    demonstration_spec,
    readable_demonstrations,
)
from serl_rl.storage.segment import SegmentError

from serl_recording.chunks import Joiner, Piece, chunk_of
from serl_recording.episode import Episode, RecordingError, RecordingSpec
from serl_recording.format import Reader, Report, Writer, refuse


class DemonstrationReader(Reader):
    """Reads a demonstration file, also one of a recording that was killed (``<name>.part``).

    Args:
        path: of the file.
        rate: control steps per second [Hz], where the file does not say it; None: it has to.

    Raises:
        RecordingError: its header cannot be read, or says no rate and `rate` is None.
    """

    def __init__(self, path: Path, rate: float | None = None) -> None:
        self._path = path
        try:
            spec, about = demonstration_spec(path), demonstration_about(path)
            found = about.get("rate")
            self._spec = RecordingSpec(spec, stored_rate(path, spec, found, rate), str(about.get("task", "")))
        except (SegmentError, DataError) as error:
            raise RecordingError(str(error) if str(path) in str(error) else f"{path}: {error}") from error

    @property
    def spec(self) -> RecordingSpec:
        """What the file's header says."""
        return self._spec

    def episodes(self, report: Report = refuse) -> Iterator[Episode]:
        """Every complete episode of the file."""
        joiner = Joiner(self._spec)
        yield from joiner.join(self._pieces(report))
        if joiner.incomplete:
            report(RecordingError(f"{self._path}: {joiner.incomplete} episodes lack a piece and were left out"))

    def _pieces(self, report: Report) -> Iterator[Piece]:
        for chunk, stamp in readable_demonstrations(self._path, lambda error: report(RecordingError(str(error)))):
            yield Piece(chunk, chunk.actor_id, stamp)


class DemonstrationWriter(Writer):
    """Writes a demonstration file; until it is complete it is ``<name>.part``, which can be read, too.

    Args:
        path: of the file.
        spec: of the episodes.
        pictures: jpeg or raw.

    Raises:
        RecordingError: it cannot be created.
    """

    def __init__(self, path: Path, spec: RecordingSpec, pictures: PictureStorage = "jpeg") -> None:
        about = {"rate": spec.rate, "task": spec.task}
        self._spec = spec
        try:
            self._file = DemonstrationFile(path, spec.transitions, pictures, about)
        except (SegmentError, OSError) as error:
            raise RecordingError(f"{path}: cannot be created: {error}") from error

    def append(self, episode: Episode) -> None:
        """Write an episode as one chunk.

        Raises:
            DataError: learning could not use it.
            RecordingError: it cannot be written.
        """
        episode.check(self._spec)
        try:
            self._file.append(chunk_of(episode, self._spec), episode.stamp if episode.stamped else None)
        except SegmentError as error:
            raise RecordingError(str(error)) from error

    def close(self, finished: bool) -> None:
        """Give the file its name, if it is complete."""
        self._file.close(finished)


def stored_rate(path: Path, spec: TransitionSpec, found: Any, given: float | None) -> float:
    """Control steps per second [Hz]: what was given, what a file says, or what the meaning of its numbers says.

    Raises:
        RecordingError: nobody says it.
    """
    if given is not None:
        return given
    if isinstance(found, int | float):
        return float(found)
    period = spec.meaning.get("control_period")
    if isinstance(period, int | float) and period > 0:
        return 1.0 / period
    raise RecordingError(f"{path}: expected how many control steps a second has, which it does not say: give --rate")
