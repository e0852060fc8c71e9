# SPDX-License-Identifier: Apache-2.0
"""What can still be read of a damaged run becomes a new one."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from serl_launch.runs import Run
from serl_rl.checkpoint import CheckpointError
from serl_rl.storage.journal import Journal, Position, Unread, journal_spec, salvage, unread

from serl_rl import checkpoint


@dataclass(frozen=True)
class Repaired:
    """What was saved."""

    transitions: int
    behind: int
    """How many of the transitions lay behind the first damage."""
    step: int | None
    """Step of the newest checkpoint that fits; None: training begins anew, on all transitions."""
    left_out: tuple[int, ...]
    """Steps of newer checkpoints: damaged, or trained on what is damaged or no longer there."""
    unread: tuple[Unread, ...]
    """What could not be read of the journal."""


def repair(run: Run, target: Run) -> Repaired:
    """Write every transition of a run that can be read, and the newest checkpoint that fits, into a new run.

    Args:
        run: stays as it is.
        target: an empty one; it is removed again where an error ends this.

    Raises:
        JournalError: nothing of the journal can be read, or the new one cannot be written.
    """
    try:
        return _repair(run, target)
    except BaseException:
        shutil.rmtree(target.path)  # half of it would pass for a run, and take the name from the next try
        raise


def _repair(run: Run, target: Run) -> Repaired:
    spec = journal_spec(run.journal)
    for file in (run.config_file, run.learning_file, run.classifier_file):
        if file.is_file():
            shutil.copyfile(file, target.path / file.name)
    places: dict[Position, Position] = {}
    transitions = behind = 0
    with Journal(target.journal, spec, sync_interval=None) as journal:
        for position, record, unbroken in salvage(run.journal):
            place = journal.append(record)
            transitions += record.count
            if unbroken:
                places[position] = place
            else:
                behind += record.count
        step = _copy_checkpoint(run, target, journal.id, places)
    newer = tuple(each for each in map(_step, checkpoint.listing(run.checkpoints)) if step is None or each > step)
    return Repaired(transitions, behind, step, newer, tuple(unread(run.journal)))


def _copy_checkpoint(run: Run, target: Run, journal: str, places: dict[Position, Position]) -> int | None:
    """Copy the newest checkpoint that was trained on nothing but what was found; returns its step."""
    for path in reversed(checkpoint.listing(run.checkpoints)):
        try:
            checkpoint.verify(path)
            position = checkpoint.read_position(path)
            if position in places:
                checkpoint.copy_elsewhere(path, target.checkpoints, journal, places[position])
                return _step(path)
        except CheckpointError:
            continue  # damaged, too: the one before it
    return None


def _step(checkpoint_file: Path) -> int:
    return int(checkpoint_file.name.rpartition("_")[2])
