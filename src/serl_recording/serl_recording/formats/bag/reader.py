# SPDX-License-Identifier: Apache-2.0
"""Reads episodes from MCAP files, also from one that a killed recording has left without an end."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from serl_config.files import FileError, open_file, read_text
from serl_config.strict_json import JsonError, parse_json
from serl_config.strict_yaml import YamlError, parse_upstream_yaml
from serl_rl.spec import DataError, TransitionSpec
from serl_rl.storage.pictures import decode_picture

from serl_recording.episode import Episode, RecordingError, RecordingSpec, check_budget
from serl_recording.format import Reader, Report, refuse
from serl_recording.formats.bag import messages
from serl_recording.formats.bag.messages import Messages, topics_of
from serl_recording.formats.bag.metadata import INFO
from serl_recording.formats.bag.writer import METADATA
from serl_recording.optional import require

MAX_RECORD: Final = 2**30
"""[bytes] of a record, unpacked."""
MAX_CHUNK: Final = 2**27
"""[bytes] of a compressed chunk, unpacked. Ours are a little more than 1 MiB, those of rosbag2 4 MiB."""
MAX_WAITING: Final = 2**30
"""[bytes] of messages that wait for the end of their episode."""
_OVERHEAD: Final = 200
"""[bytes] of a message beside its data."""


class _Message(NamedTuple):
    stamp: int
    data: bytes


Waiting = dict[str, list[_Message]]


class BagReader(Reader):
    """Reads a bag of episodes, a folder or an MCAP file.

    Args:
        path: of the folder or file.

    Raises:
        RecordingError: it cannot be read, or holds no episodes: raw topics are none.
    """

    def __init__(self, path: Path) -> None:
        self._files = [path] if path.is_file() else files_of(path)
        self._mcap = require("mcap.stream_reader", messages.FORMAT)
        self._records = require("mcap.records", messages.FORMAT)
        self._messages = Messages()
        if not self._files:
            raise RecordingError(f"{path}: expected files *.mcap, found none")
        self._spec = self._stored_spec(self._files[0])
        self._topics = topics_of(self._spec)

    @property
    def spec(self) -> RecordingSpec:
        """What the metadata record of the first file says."""
        return self._spec

    def episodes(self, report: Report = refuse) -> Iterator[Episode]:
        """Every episode whose end is there; one that a bag was split within is one."""
        waiting: Waiting = defaultdict(list)
        size = 0
        for path in self._files:
            for topic, message in self._read(path, report):
                waiting[topic].append(message)
                size += len(message.data) + _OVERHEAD
                if size > MAX_WAITING:
                    report(RecordingError(f"{path}: expected episodes of at most {MAX_WAITING >> 20} MiB, found more"))
                    waiting, size = defaultdict(list), 0
                if topic != messages.EPISODE_TOPIC:
                    continue
                try:
                    episode = self._episode(waiting)
                except (DataError, JsonError, OverflowError) as error:
                    report(RecordingError(f"{path}: an episode was left out: {error}"))
                else:
                    yield episode
                waiting, size = defaultdict(list), 0

    def _stored_spec(self, path: Path) -> RecordingSpec:
        for record in self._scan(path, refuse, 100):
            if isinstance(record, self._records.Metadata) and record.name == METADATA:
                try:
                    tree = parse_json(record.metadata["spec"])
                    transitions = TransitionSpec.from_json(json.dumps(tree["transitions"]))
                    return RecordingSpec(transitions, float(tree["rate"]), str(tree["task"]))
                except (DataError, KeyError, TypeError, ValueError) as error:
                    raise RecordingError(f"{path}: expected the specification of episodes ({error!s:.200})") from error
        raise RecordingError(
            f"{path}: expected episodes, as ./serl convert writes them, with a metadata record {METADATA!r}; found "
            "other topics, which are no episodes"
        )

    def _scan(self, path: Path, report: Report, most: int | None = None) -> Iterator[Any]:
        """Records of a file outside of chunks, and chunks, as far as they can be followed."""
        count, ended = 0, False
        try:
            with open_file(path) as file:
                reader = self._mcap.StreamReader(file, emit_chunks=True, record_size_limit=MAX_RECORD)
                try:
                    for record in reader.records:
                        ended = ended or isinstance(record, self._records.DataEnd)
                        yield record
                        count += 1
                        if ended or count == most:
                            return
                except GeneratorExit:
                    raise
                except RecordingError:
                    raise
                except Exception as error:  # noqa: BLE001 - whatever the library meets in a damaged file
                    what = f"is damaged or ends behind {count} records ({type(error).__name__})"
                    report(RecordingError(f"{path}: {what}; what is before was read"))
        except FileError as error:
            raise RecordingError(f"{path}: cannot be read: {error.reason}") from error

    def _read(self, path: Path, report: Report) -> Iterator[tuple[str, _Message]]:
        """The messages of a file in their order, by topic."""
        channels: dict[int, str] = {}
        for record in self._scan(path, report):
            if isinstance(record, self._records.Chunk):
                for inner in self._unpacked(path, record, report):
                    if isinstance(inner, self._records.Channel):
                        channels[inner.id] = inner.topic
                    elif isinstance(inner, self._records.Message) and inner.channel_id in channels:
                        yield channels[inner.channel_id], _Message(inner.log_time, inner.data)
            elif isinstance(record, self._records.Channel):
                channels[record.id] = record.topic

    def _unpacked(self, path: Path, chunk: Any, report: Report) -> list[Any]:
        try:
            plain = replace(chunk, compression="", data=_plain(chunk))
            return list(self._mcap.breakup_chunk(plain, validate_crc=True))
        except Exception as error:  # noqa: BLE001 - whatever the library meets in a damaged chunk
            report(RecordingError(f"{path}: a damaged chunk was left out ({type(error).__name__}: {error!s:.80})"))
            return []

    def _episode(self, waiting: Waiting) -> Episode:
        text = self._messages.decode(waiting[messages.EPISODE_TOPIC][-1].data, messages.EPISODE).data
        about = parse_json(text)
        try:
            n, offset = int(about["steps"]), int(about["offset"])
            first, last = int(about["first"]), int(about["last"])
            names = ("stamped", "terminated", "truncated", "success", "demonstration")
            flags = {name: bool(about[name]) for name in names}
            actor, number = str(about["actor"]), int(about["number"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(messages.EPISODE_TOPIC, "what an episode was", f"{text!r:.80}") from error
        check_budget(self._spec, n)

        def take(topic: str, count: int) -> list[_Message]:
            """Messages of the episode; others that wait are left of one whose end is lost."""
            found = [message for message in waiting.get(topic, []) if first <= message.stamp <= last]
            if len(found) != count:
                raise DataError(topic, f"{count} messages of episode {number} of {actor}", str(len(found)))
            return found

        executed = [self._messages.decode(each.data, messages.EXECUTED) for each in take(messages.EXECUTED_TOPIC, n)]
        rewards = [self._messages.decode(each.data, messages.REWARD) for each in take(messages.REWARD_TOPIC, n)]
        versions = [self._messages.decode(each.data, messages.VERSION) for each in take(messages.VERSION_TOPIC, n)]
        observed = {name: take(topic, n + 1) for name, topic in self._topics.items()}
        stamps = [each.stamp - offset for each in next(iter(observed.values()))]
        size = self._spec.transitions.action_dim
        if any(len(each.action) != size for each in executed):
            raise DataError(messages.EXECUTED_TOPIC, f"actions of {size} values", "others")
        episode = Episode(
            observation={name: self._rows(name, found) for name, found in observed.items()},
            action=np.array([each.action for each in executed], np.float32),
            reward=np.array([each.reward for each in rewards], np.float32),
            intervention=np.array([each.source == messages.SOURCE_HUMAN for each in executed]),
            policy_version=np.array([each.data for each in versions], np.uint64),
            stamp=np.array(stamps, np.int64),
            actor=actor,
            number=number,
            **flags,
        )
        episode.check(self._spec)
        return episode

    def _rows(self, name: str, found: list[_Message]) -> NDArray[Any]:
        """The rows (n + 1, ...) of an entry of the observation."""
        entry = self._spec.transitions.observation[name]
        rows = np.empty((len(found), *entry.shape), entry.dtype)
        for index, message in enumerate(found):
            where = f"{self._topics[name]}[{index}]"
            if entry.kind == "image":
                data = self._messages.decode(message.data, messages.PICTURE).data
                rows[index] = decode_picture(bytes(data), entry.shape, where)
                continue
            data = self._messages.decode(message.data, messages.VECTOR).data
            if len(data) != entry.elements:
                raise DataError(where, f"{entry.elements} values", str(len(data)))
            rows[index] = data
        return rows


def files_of(folder: Path) -> list[Path]:
    """MCAP files of a bag in their order: what metadata.yaml says, else by the numbers in their names (10 behind 9).

    Files that metadata.yaml does not name, as of a recording that was killed, come behind those that it names.
    """
    found = {path.name: path for path in sorted(folder.glob("*.mcap"), key=_numbered)}
    try:
        tree = parse_upstream_yaml(read_text(folder / INFO), str(folder / INFO))
        named = tree["rosbag2_bagfile_information"]["relative_file_paths"]
        order = [name for name in dict.fromkeys(map(str, named)) if name in found]
    except (FileError, YamlError, KeyError, TypeError):  # a bag without it is one, too
        order = []
    return [found.pop(name) for name in order] + list(found.values())


def _numbered(path: Path) -> list[tuple[int, int, str]]:
    """To order files by: numbers in a name as numbers, however long."""
    parts = re.split(r"([0-9]+)", path.name)  # every other one is a number
    return [
        (len(part.lstrip("0")), int(part[:18]), part) if place % 2 else (0, 0, part) for place, part in enumerate(parts)
    ]


def _plain(chunk: Any) -> bytes:
    """The bytes of a chunk, unpacked no further than it says: what says little and unpacks to gigabytes is refused."""
    if not chunk.compression:
        return bytes(chunk.data)
    size = chunk.uncompressed_size
    if size > MAX_CHUNK:
        raise DataError("chunk", f"at most {MAX_CHUNK} bytes", f"{size}")
    if chunk.compression == "zstd":
        zstandard = require("zstandard", messages.FORMAT)
        data = bytes(zstandard.ZstdDecompressor().stream_reader(chunk.data).read(size + 1))
    elif chunk.compression == "lz4":
        frame = require("lz4.frame", messages.FORMAT)
        data = bytes(frame.LZ4FrameDecompressor().decompress(chunk.data, max_length=size + 1))
    else:
        raise DataError("chunk", "zstd, lz4 or no compression", f"{chunk.compression!r:.20}")
    if len(data) != size:
        raise DataError("chunk", f"{size} bytes, as it says", "more" if len(data) > size else str(len(data)))
    return data
