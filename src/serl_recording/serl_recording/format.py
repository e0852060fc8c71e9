# SPDX-License-Identifier: Apache-2.0
"""What a reader and a writer of recordings are, whatever their format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from serl_recording.episode import Episode, RecordingError, RecordingSpec

Report = Callable[[RecordingError], None]
"""Told of each damaged piece, which is left out. May raise what it is told, which ends the reading."""


def refuse(error: RecordingError) -> None:
    """A `Report` that ends the reading at the first damage."""
    raise error


class Reader(ABC):
    """Reads the episodes of one recording, one at a time."""

    @property
    @abstractmethod
    def spec(self) -> RecordingSpec:
        """What its episodes have in common."""

    @abstractmethod
    def episodes(self, report: Report = refuse) -> Iterator[Episode]:
        """Every complete episode, oldest first.

        Args:
            report: is told of what is damaged; everything complete is yielded, whatever lies between.

        Raises:
            RecordingError: there is damage, and `report` raises.
        """


class Writer(ABC):
    """Writes episodes as they come. What was appended outlives this process, killed at any moment.

    Used as a context. An exception within leaves what was appended; leaving without one finishes the recording.
    """

    @abstractmethod
    def append(self, episode: Episode) -> None:
        """Write one episode.

        Raises:
            DataError: it is not of the specification.
            RecordingError: it cannot be written, or the format cannot hold it; what was appended before is still there.
        """

    @abstractmethod
    def close(self, finished: bool) -> None:
        """Close what is open; `finished`: the recording is complete."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close(finished=kind is None)
