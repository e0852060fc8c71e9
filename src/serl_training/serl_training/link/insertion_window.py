# SPDX-License-Identifier: Apache-2.0
"""What the actor still owes the learner: chunks that are not acknowledged yet, in order.

The learner takes only the next expected transition of a session and answers with the one after it, so sending twice
does no harm and a restarted learner says itself where to go on.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


class InsertionError(RuntimeError):
    """The learner refused data, or remembers less of this session than it has acknowledged."""


@dataclass(frozen=True)
class PendingChunk:
    """An encoded chunk and its place in the session."""

    first_sequence: int
    count: int
    data: bytes


class InsertionWindow:
    """Unacknowledged chunks of one session, and which of them are on their way."""

    def __init__(self, in_flight: int = 4, begin: int = 0) -> None:
        """Allow `in_flight` chunks on their way at once, of a session of which `begin` transitions were sent before."""
        self._limit = in_flight
        self._pending: deque[PendingChunk] = deque()
        self._sent = 0
        self._begin = self._next_sequence = begin
        self._acknowledged = begin

    @property
    def backlog(self) -> int:
        """Transitions that are not acknowledged."""
        return max(0, self._next_sequence - self._acknowledged)

    @property
    def next_sequence(self) -> int:
        """Number of transitions added so far."""
        return self._next_sequence

    def add(self, count: int, data: bytes) -> None:
        """Append a chunk of `count` transitions."""
        chunk = PendingChunk(self._next_sequence, count, data)
        self._next_sequence += count
        if self._next_sequence > self._acknowledged:
            self._pending.append(chunk)

    def to_send(self) -> list[PendingChunk]:
        """Chunks to send now; they count as on their way until acknowledged or `resend`."""
        chunks = [self._pending[index] for index in range(self._sent, min(self._limit, len(self._pending)))]
        self._sent += len(chunks)
        return chunks

    def acknowledge(self, next_expected: int) -> None:
        """Drop what the learner has stored.

        Raises:
            InsertionError: the learner expects transitions that were dropped after it had acknowledged them.
        """
        if next_expected < self._acknowledged:
            raise InsertionError(
                f"the learner expects transition {next_expected} of this session but has acknowledged "
                f"{self._acknowledged}; was its run directory replaced?"
            )
        if next_expected > self._next_sequence and not self._begin:  # else they were sent before
            raise InsertionError(
                f"the learner expects transition {next_expected} of this session, which has only {self._next_sequence}"
            )
        self._acknowledged = next_expected
        while self._pending and self._pending[0].first_sequence + self._pending[0].count <= next_expected:
            self._pending.popleft()
            self._sent = max(0, self._sent - 1)

    def resend(self) -> None:
        """Forget what is on its way: it was lost, or the learner was restarted."""
        self._sent = 0
