# SPDX-License-Identifier: Apache-2.0
"""Takes chunks from any number of actors: each transition once, in order, journaled before it is acknowledged."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from serl_rl.data import Chunk, DataError, TransitionSpec, decode_chunk
from serl_rl.journal import Journal, JournalError, Position, Record
from serl_rl.replay import ReplayBuffer


@dataclass(frozen=True)
class InsertResult:
    """The answer to an actor.

    next_expected: first transition of this session that is not stored yet
    stored: transitions that this call added, 0 for a repetition
    message: why nothing could be added although there was something to add; empty otherwise
    """

    next_expected: int
    stored: int
    message: str = ""


@dataclass(frozen=True)
class Totals:
    """What is stored in a run, over all actors and sessions."""

    env_steps: int = 0
    interventions: int = 0
    demonstrations: int = 0
    demonstration_steps: int = 0
    episodes: int = 0
    largest_episode: int = 0


class Ingest:
    """The only way into the buffers of a learner.

    Own experience goes to `online`, demonstrations to `demonstrations`, transitions in which a person intervened to
    both (Luo et al., HIL-SERL, arXiv 2410.21845). The last transition of a demonstration that succeeded goes to
    `goals`, too, where there is such a buffer. Safe to call from several threads.
    """

    def __init__(
        self,
        spec: TransitionSpec,
        journal: Journal,
        online: ReplayBuffer,
        demonstrations: ReplayBuffer,
        goals: ReplayBuffer | None = None,
    ) -> None:
        self.spec = spec
        self.journal = journal
        self.online = online
        self.demonstrations = demonstrations
        self.goals = goals
        self.totals = Totals()
        self._next: dict[tuple[str, str], int] = {}
        self._mutex = threading.Lock()

    def restore(self) -> int:
        """Fill the buffers from the journal; returns the number of transitions. Raises JournalError at damage."""
        restored = 0
        with self._mutex:
            for _, record in self.journal.replay():
                try:
                    chunk = decode_chunk(record.data, self.spec)
                except DataError as error:
                    raise JournalError(f"{self.journal.path}: holds a chunk that cannot be read: {error}") from error
                restored += self._store(record, chunk)
        return restored

    def insert(
        self, actor_id: str, session_id: str, first_sequence: int, count: int, data: bytes | memoryview
    ) -> InsertResult:
        """Store a chunk whose transition 0 is number `first_sequence` of the session.

        Repetitions are acknowledged and ignored, also when they overlap only in part. A gap is refused, with the number
        from which to send again. `count` 0 only asks.

        Raises:
            DataError: the chunk does not fit; nothing was stored.
            JournalError: it could not be journaled; nothing was stored, and sending it again later may succeed.
        """
        with self._mutex:
            expected = self._next.get((actor_id, session_id), 0)
            if count == 0:
                return InsertResult(expected, 0)
            if first_sequence > expected:
                gap = f"first_sequence: expected at most {expected}, found {first_sequence}; send again from {expected}"
                return InsertResult(expected, 0, gap)
            chunk = decode_chunk(data, self.spec)
            if len(chunk) != count:
                raise DataError("count", f"{len(chunk)}, the transitions in data", str(count))
            if first_sequence + count <= expected:
                return InsertResult(expected, 0)
            record = Record(actor_id, session_id, first_sequence, count, data)
            self.journal.append(record)
            stored = self._store(record, chunk)
            return InsertResult(expected + stored, stored)

    @property
    def position(self) -> Position:
        """The place in the journal up to which the buffers hold it."""
        with self._mutex:
            return self.journal.position

    def _store(self, record: Record, chunk: Chunk) -> int:
        key = (record.actor_id, record.session_id)
        expected = self._next.get(key, 0)
        if not record.first_sequence <= expected < record.first_sequence + record.count:
            raise JournalError(f"{self.journal.path}: transition {expected} of {key} is missing; restore a copy")
        fresh = chunk.skip(expected - record.first_sequence)
        self._next[key] = record.first_sequence + record.count
        if fresh.demonstration:
            self.demonstrations.insert(fresh)
            if self.goals is not None and fresh.success:
                self.goals.insert(fresh.skip(len(fresh) - 1))
        else:
            self.online.insert(fresh)
            for piece in fresh.select(fresh.intervention):
                self.demonstrations.insert(piece)
        self._count(fresh)
        return len(fresh)

    def _count(self, chunk: Chunk) -> None:
        own, shown = (0, len(chunk)) if chunk.demonstration else (len(chunk), 0)
        ended = int(chunk.last)
        total = self.totals
        self.totals = Totals(
            env_steps=total.env_steps + own,
            interventions=total.interventions + (0 if chunk.demonstration else int(np.sum(chunk.intervention))),
            demonstrations=total.demonstrations + (ended if chunk.demonstration else 0),
            demonstration_steps=total.demonstration_steps + shown,
            episodes=total.episodes + (0 if chunk.demonstration else ended),
            largest_episode=max(total.largest_episode, chunk.episode),
        )
