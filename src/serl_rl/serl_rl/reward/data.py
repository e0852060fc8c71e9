# SPDX-License-Identifier: Apache-2.0
"""Labelled pictures to train reward classifiers with: a file of episodes, one record each. Data, never code.

Every frame has one picture of each camera, JPEG, as the policy sees it (after crop and resize), and a label: the number
of the stage that it shows. Two stages, failure and success, are the ordinary case. Imports no JAX.
"""

from __future__ import annotations

import json
import math
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from serl_config.strict_json import parse_json

from serl_rl.replay.buffer import machine_memory
from serl_rl.spec import DataError
from serl_rl.storage import segment
from serl_rl.storage.pictures import decode_jpeg, encode_jpeg
from serl_rl.storage.segment import SegmentError, SegmentWriter
from serl_rl.storage.tensors import pack, unpack

STAGES = ("failure", "success")
LEAST_TRAINING_FRAMES = 20
LEAST_VALIDATION_FRAMES = 5
"""Fewest frames of each stage to validate with."""

_KIND = "reward frames"


@dataclass(frozen=True)
class View:
    """What a classifier sees of a camera: size [pixels], and the crop as the task's file has it."""

    width: int
    height: int
    crop: tuple[float, float, float, float] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (H, W, 3) of a picture."""
        return self.height, self.width, 3


@dataclass(frozen=True)
class FrameSource:
    """What all frames of a file have in common."""

    task: str
    views: Mapping[str, View]
    """What is seen of each camera, by its name."""
    stages: tuple[str, ...] = STAGES
    """Names of the labels 0, 1, ...; the last one is success."""
    world: str = field(default="", compare=False)
    """Simulated world that is seen; empty: real cameras, or not known. Files may hold frames of several."""

    def __post_init__(self) -> None:
        if not self.views:
            raise DataError("cameras", "at least one", "none")
        if len(self.stages) < 2 or len(set(self.stages)) != len(self.stages):
            raise DataError("stages", "two or more different names, success last", ", ".join(self.stages) or "none")

    def to_json(self) -> str:
        """Canonical text; equal sources of the same world give equal text."""
        views = {name: [view.width, view.height, view.crop] for name, view in self.views.items()}
        known = {"world": self.world} if self.world else {}
        return json.dumps({"task": self.task, "views": views, "stages": self.stages} | known, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> FrameSource:
        """Inverse of `to_json`; raises DataError for anything else."""
        try:
            tree = parse_json(text)
            views = {
                str(name): View(int(width), int(height), None if crop is None else tuple(map(float, crop)))  # type: ignore[arg-type]
                for name, (width, height, crop) in tree["views"].items()
            }
            return cls(str(tree["task"]), views, tuple(map(str, tree["stages"])), str(tree.get("world", "")))
        except DataError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise DataError("source", "the JSON of a FrameSource", f"{text[:80]!r} ({error})") from None


@dataclass(frozen=True)
class RewardEpisode:
    """Frames of one episode, in order."""

    source: FrameSource
    labels: NDArray[np.uint8]
    """(T,), indices into `source.stages`."""
    pictures: Mapping[str, Sequence[bytes]]
    """T JPEG pictures of each camera."""
    labelled_by: str
    """truth, keys or button."""
    id: str
    """Nothing else has it: how a copy is found that would leak from training into validation."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def succeeds(self) -> bool:
        """Whether a frame shows the last stage."""
        return bool((self.labels == len(self.source.stages) - 1).any())

    def decode(self, camera: str) -> NDArray[np.uint8]:
        """All pictures of a camera, RGB, uint8 (T, H, W, 3).

        Raises:
            DataError: bytes that are no picture of the expected size.
        """
        shape = self.source.views[camera].shape
        if len(self) * math.prod(shape) > machine_memory():
            raise DataError(f"episode {self.id}", "pictures that fit into the memory", f"{len(self)} of {shape}")
        frames = np.empty((len(self), *shape), np.uint8)
        for index, data in enumerate(self.pictures[camera]):
            frames[index] = decode_jpeg(data, shape, f"episode {self.id}, frame {index}, camera {camera}")
        return frames


class EpisodeBuilder:
    """Collects the frames of one episode."""

    def __init__(self, source: FrameSource, labelled_by: str) -> None:
        self._source, self._labelled_by = source, labelled_by
        self._labels: list[int] = []
        self._pictures: dict[str, list[bytes]] = {name: [] for name in source.views}

    def __len__(self) -> int:
        return len(self._labels)

    def add(self, pictures: Mapping[str, NDArray[np.uint8]], label: int) -> None:
        """Add a frame: an RGB picture (H, W, 3) of each camera, and its label.

        Raises:
            DataError: a camera is missing, a picture has another shape, or there is no such stage.
        """
        if not 0 <= label < len(self._source.stages):
            raise DataError("label", f"0 to {len(self._source.stages) - 1}", str(label))
        missing = self._source.views.keys() - pictures.keys()
        if missing:
            raise DataError("cameras", ", ".join(self._source.views), f"nothing of {', '.join(sorted(missing))}")
        for name, view in self._source.views.items():
            picture = pictures[name]
            if picture.shape != view.shape or picture.dtype != np.uint8:
                raise DataError(name, f"uint8 {view.shape}", f"{picture.dtype} {picture.shape}")
        for name, encoded in self._pictures.items():
            encoded.append(encode_jpeg(pictures[name]))
        self._labels.append(label)

    def build(self) -> RewardEpisode:
        """The episode so far, with an id of its own."""
        labels = np.array(self._labels, np.uint8)
        pictures = {name: tuple(encoded) for name, encoded in self._pictures.items()}
        return RewardEpisode(self._source, labels, pictures, self._labelled_by, secrets.token_hex(8))


class RewardDataFile:
    """Appends episodes to a file, which is made when it is not there; what was appended survives a crash.

    Raises:
        SegmentError: the file is damaged, of another kind, or cannot be written.
        DataError: it has frames of another task, other cameras, crops or stages.
    """

    def __init__(self, path: Path, source: FrameSource) -> None:
        self._source = source
        if path.exists():
            _expect_described(_read_header(path), source, str(path))
            # Older headers say shapes alone, which would let another crop of the same size in.
            for episode in _read(path):
                _expect_same(episode.source, source, str(path))
                break
        else:
            segment.create(path, _KIND, {"source": json.loads(source.to_json())})
        self._writer = SegmentWriter(path, _KIND)

    def append(self, episode: RewardEpisode) -> None:
        """Write one episode; on return it outlives this process.

        Raises:
            DataError: it is of another source, or holds no frame.
            SegmentError: it cannot be written.
        """
        _expect_same(episode.source, self._source, "episode")
        if not len(episode):
            raise DataError("episode", "at least one frame", "none")
        arrays: dict[str, NDArray[Any]] = {"labels": episode.labels}
        for name, pictures in episode.pictures.items():
            arrays[f"{name}/sizes"] = np.array([len(data) for data in pictures], np.int64)
            arrays[f"{name}/jpeg"] = np.frombuffer(b"".join(pictures), np.uint8)
        about = {"id": episode.id, "labelled_by": episode.labelled_by, "source": episode.source.to_json()}
        self._writer.append([pack(arrays, about)])

    def __enter__(self) -> RewardDataFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()


def read_reward_data(paths: Iterable[Path]) -> list[RewardEpisode]:
    """All episodes of some files.

    Raises:
        SegmentError: a file is missing, damaged or of another kind.
        DataError: files do not fit each other, hold an episode twice, or hold nothing.
    """
    episodes: list[RewardEpisode] = []
    seen: dict[str, Path] = {}
    for path in paths:
        for episode in _read(path):
            if episodes:
                _expect_same(episode.source, episodes[0].source, str(path))
            if episode.id in seen:
                raise DataError(
                    str(path), "episodes of its own", f"episode {episode.id}, which is in {seen[episode.id]} too"
                )
            seen[episode.id] = path
            episodes.append(episode)
    if not episodes:
        raise DataError("reward data", "at least one episode", "none; record some with ./serl reward record")
    return episodes


def split_episodes(
    episodes: Sequence[RewardEpisode], validation: float, seed: int
) -> tuple[list[RewardEpisode], list[RewardEpisode]]:
    """Divide whole episodes into those for training and those held out.

    Episodes that show success and those that do not are divided separately, so that both sides have some of each.

    Args:
        episodes: to divide.
        validation: share that is held out, above 0 and below 1.
        seed: of the choice.

    Raises:
        DataError: `validation` is no such share.
    """
    if not 0.0 < validation < 1.0:
        raise DataError("validation", "a share above 0 and below 1", str(validation))
    rng = np.random.default_rng(seed)
    train: list[RewardEpisode] = []
    held_out: list[RewardEpisode] = []
    for kind in (False, True):
        group = [episode for episode in episodes if episode.succeeds == kind]
        order = rng.permutation(len(group))
        count = min(max(1, round(validation * len(group))), len(group) - 1)
        held_out += [group[index] for index in order[: max(count, 0)]]
        train += [group[index] for index in order[max(count, 0) :]]
    return train, held_out


def check_split(train: Sequence[RewardEpisode], validation: Sequence[RewardEpisode]) -> None:
    """Refuse data that cannot make or judge a classifier.

    Raises:
        DataError: an episode on both sides, a stage that a side does not show, or too few frames of one.
    """
    shared = {episode.id for episode in train} & {episode.id for episode in validation}
    if shared:
        raise DataError(
            "validation", "episodes that training has not seen", f"{len(shared)} that it has, {min(shared)} first"
        )
    for name, side, least in (
        ("training frames", train, LEAST_TRAINING_FRAMES),
        ("held-out frames", validation, LEAST_VALIDATION_FRAMES),
    ):
        counts = Counter(int(label) for episode in side for label in episode.labels)
        stages = side[0].source.stages if side else STAGES
        for label, stage in enumerate(stages):
            if counts[label] < least:
                raise DataError(
                    name,
                    f"at least {least} of each stage",
                    f"{counts[label]} of {stage}, in {len(side)} episodes; record more, of this in particular",
                )


def _read(path: Path) -> Iterable[RewardEpisode]:
    header = _read_header(path)
    for _, payload in segment.scan(path, _KIND, torn_tail=True):
        try:
            episode = _unpack(payload)
            _expect_described(header, episode.source, "header")
        except DataError as error:
            raise SegmentError(f"{path}: holds an episode that cannot be read: {error}") from error
        yield episode


def _unpack(payload: bytes) -> RewardEpisode:
    arrays, about = unpack(payload)
    missing = {"id", "labelled_by", "source"} - about.keys()
    if missing:
        raise DataError("episode", "id, labelled_by and source", f"no {', '.join(sorted(missing))}")
    source = FrameSource.from_json(about["source"])
    expected = {"labels"} | {f"{name}/{part}" for name in source.views for part in ("sizes", "jpeg")}
    if arrays.keys() != expected:
        raise DataError("episode", ", ".join(sorted(expected)), ", ".join(sorted(arrays)) or "nothing")
    labels = arrays["labels"]
    if labels.dtype != np.uint8 or labels.ndim != 1 or not labels.size or labels.max() >= len(source.stages):
        raise DataError("labels", f"uint8 (T,) below {len(source.stages)}", f"{labels.dtype} {labels.shape}")
    pictures = {}
    for name in source.views:
        sizes, data = arrays[f"{name}/sizes"], arrays[f"{name}/jpeg"]
        fits = sizes.dtype == np.int64 and sizes.shape == labels.shape and bool((sizes > 0).all())
        if not fits or data.dtype != np.uint8 or data.ndim != 1 or int(sizes.sum()) != data.size:
            raise DataError(name, f"{len(labels)} pictures", f"{sizes.shape} sizes for {data.size} bytes")
        ends = np.cumsum(sizes)
        pictures[name] = tuple(data[end - size : end].tobytes() for end, size in zip(ends, sizes, strict=True))
    return RewardEpisode(source, labels, pictures, about["labelled_by"], about["id"])


def _read_header(path: Path) -> FrameSource | dict[str, tuple[int, ...]]:
    """The source of all frames of a file; of an older file, whose header says no more, the shapes of its pictures."""
    about = segment.read_header(path, _KIND).about
    try:
        if "source" in about:
            return FrameSource.from_json(json.dumps(about["source"]))
        # Older headers describe a frame as a transition, of which only the pictures mean anything.
        return {name: tuple(shape) for name, (shape, _) in about["spec"]["observation"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SegmentError(f"{path}: expected a header with the source of the frames, found {about!r:.80}") from error


def _expect_described(header: FrameSource | dict[str, tuple[int, ...]], source: FrameSource, where: str) -> None:
    """Raise DataError unless the header of a file is one for frames of `source`."""
    if isinstance(header, FrameSource):
        _expect_same(header, source, where)
        return
    shapes = {name: view.shape for name, view in source.views.items()}
    if header != shapes:
        raise DataError(where, f"pictures {shapes}", str(header))


def _expect_same(found: FrameSource, expected: FrameSource, where: str) -> None:
    if found != expected:
        raise DataError(where, f"frames of {expected.to_json()}", found.to_json())
