# SPDX-License-Identifier: Apache-2.0
"""What a robot saw and felt in its episodes, without anybody's labels: from demonstration files and journals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from serl_rl.encoders.file import EncoderError
from serl_rl.spec import DataError, TransitionSpec
from serl_rl.storage.chunk import Chunk, decode_chunk
from serl_rl.storage.demonstrations import demonstration_spec, read_demonstrations
from serl_rl.storage.journal import journal_spec, read_journal
from serl_rl.storage.tombstone import Cuts, is_tombstone

MAX_BYTES: Final = 2**31
"""Most bytes of pictures that are held in memory."""


@dataclass(frozen=True, eq=False)
class PictureEpisode:
    """Consecutive moments of one episode."""

    pictures: dict[str, NDArray[np.uint8]]
    """(n, H, W, 3) RGB of each camera."""
    state: NDArray[np.float32]
    """(n, S) what the robot knows of itself at each moment."""
    action: NDArray[np.float32]
    """(n - 1, A) what was done between two moments."""

    def __len__(self) -> int:
        return len(self.state)


def read_picture_episodes(paths: Sequence[Path]) -> list[PictureEpisode]:
    """All episodes of demonstration files and of journals, which are folders; of one task.

    Raises:
        EncoderError: there are no pictures in one of them, or they do not go together, or are too many for the memory.
        DataError, SegmentError: a file cannot be read.
    """
    episodes: list[PictureEpisode] = []
    first: TransitionSpec | None = None
    size = 0
    for path in paths:
        spec = journal_spec(path) if path.is_dir() else demonstration_spec(path)
        _check(path, spec)
        if first is not None and (dict(first.observation), first.action_dim) != (
            dict(spec.observation),
            spec.action_dim,
        ):
            raise EncoderError(path, f"observations as in {paths[0]}", "others: adapt to one task at a time")
        first = first or spec
        for episode in _episodes(_chunks(path, spec), spec):
            size += sum(rows.nbytes for rows in episode.pictures.values())
            if size > MAX_BYTES:
                raise EncoderError(path, f"at most {MAX_BYTES >> 20} MiB of pictures", "more: give fewer files")
            episodes.append(episode)
    return episodes


def resized(episode: PictureEpisode, height: int, width: int) -> PictureEpisode:
    """An episode with pictures of another size (n, height, width, 3), each pixel the mean of what it covers."""
    import cv2

    def rows(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if pictures.shape[1:3] == (height, width):
            return pictures
        each = [cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA) for picture in pictures]
        return np.asarray(each, np.uint8)

    return replace(episode, pictures={name: rows(pictures) for name, pictures in episode.pictures.items()})


def _check(path: Path, spec: TransitionSpec) -> None:
    kinds = {spec.observation[name].kind for name in spec.frame_names}
    if kinds == {"features"}:
        found = f"features of the encoder {spec.encoder}: a run keeps pictures with --set vision.encoder.cached=false, "
        raise EncoderError(path, "pictures", found + "and ./serl record always does")
    if kinds != {"image"} or not spec.vector_names:
        raise EncoderError(path, "pictures of cameras and the state of a robot", f"entries {sorted(spec.observation)}")


def _chunks(path: Path, spec: TransitionSpec) -> Iterator[Chunk]:
    if not path.is_dir():
        yield from read_demonstrations(path, spec)
        return
    cuts = Cuts(record.data for _, record in read_journal(path, spec))
    for number, (_, record) in enumerate(read_journal(path, spec)):
        if is_tombstone(record.data):
            continue
        try:
            chunk = cuts.left_of(number, decode_chunk(record.data, spec))
            if chunk is not None:
                yield chunk
        except DataError as error:
            raise DataError(f"{path}: {error.field}", error.expected, error.found) from error


def _episodes(chunks: Iterable[Chunk], spec: TransitionSpec) -> Iterator[PictureEpisode]:
    """Chunks that follow each other, joined; a new episode begins where one is missing."""
    waiting: list[Chunk] = []
    for chunk in chunks:
        if waiting and not _follows(waiting[-1], chunk):
            yield _joined(waiting, spec)
            waiting = []
        waiting.append(chunk)
    if waiting:
        yield _joined(waiting, spec)


def _follows(before: Chunk, after: Chunk) -> bool:
    same = (before.actor_id, before.episode) == (after.actor_id, after.episode)
    return same and not before.last and before.first_step + len(before) == after.first_step


def _joined(chunks: Sequence[Chunk], spec: TransitionSpec) -> PictureEpisode:
    def rows(name: str) -> NDArray[np.float32]:
        """The entry at each moment; the last one of a chunk is the first one of the next."""
        skip = [chunk.history if name in spec.frame_names else 0 for chunk in chunks]
        parts = [chunk.observation[name][start:-1] for chunk, start in zip(chunks, skip, strict=True)]
        return np.concatenate([*parts, chunks[-1].observation[name][-1:]])

    return PictureEpisode(
        {name: np.asarray(rows(name), np.uint8) for name in spec.frame_names},
        np.concatenate([rows(name) for name in spec.vector_names], axis=1),
        np.concatenate([chunk.action for chunk in chunks]),
    )
