# SPDX-License-Identifier: Apache-2.0
"""Episodes of one recording into another one, whatever their formats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from serl_rl.spec import DataError

from serl_recording.episode import Episode, RecordingError
from serl_recording.registry import (
    SAYS_ALL,
    USUAL,
    ReadSettings,
    WriteSettings,
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
    """Convert a recording.

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
    with create_recording(target, name, spec, writing) as writer:
        for episode in reader.episodes(lambda error: done.damaged.append(str(error))):
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
