# SPDX-License-Identifier: Apache-2.0
"""Takes chunks from any number of actors: each transition once, in order, journaled before it is acknowledged.

So it does with tombstones, which take back what was stored of an episode: `serl_rl.storage.tombstone`.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, replace

import numpy as np

from serl_rl.replay.buffer import ReplayBuffer
from serl_rl.spec import ImplausibleError, Plausible
from serl_rl.storage.chunk import Chunk, DataError, TransitionSpec, decode_chunk
from serl_rl.storage.journal import Journal, JournalError, JournalLost, Position, Record
from serl_rl.storage.tombstone import Cuts, Tombstone, decode_tombstone, is_tombstone

MAX_EPISODE = 2**40
"""Numbers of episodes from here on are for those that are not stored."""

_ANYTHING = Plausible(vector=float("inf"), reward=float("inf"))

_log = logging.getLogger(__name__)


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
    """What is stored in a run, over all actors and sessions.

    What was discarded was done and counts, too; but a demonstration without its end is none, and missing again.
    """

    env_steps: int = 0
    interventions: int = 0
    demonstrations: int = 0
    demonstration_steps: int = 0
    episodes: int = 0
    largest_episode: int = 0
    discarded: int = 0
    """Transitions that were in the buffers when they were discarded."""


@dataclass(frozen=True)
class Mark:
    """How a checkpoint found the journal when it was saved.

    journal: its id, empty where it is unknown
    position: of its end
    env_steps: stored in it
    """

    journal: str
    position: Position
    env_steps: int


class Ingest:
    """The only way into the buffers of a learner.

    Own experience goes to `online`, demonstrations to `demonstrations`, transitions in which a person intervened to
    both (Luo et al., HIL-SERL, arXiv 2410.21845). The last transition of a demonstration that succeeded goes to
    `goals`, too, where there is such a buffer. Safe to call from several threads.

    Attributes:
        changed: notified when something was stored, asked for or lost; guards what is stored.
        asked: an actor has only asked, when there were demonstrations: it has no more of them and waits for a policy.
        lost: why nothing can be stored ever again, None while it can.
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
        self.changed = threading.Condition()
        self.asked = False
        self.lost: JournalLost | None = None
        self._next: dict[tuple[str, str], int] = {}
        self._shown: dict[tuple[str, int], list[int]] = {}  # last steps of the demonstrations, by actor and episode

    def restore(self, mark: Mark | None = None) -> int:
        """Fill the buffers from the journal; returns the number of transitions.

        What an older version let in although it is not plausible stays in the journal and is left out of the buffers.

        Args:
            mark: what the journal must hold, at least.

        Raises:
            JournalError: it is damaged, or is not, or no longer, the one that `mark` was made of.
        """
        restored = 0
        passed, then = Position(0, 0), self.totals
        with self.changed:
            for position, record in self.journal.replay():
                restored += self._restore(record)
                if mark is not None and position <= mark.position:
                    passed, then = position, self.totals
        if mark is not None:
            self._compare(mark, passed, then.env_steps)
        return restored

    def _restore(self, record: Record) -> int:
        try:
            return self._store(record, self._decode(record.data))
        except ImplausibleError as error:
            _log.warning("%s: left out of training: %s", self.journal.path, error)
        except DataError as error:
            raise JournalError(f"{self.journal.path}: holds a chunk that cannot be read: {error}") from error
        return self._store(record, decode_chunk(record.data, replace(self.spec, plausible=_ANYTHING)), learn=False)

    def _compare(self, mark: Mark, position: Position, env_steps: int) -> None:
        """Raise JournalError unless the journal had this much at the place of a mark."""
        expected: dict[str, object] = {"position": tuple(mark.position)}
        found: dict[str, object] = {"position": tuple(position)}
        if self.journal.begins_at(mark.position):
            del expected["position"]
        if mark.journal:
            expected |= {"env_steps": mark.env_steps, "journal": mark.journal}
            found |= {"env_steps": env_steps, "journal": self.journal.id}
        wrong = [
            f"{name}: expected {expected[name]}, found {found[name]}"
            for name in expected
            if expected[name] != found[name]
        ]
        if wrong:
            raise JournalError(
                f"{self.journal.path}: is not, or not all of, the journal that the newest checkpoint was trained on: "
                f"{'; '.join(wrong)}; restore it, or move the checkpoints away to train anew on what there is"
            )

    def insert(
        self, actor_id: str, session_id: str, first_sequence: int, count: int, data: bytes | memoryview
    ) -> InsertResult:
        """Store a chunk whose transition 0 is number `first_sequence` of the session.

        Repetitions are acknowledged and ignored, also when they overlap only in part. A gap is refused, with the number
        from which to send again. `count` 0 only asks.

        Raises:
            DataError: the chunk does not fit; nothing was stored.
            JournalError: it could not be journaled; nothing was stored, and sending it again later may succeed, unless
                it is a JournalLost.
        """
        with self.changed:
            expected = self._next.get((actor_id, session_id), 0)
            if count == 0:
                if len(self.demonstrations):
                    self.asked = True
                    self.changed.notify_all()
                return InsertResult(expected, 0)
            if first_sequence > expected:
                gap = f"first_sequence: expected at most {expected}, found {first_sequence}; send again from {expected}"
                return InsertResult(expected, 0, gap)
            entry = self._decode(data)
            if (found := _length(entry)) != count:
                raise DataError("count", f"{found}, the transitions in data", str(count))
            if entry.episode >= MAX_EPISODE:  # the next one gets a number, too
                raise DataError("episode", f"a number below {MAX_EPISODE}", str(entry.episode))
            if isinstance(entry, Tombstone) and entry.actor_id != actor_id:
                raise DataError("tombstone.actor_id", f"{actor_id!r}, who sends it", f"{entry.actor_id!r}")
            if first_sequence + count <= expected:
                return InsertResult(expected, 0)
            if isinstance(entry, Chunk) and not entry.demonstration:
                self.online.expect_room(len(entry))
            record = Record(actor_id, session_id, first_sequence, count, data)
            try:
                self.journal.append(record)
                stored = self._store(record, entry)
            except JournalLost as error:
                self.lost = error
                self.changed.notify_all()
                raise
            self.changed.notify_all()
            return InsertResult(expected + stored, stored)

    @property
    def position(self) -> Position:
        """The place in the journal up to which the buffers hold it."""
        with self.changed:
            return self.journal.position

    def state(self) -> tuple[Position, Totals]:
        """Place in the journal and what is stored, at the same moment."""
        with self.changed:
            return self.journal.position, self.totals

    def find(self, name: str, magnitude: float) -> str:
        """Where a number of an entry of the observation, or a column, came from, in words; empty if nowhere."""
        with self.changed:
            cuts = Cuts(record.data for _, record in self.journal.replay())
            for number, (_, record) in enumerate(self.journal.replay()):
                if is_tombstone(record.data):
                    continue
                chunk = cuts.left_of(number, decode_chunk(record.data, replace(self.spec, plausible=_ANYTHING)))
                if chunk is None:
                    continue
                rows = chunk.observation.get(name, getattr(chunk, name, None))
                if isinstance(rows, np.ndarray) and len(found := np.argwhere(np.abs(rows) == magnitude)):
                    return f"from {chunk.actor_id}, episode {chunk.episode}, step {chunk.first_step + int(found[0][0])}"
        return ""

    def _decode(self, data: bytes | memoryview) -> Chunk | Tombstone:
        return decode_tombstone(data) if is_tombstone(data) else decode_chunk(data, self.spec)

    def _store(self, record: Record, entry: Chunk | Tombstone, *, learn: bool = True) -> int:
        key = (record.actor_id, record.session_id)
        expected = self._next.get(key, 0)
        if not record.first_sequence <= expected < record.first_sequence + record.count:
            raise JournalError(f"{self.journal.path}: transition {expected} of {key} is missing; restore a copy")
        self._next[key] = record.first_sequence + record.count
        if isinstance(entry, Tombstone):
            self._discard(entry)
            return record.count
        fresh = entry.skip(expected - record.first_sequence)
        if learn:
            self._add(fresh)
        self._count(fresh)
        return len(fresh)

    def _discard(self, tombstone: Tombstone) -> None:
        where = tombstone.actor_id, tombstone.episode, tombstone.first_step
        found = self.online.discard(*where), self.demonstrations.discard(*where)
        if self.goals is not None:
            self.goals.discard(*where)
        shown = self._shown.pop(tombstone.key, [])
        if kept := [last for last in shown if last < tombstone.first_step]:
            self._shown[tombstone.key] = kept
        self.totals = replace(
            self.totals,
            discarded=self.totals.discarded + max(found),  # interventions are in both
            demonstrations=self.totals.demonstrations - (len(shown) - len(kept)),
        )

    def _add(self, fresh: Chunk) -> None:
        if fresh.demonstration:
            self.demonstrations.insert(fresh)
            if self.goals is not None and fresh.success:
                self.goals.insert(fresh.skip(len(fresh) - 1))
        else:
            self.online.insert(fresh)
            for piece in fresh.select(fresh.intervention):
                self.demonstrations.insert(piece)

    def _count(self, chunk: Chunk) -> None:
        own, shown = (0, len(chunk)) if chunk.demonstration else (len(chunk), 0)
        ended = int(chunk.last)
        if chunk.demonstration and chunk.last:
            self._shown.setdefault((chunk.actor_id, chunk.episode), []).append(chunk.first_step + len(chunk) - 1)
        total = self.totals
        self.totals = replace(
            total,
            env_steps=total.env_steps + own,
            interventions=total.interventions + (0 if chunk.demonstration else int(np.sum(chunk.intervention))),
            demonstrations=total.demonstrations + (ended if chunk.demonstration else 0),
            demonstration_steps=total.demonstration_steps + shown,
            episodes=total.episodes + (0 if chunk.demonstration else ended),
            largest_episode=max(total.largest_episode, chunk.episode),
        )


def _length(entry: Chunk | Tombstone) -> int:
    """Numbers of the session's sequence that it takes."""
    return 1 if isinstance(entry, Tombstone) else len(entry)
