# SPDX-License-Identifier: Apache-2.0
"""Episodes of the chunks that actors send, and chunks of episodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from serl_rl.spec import DataError
from serl_rl.storage.chunk import Chunk

from serl_recording.episode import MAX_EPISODE_BYTES, MAX_STEPS, Episode, RecordingSpec, nominal_stamps


@dataclass(frozen=True)
class Piece:
    """A chunk, the sender that its number of the episode belongs to, and the stamps of its observations if known.

    stamp: (n + 1,) int64 [ns], or None
    """

    chunk: Chunk
    sender: str
    stamp: NDArray[np.int64] | None = None


@dataclass
class _Open:
    pieces: list[Piece] = field(default_factory=list)
    steps: int = 0
    nbytes: int = 0


class Joiner:
    """Joins the pieces of episodes. Those of several senders may come mixed, those of one sender in order.

    incomplete: episodes that were left out so far, because pieces of them are missing.
    """

    def __init__(self, spec: RecordingSpec) -> None:
        self._spec = spec
        self._open: dict[str, _Open] = {}
        self.incomplete = 0

    def join(self, pieces: Iterable[Piece]) -> Iterator[Episode]:
        """Every episode that is complete, in the order in which they end."""
        for piece in pieces:
            chunk = piece.chunk
            episode = self._open.get(piece.sender)
            if episode is not None and not _follows(episode.pieces[-1].chunk, chunk):
                self._drop(piece.sender)
                episode = None
            if episode is None:
                if chunk.first_step != 0:  # its beginning is missing: counted where the last piece of it comes
                    self.incomplete += chunk.last
                    continue
                episode = self._open[piece.sender] = _Open()
            episode.pieces.append(piece)
            episode.steps += len(chunk)
            episode.nbytes += sum(rows.nbytes for rows in chunk.observation.values())
            if episode.steps > MAX_STEPS or episode.nbytes > MAX_EPISODE_BYTES:
                self._drop(piece.sender)
            elif chunk.last:
                del self._open[piece.sender]
                yield self._joined(episode.pieces)
        self.incomplete += len(self._open)
        self._open.clear()

    def _drop(self, sender: str) -> None:
        del self._open[sender]
        self.incomplete += 1

    def _joined(self, pieces: list[Piece]) -> Episode:
        chunks = [piece.chunk for piece in pieces]
        last = chunks[-1]
        stamps = [piece.stamp for piece in pieces if piece.stamp is not None]
        steps = sum(map(len, chunks))
        stamped = len(stamps) == len(pieces)

        def column(name: str) -> NDArray[Any]:
            return np.concatenate([getattr(chunk, name) for chunk in chunks])

        return Episode(
            observation={name: _rows(chunks, name) for name in self._spec.transitions.observation},
            action=column("action"),
            reward=column("reward"),
            intervention=column("intervention"),
            policy_version=column("policy_version"),
            stamp=np.concatenate([*(rows[:-1] for rows in stamps), stamps[-1][-1:]])
            if stamped
            else nominal_stamps(steps + 1, self._spec.rate),
            stamped=stamped,
            terminated=bool(last.mask[-1] == 0.0),
            truncated=bool(last.truncated[-1]),
            success=last.success,
            demonstration=last.demonstration,
            actor=last.actor_id,
            number=last.episode,
        )


def chunk_of(episode: Episode, spec: RecordingSpec) -> Chunk:
    """One chunk that is the whole episode.

    Raises:
        DataError: learning could not use it: actions outside of [-1, 1], no end, absurd numbers.
    """
    if not episode.terminated and not episode.truncated:
        raise DataError("episode", "one that was terminated or truncated", "one without an end")
    n = len(episode)
    mask, truncated = np.ones(n, np.float32), np.zeros(n, np.bool_)
    mask[-1], truncated[-1] = not episode.terminated, episode.truncated
    chunk = Chunk(
        observation=episode.observation,
        action=episode.action,
        reward=episode.reward,
        mask=mask,
        truncated=truncated,
        intervention=episode.intervention,
        policy_version=episode.policy_version,
        actor_id=episode.actor,
        episode=episode.number,
        first_step=0,
        demonstration=episode.demonstration,
        last=True,
        success=episode.success,
        encoder=spec.transitions.encoder,
        frame_stack=1,
        meaning=spec.transitions.meaning_hash,
    )
    chunk.check(spec.transitions)
    return chunk


def _follows(before: Chunk, after: Chunk) -> bool:
    same = (before.actor_id, before.episode) == (after.actor_id, after.episode)
    return same and before.first_step + len(before) == after.first_step


def _rows(chunks: list[Chunk], name: str) -> NDArray[Any]:
    """The entry at each moment; the last one of a chunk is the first one of the next."""
    parts = []
    for chunk in chunks:
        rows = chunk.observation[name]
        history = len(rows) - len(chunk) - 1  # frames in front of the first one, of entries that are stacked
        parts.append(rows[history:-1])
    return np.concatenate([*parts, chunks[-1].observation[name][-1:]])
