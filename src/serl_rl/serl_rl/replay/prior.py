# SPDX-License-Identifier: Apache-2.0
"""Prior data: what earlier runs of the same task have stored, drawn beside demonstrations (Ball et al., RLPD).

The journals are read and never written to. Which of them a run has mounted, and up to where, stands in its
`prior.json`, so that a run that goes on gets the same transitions, whatever was added to the others meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from serl_config.atomic_files import write_whole
from serl_config.files import FileError, read_text
from serl_config.strict_json import parse_json
from serl_config.text import printable

from serl_rl.capacity import PIECE
from serl_rl.replay.buffer import ReplayBuffer
from serl_rl.spec import DataError, ImplausibleError, TransitionSpec
from serl_rl.storage.chunk import Chunk, decode_chunk
from serl_rl.storage.journal import JournalError, Position, journal_id, journal_spec, read_journal
from serl_rl.storage.tombstone import Tombstone, decode_tombstone, is_tombstone

FILE = "prior.json"
_JOURNAL = "journal"

_log = logging.getLogger(__name__)


class PriorError(Exception):
    """A run that cannot be mounted as prior data: one line."""


@dataclass(frozen=True)
class PriorRun:
    """A run whose transitions are drawn beside demonstrations.

    path: of its folder, absolute
    weight: how often it is drawn from, where demonstrations have 1
    """

    path: Path
    weight: float = 1.0

    def __str__(self) -> str:
        return f"{self.path}:{self.weight:g}"

    @property
    def name(self) -> str:
        """A name for files that come from this folder and no other."""
        return f"prior-{hashlib.sha256(str(self.path).encode()).hexdigest()[:12]}"


class Extent(NamedTuple):
    """What is mounted of a run.

    journal: id of its journal, empty where it has none
    end: place behind the last record
    transitions: up to there
    pieces: of episodes that they are
    left_out: transitions that are not plausible and not drawn
    """

    journal: str
    end: Position
    transitions: int
    pieces: int
    left_out: int


class Prior(NamedTuple):
    """A mounted run: its buffer (rows are transitions) and its weight, where demonstrations have 1."""

    buffer: ReplayBuffer
    weight: float


def split_prior(text: str) -> tuple[str, float]:
    """Name and weight of RUN[:WEIGHT]; the weight is 1 where none is said.

    Raises:
        PriorError: there is no name, or the weight is not a finite number above 0.
    """
    name, separator, said = text.rpartition(":")
    if not separator or "/" in said or Path(text).is_dir():
        name, said = text, "1"
    if not name.strip():
        raise PriorError(f"--prior {printable(text, 80)!r}: expected RUN or RUN:WEIGHT, found no run")
    if "," in name:
        raise PriorError(f"--prior {printable(text, 80)!r}: expected a folder without a comma in its path; rename it")
    try:
        weight = float(said)
    except ValueError:
        weight = math.nan
    if not 0.0 < weight < math.inf:
        raise PriorError(
            f"--prior {printable(text, 80)}: expected a weight above 0, where demonstrations have 1, found "
            f"{printable(said, 40)!r}"
        )
    return name, weight


def read_priors(texts: Iterable[str], own: Path) -> tuple[PriorRun, ...]:
    """The runs of RUN[:WEIGHT], which are paths of folders.

    Args:
        texts: one for each run.
        own: folder of the run that mounts them.

    Raises:
        PriorError: a text is wrong, there is no such folder, a run is named twice, or it is the mounting run itself.
    """
    priors: list[PriorRun] = []
    for text in texts:
        name, weight = split_prior(text)
        path = Path(name).resolve()
        if not path.is_dir():
            found = "a file" if path.exists() else "nothing"
            raise PriorError(f"--prior {printable(name)}: expected the folder of a run, found {found}")
        if path == own.resolve():
            raise PriorError(f"--prior {printable(name)}: is the run itself, whose data are drawn anyway; leave it out")
        if path in [prior.path for prior in priors]:
            raise PriorError(f"--prior {printable(name)}: is named twice; name it once, with a larger weight")
        priors.append(PriorRun(path, weight))
    return tuple(priors)


def check_priors(priors: Sequence[PriorRun], spec: TransitionSpec, run_dir: Path) -> list[Extent]:
    """Read all of the runs, and compare them with what the mounting run has noted of them, if it has.

    Args:
        priors: the runs.
        spec: of the transitions that are wanted.
        run_dir: folder of the mounting run, which need not exist.

    Returns:
        What is to be mounted of each: what was noted, or all that there is now.

    Raises:
        PriorError: a run cannot be read, is of another specification, has nothing to draw, is another or shorter one
            than was noted, or two of them are copies of each other.
    """
    noted = _read_notes(run_dir)
    extents: list[Extent] = []
    for prior in priors:
        before, _ = noted.get(str(prior.path), (None, 1.0))
        extent = _examine(prior.path, spec, before.end if before else None)
        if before is not None and (before.journal, before.end) != (extent.journal, extent.end):
            raise PriorError(
                f"--prior {prior.path}: has changed since this run mounted it: expected journal {before.journal} with "
                f"{before.transitions} transitions up to {tuple(before.end)}, found journal {extent.journal} with "
                f"{extent.transitions} up to {tuple(extent.end)}; restore it, or begin a new run"
            )
        if extent.journal and extent.journal in [other.journal for other in extents]:
            raise PriorError(f"--prior {prior.path}: is a copy of another one; name one of them, with a larger weight")
        extents.append(extent)
    return extents


def mount_priors(
    priors: Sequence[PriorRun],
    spec: TransitionSpec,
    run_dir: Path,
    make_buffer: Callable[[int, str, Callable[[ReplayBuffer], None]], ReplayBuffer],
    *,
    shown_only: bool = False,
) -> list[Prior]:
    """Buffers with the transitions of other runs; notes in `prior.json` of `run_dir` what is in them.

    Args:
        priors: the runs.
        spec: of the transitions.
        run_dir: folder of the mounting run.
        make_buffer: makes one for a number of transitions, a name among the runs, and what puts them into a buffer, at
            any time again.
        shown_only: only what a person did in them: demonstrations and interventions.

    Raises:
        PriorError: as `check_priors` says, or they do not fit into the memory, or the note cannot be written.
    """
    mounted = []
    extents = check_priors(priors, spec, run_dir)
    for prior, extent in zip(priors, extents, strict=True):
        rows = extent.transitions + (PIECE * extent.pieces if spec.frame_names else 0)
        fill = partial(_fill, prior.path, spec, extent.end, shown_only)
        try:
            buffer = make_buffer(rows, prior.name, fill)
            fill(buffer)
        except (ValueError, JournalError) as error:
            raise PriorError(f"--prior {prior.path}: {extent.transitions} transitions: {error}") from error
        said = f", {extent.left_out} left out that are not plausible" if extent.left_out else ""
        _log.info("prior data of %s: %d transitions, weight %g%s", prior.path, len(buffer), prior.weight, said)
        mounted.append(Prior(buffer, prior.weight))
    if priors:
        _write_notes(run_dir, priors, extents)
    return mounted


def _fill(path: Path, spec: TransitionSpec, end: Position, shown_only: bool, buffer: ReplayBuffer) -> None:
    for _, entry in _entries(path, spec, end):
        if isinstance(entry, Tombstone):
            buffer.discard(entry.actor_id, entry.episode, entry.first_step)
        elif isinstance(entry, Chunk):
            pieces = entry.select(entry.intervention) if shown_only and not entry.demonstration else [entry]
            for piece in pieces:
                buffer.insert(piece)


class _LeftOut(NamedTuple):
    """Transitions that nothing should be learned from."""

    transitions: int


def _examine(path: Path, spec: TransitionSpec, end: Position | None) -> Extent:
    """What is in the journal of a run up to `end`, or all of it; every byte of that is read and checked."""
    journal = path / _JOURNAL
    if not journal.is_dir():
        raise PriorError(f"--prior {path}: expected the folder of a run, with {_JOURNAL}/ in it, found none there")
    try:
        found = journal_spec(journal)
        identifier = journal_id(journal)
    except JournalError as error:
        raise PriorError(f"--prior {path}: {error}") from error
    if not spec.agrees(found):
        raise PriorError(f"--prior {path}: was made for another task or with other settings: {spec.difference(found)}")
    reached, transitions, pieces, left_out, kept = Position(0, 0), 0, 0, 0, 0
    following: dict[tuple[str, bool], tuple[int, int]] = {}
    for position, entry in _entries(path, spec, end):
        reached = position
        if isinstance(entry, _LeftOut):
            left_out += entry.transitions
        elif isinstance(entry, Chunk):
            actor = (entry.actor_id, entry.demonstration)
            pieces += following.get(actor) != (entry.episode, entry.first_step)
            following[actor] = (entry.episode, entry.first_step + len(entry))
            transitions += len(entry)
            kept += len(entry)
    if not kept:
        raise PriorError(f"--prior {path}: expected transitions to draw, found none in its journal")
    return Extent(identifier, reached, transitions, pieces, left_out)


def _entries(
    path: Path, spec: TransitionSpec, end: Position | None
) -> Iterator[tuple[Position, Chunk | Tombstone | _LeftOut]]:
    """What the journal of a run holds up to `end`, each transition once, with the place behind it."""
    following: dict[tuple[str, str], int] = {}
    try:
        for position, record in read_journal(path / _JOURNAL, spec):
            if end is not None and position > end:
                return
            key = (record.actor_id, record.session_id)
            expected = following.get(key, 0)
            if not record.first_sequence <= expected < record.first_sequence + record.count:
                raise PriorError(f"--prior {path}: transition {expected} of {key} is missing; restore a copy")
            following[key] = record.first_sequence + record.count
            if is_tombstone(record.data):
                yield position, decode_tombstone(record.data)
                continue
            try:
                chunk = decode_chunk(record.data, spec)
            except ImplausibleError as error:
                _log.warning("prior data of %s: left out: %s", path, error)
                yield position, _LeftOut(record.count)
                continue
            yield position, chunk.skip(expected - record.first_sequence)
    except (JournalError, DataError, OSError) as error:
        raise PriorError(f"--prior {path}: {error}") from error


def _write_notes(run_dir: Path, priors: Sequence[PriorRun], extents: Sequence[Extent]) -> None:
    notes = [
        {
            "run": str(prior.path),
            "weight": prior.weight,
            "journal": extent.journal,
            "end": list(extent.end),
            "transitions": extent.transitions,
        }
        for prior, extent in zip(priors, extents, strict=True)
    ]
    try:
        write_whole(run_dir / FILE, (json.dumps({"prior": notes}, indent=2) + "\n").encode())
    except OSError as error:
        raise PriorError(f"{run_dir / FILE}: cannot be written: {error}") from error


def describe_priors(run_dir: Path) -> list[str]:
    """What a run has mounted, in words, one for each run: "FOLDER: 1200 transitions, weight 0.5". None: an empty list.

    Raises:
        PriorError: what it has noted cannot be read.
    """
    return [
        printable(f"{path}: {extent.transitions} transitions, weight {weight:g}")
        for path, (extent, weight) in _read_notes(run_dir).items()
    ]


def _read_notes(run_dir: Path) -> dict[str, tuple[Extent, float]]:
    """What a run has mounted, and how often it draws from it, by the folder; nothing where it has mounted none."""
    path = run_dir / FILE
    if not path.exists():
        return {}
    try:
        notes: list[dict[str, Any]] = parse_json(read_text(path))["prior"]
        extents = {}
        for note in notes:
            segment, offset = note["end"]
            end = Position(int(segment), int(offset))
            extent = Extent(str(note["journal"]), end, int(note["transitions"]), 0, 0)
            extents[str(note["run"])] = extent, float(note["weight"])
    except FileError as error:
        raise PriorError(str(error)) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise PriorError(f"{path}: expected what a learner has noted of prior data, found something else") from error
    return extents
