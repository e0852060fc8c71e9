# SPDX-License-Identifier: Apache-2.0
"""Episodes of one recording into another one, whatever their formats."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from serl_config.atomic_files import remove_leftovers, sync_directory
from serl_config.text import printable
from serl_rl.spec import DataError

from serl_recording.episode import Episode, RecordingError
from serl_recording.format import Reader
from serl_recording.registry import (
    SAYS_ALL,
    USUAL,
    ReadSettings,
    WriteSettings,
    check_free,
    create_recording,
    format_of,
    open_recording,
    target_format,
)


@dataclass(frozen=True)
class Selection:
    """What of a recording is converted.

    successes: only episodes that succeeded
    demonstrations: only those that were recorded to be learned from
    without: entries of the observation that are left out
    """

    successes: bool = False
    demonstrations: bool = False
    without: frozenset[str] = frozenset()

    def takes(self, episode: Episode) -> bool:
        """Whether an episode is one of them."""
        return (episode.success or not self.successes) and (episode.demonstration or not self.demonstrations)


EVERYTHING: Final = Selection()


@dataclass
class Converted:
    """What came of a conversion.

    source, target: names of the formats
    episodes, steps, successes: that were written
    passed: episodes that were not selected
    damaged: one line for each damaged piece, or episode that the target cannot hold, which was left out
    """

    source: str
    target: str
    episodes: int = 0
    steps: int = 0
    successes: int = 0
    passed: int = 0
    damaged: list[str] = field(default_factory=list)


def convert(
    source: Path,
    target: Path,
    to: str = "",
    *,
    reading: ReadSettings = SAYS_ALL,
    writing: WriteSettings = USUAL,
    selection: Selection = EVERYTHING,
    progress: Callable[[Converted], None] = lambda _: None,
) -> Converted:
    """Convert a recording. `target` appears when it is complete, and not at all where the conversion fails.

    Args:
        source: a recording of any format.
        target: where there is nothing yet.
        to: name of the format to write; empty: by the suffix of `target`.
        reading: what `source` does not say of itself.
        writing: how `target` is written.
        selection: which episodes, and what of them.
        progress: called behind every episode.

    Raises:
        RecordingError: `source` cannot be read or holds no episode that is wanted, or `target` cannot be written.
            Single damaged pieces are left out and told of in `Converted.damaged`.
        DataError: there is no such entry to leave out.
    """
    name = target_format(target, to)
    reader = open_recording(source, reading)
    done = Converted(format_of(source), name)
    spec = reader.spec.without(selection.without)
    with _appearing(target, name) as path, create_recording(path, name, spec, writing) as writer:
        for episode in _readable(reader, done.damaged):
            if not selection.takes(episode):
                done.passed += 1
                continue
            try:
                writer.append(episode.without(selection.without))
            except DataError as error:
                done.damaged.append(f"{source}: episode {episode.number} of {episode.actor} was left out: {error}")
                continue
            done.episodes += 1
            done.steps += len(episode)
            done.successes += episode.success
            progress(done)
        if not done.episodes:
            reason = f"; {done.damaged[0]}" if done.damaged else ""
            raise RecordingError(
                f"{source}: expected episodes to convert, found none ({done.passed} not selected, "
                f"{len(done.damaged)} damaged{reason})"
            )
    return done


def _readable(reader: Reader, damaged: list[str]) -> Iterator[Episode]:
    """Every episode that can be read, also before one that nobody can read on from."""
    try:
        yield from reader.episodes(lambda error: damaged.append(str(error)))
    except (RecordingError, OSError) as error:
        damaged.append(f"the rest was left out: {error}")


@contextmanager
def _appearing(target: Path, name: str) -> Iterator[Path]:
    """Where to write what becomes `target` at the end of the context; gone where that ends with an exception.

    It is written under its own name in a hidden folder, beside `target`, or within it where that is an empty folder,
    which may be a disk of its own. What a killed conversion left there is removed by the next one.
    """
    prefix = f".{target.absolute().name}."
    beside = target if target.is_dir() else target.absolute().parent
    try:
        remove_leftovers(beside, prefix)
        check_free(target, name)
        hidden = beside / f"{prefix}{os.getpid()}.tmp"
        hidden.mkdir()
    except OSError as error:
        raise RecordingError(f"{target}: cannot be written: {error.strerror or error}") from error
    path = hidden / target.absolute().name
    try:
        yield path
        if beside == target:
            for each in path.iterdir():
                each.rename(target / each.name)
        else:
            check_free(target, name)
            path.rename(target)
        sync_directory(beside)
    except OSError as error:
        raise RecordingError(f"{target}: cannot be written: {error.strerror or error}") from error
    except RecordingError as error:  # names a place that will be gone
        raise RecordingError(str(error).replace(printable(path), printable(target))) from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
