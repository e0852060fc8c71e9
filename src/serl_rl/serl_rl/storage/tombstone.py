# SPDX-License-Identifier: Apache-2.0
"""What a person does not want to be learned from, said in the journal behind what was stored of it already.

Nothing is ever taken out of a journal. A tombstone says that an episode ended before one of its steps, by truncation:
what was stored of it from that step on is void, and what is before keeps its bootstrap. In the sequence of its session
it takes the place of a chunk of one transition, so that it arrives once and in order, as chunks do.

The bytes: magic, then a msgpack map of the fields.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import msgpack

from serl_rl.spec import MAX_NAME_LENGTH, DataError
from serl_rl.storage.chunk import Chunk

_MAGIC = b"SERLTMB1"
_LARGEST = 2**10  # bytes


@dataclass(frozen=True)
class Tombstone:
    """What was stored of an episode from a step on is void."""

    actor_id: str
    """Actor of the episode, as its chunks name it."""
    episode: int
    first_step: int
    """The first one that is void; 0: all of the episode."""

    @property
    def key(self) -> tuple[str, int]:
        """Whose episode it is."""
        return self.actor_id, self.episode


def is_tombstone(data: bytes | bytearray | memoryview) -> bool:
    """Whether bytes are a tombstone, and no chunk."""
    return bytes(memoryview(data)[: len(_MAGIC)]) == _MAGIC


def encode_tombstone(tombstone: Tombstone) -> bytes:
    """Turn a tombstone into bytes. Raises DataError where it names no episode."""
    _check(tombstone)
    return _MAGIC + msgpack.packb(asdict(tombstone))


def decode_tombstone(data: bytes | bytearray | memoryview) -> Tombstone:
    """Read a tombstone from bytes that may come from anyone; raises DataError for anything else."""
    if not is_tombstone(data) or len(data) > _LARGEST:
        raise DataError("data", f"a tombstone of at most {_LARGEST} bytes", f"{len(data)} bytes")
    try:
        fields = msgpack.unpackb(memoryview(data)[len(_MAGIC) :], strict_map_key=True, max_ext_len=0)
        tombstone = Tombstone(**fields)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise DataError("tombstone", "a msgpack map of its fields", f"{type(error).__name__}: {error}") from None
    _check(tombstone)
    return tombstone


def _check(tombstone: Tombstone) -> None:
    actor_id = tombstone.actor_id
    if type(actor_id) is not str or not 0 < len(actor_id) <= MAX_NAME_LENGTH:
        raise DataError("tombstone.actor_id", f"1 to {MAX_NAME_LENGTH} characters", f"{actor_id!r:.40}")
    for name in ("episode", "first_step"):
        value = getattr(tombstone, name)
        if type(value) is not int or not 0 <= value < 2**63:
            raise DataError(f"tombstone.{name}", "0 to 2**63 - 1", f"{value!r:.40}")


class Cuts:
    """What the tombstones of a journal leave of its chunks, for who reads it as a whole."""

    def __init__(self, entries: Iterable[bytes | memoryview], *, strict: bool = True) -> None:
        """Look through all records of a journal, oldest first.

        Args:
            entries: chunks and tombstones.
            strict: whether a tombstone that cannot be read is an error; otherwise it cuts nothing.

        Raises:
            DataError: a tombstone cannot be read.
        """
        self.unreadable: dict[int, DataError] = {}
        """Tombstones that cannot be read, by the number of the record."""
        self._cuts: dict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)  # number of the record, step
        for number, data in enumerate(entries):
            if not is_tombstone(data):
                continue
            try:
                tombstone = decode_tombstone(data)
            except DataError as error:
                if strict:
                    raise
                self.unreadable[number] = error
            else:
                self._cuts[tombstone.key].append((number, tombstone.first_step))

    def left_of(self, number: int, chunk: Chunk) -> Chunk | None:
        """What is left of the chunk in record `number`, counted from 0; None: nothing."""
        cuts = self._cuts.get((chunk.actor_id, chunk.episode), [])
        steps = [step for later, step in cuts if later > number]
        return chunk.before(min(steps)) if steps else chunk
