# SPDX-License-Identifier: Apache-2.0
"""Journals of runs, `serl_rl.storage.journal`: everything that a learner has acknowledged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from serl_rl.spec import DataError
from serl_rl.storage.chunk import decode_chunk
from serl_rl.storage.journal import damaged_end, journal_spec, salvage
from serl_rl.storage.segment import SegmentError
from serl_rl.storage.tombstone import Cuts, is_tombstone

from serl_recording.chunks import Joiner, Piece
from serl_recording.episode import Episode, RecordingError, RecordingSpec
from serl_recording.format import Reader, Report, refuse
from serl_recording.formats.demonstration_file import stored_rate


class JournalReader(Reader):
    """Reads the journal of a run, also one that a learner has open.

    Args:
        path: of the run, or of its journal.
        rate: control steps per second [Hz], where the journal does not say it; None: it has to.
        task: name of the task.

    Raises:
        RecordingError: there is none, or it cannot be read.
    """

    def __init__(self, path: Path, rate: float | None = None, task: str = "") -> None:
        self._path = path / "journal" if (path / "journal").is_dir() else path
        try:
            self._stored = journal_spec(self._path)
            self._spec = RecordingSpec(self._stored, stored_rate(path, self._stored, None, rate), task)
        except (SegmentError, DataError, OSError) as error:
            raise RecordingError(f"{path}: {error}") from error

    @property
    def spec(self) -> RecordingSpec:
        """What the first segment says."""
        return self._spec

    def episodes(self, report: Report = refuse) -> Iterator[Episode]:
        """Every complete episode; one that a killed actor has left, and one that runs, are none, and no damage.

        What a person discarded is left out; what they left of an episode is one that was truncated.
        """
        yield from Joiner(self._spec).join(self._pieces(report))

    def _pieces(self, report: Report) -> Iterator[Piece]:
        whole = True
        cuts = Cuts((record.data for _, record, _ in salvage(self._path)), strict=False)
        for number, (position, record, unbroken) in enumerate(salvage(self._path)):
            if whole and not unbroken:
                whole = False
                report(
                    RecordingError(
                        f"{self._path}: something before byte {position.offset} of segment {position.segment} is "
                        "damaged or missing; episodes that lack a piece are left out, and what a person discarded "
                        "there may have come back"
                    )
                )
            if number in cuts.unreadable:
                report(
                    RecordingError(
                        f"{self._path}: a record of segment {position.segment} was left out: "
                        f"{cuts.unreadable[number]}; what a person discarded with it may have come back"
                    )
                )
            if is_tombstone(record.data):
                continue
            try:
                chunk = cuts.left_of(number, decode_chunk(record.data, self._stored))
            except DataError as error:
                report(RecordingError(f"{self._path}: a record of segment {position.segment} was left out: {error}"))
                continue
            if chunk is not None:
                yield Piece(chunk, f"{record.actor_id}/{record.session_id}")
        if whole and (problem := damaged_end(self._path)):
            report(
                RecordingError(
                    f"{self._path}: its end is damaged, episodes that end there are left out, and what a person "
                    f"discarded there may have come back: {problem}"
                )
            )
