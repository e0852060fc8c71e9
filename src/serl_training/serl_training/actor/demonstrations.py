# SPDX-License-Identifier: Apache-2.0
"""Demonstrations of a file, as an actor hands them to the learner: with its stacks and the features of its encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from serl_rl.replay.buffer import machine_memory
from serl_rl.spec import DataError
from serl_rl.storage.chunk import Chunk
from serl_rl.storage.demonstrations import DemonstrationError, read_demonstrations

from serl_training.actor.history import with_history
from serl_training.actor.perception import Perception
from serl_training.env.base_action import with_base_actions


def load_demonstrations(path: Path, perception: Perception, seed: int, check: Callable[[], None]) -> list[Chunk]:
    """All chunks of a file, as `perception.spec` has them.

    Args:
        path: of the file.
        perception: of the actor; its encoder makes features of the pictures in the file.
        seed: of the random shifts of these pictures.
        check: called before each chunk; may raise.

    Raises:
        DemonstrationError: the file cannot be used, or what is in it does not fit into the memory.
    """
    chunks: list[Chunk] = []
    size, limit = 0, machine_memory()
    for chunk in _read(path, perception, seed):
        check()
        size += sum(rows.nbytes for rows in chunk.observation.values())
        if size > limit:
            raise DemonstrationError(
                f"{path}: expected demonstrations that fit into {limit} bytes of memory, found more"
            )
        chunks.append(chunk)
    return chunks


def _read(path: Path, perception: Perception, seed: int) -> Iterator[Chunk]:
    held = read_demonstrations(path, perception.momentary, perception.encoding(seed))
    own = perception.spec if perception.without_base is None else perception.without_base
    remembering = held if perception.history == 1 else with_history(held, own, perception.history)
    try:
        if perception.base is None:
            yield from remembering
        else:
            pictures = read_demonstrations(path, perception.pictures)
            yield from with_base_actions(remembering, pictures, perception.base, perception.spec)
    except DataError as error:
        raise DemonstrationError(f"{path}: holds a chunk that cannot be used: {error}") from error
