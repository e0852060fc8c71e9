# SPDX-License-Identifier: Apache-2.0
"""Bags of raw messages, written while they come and read by every tool for MCAP; and such that were killed, made whole.

A bag is several files, each closed with its index when it is large or old enough. A process that is killed leaves all
of them complete but the last one, which lacks its index and what came since the last `flush`; `reindex` writes that
index.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import yaml
from serl_config.atomic_files import remove_leftovers, sync_directory, write_whole
from serl_config.files import FileError, open_file

from serl_recording.episode import NANOSECONDS, RecordingError
from serl_recording.formats.bag.metadata import INFO, QOS, BagFile, BagTopic, info_text, profiles_text
from serl_recording.formats.bag.reader import MAX_RECORD, files_of
from serl_recording.optional import require

FORMAT: Final = "a bag of topics (MCAP)"
SPLIT_BYTES: Final = 2**29
"""[bytes] of a file, behind which the next one begins."""
SPLIT_SECONDS: Final = 60.0
"""[s] of a file, behind which the next one begins: so much lacks its index when the recorder is killed."""
_CHUNK: Final = 2**20
_MAGIC: Final = b"\x89MCAP0\r\n"


@dataclass(frozen=True)
class RawTopic:
    """A topic to be recorded.

    type: of its messages, such as std_msgs/msg/String
    definition: of the type, with those that it is made of, as ROS 2 writes them into MCAP; empty: unknown
    qos: what its publishers offer
    """

    name: str
    type: str
    definition: str = ""
    qos: Sequence[Mapping[str, Any]] = field(default_factory=lambda: [QOS])


class RawBag:
    """Writes a bag. Not for several threads.

    Args:
        folder: where there is nothing yet, or an empty folder.
        split_bytes: [bytes] of a file, behind which the next one begins.
        split_seconds: [s] of stamps, the same.

    Raises:
        RecordingError: there is something, it cannot be made, or the optional packages are missing.
    """

    def __init__(self, folder: Path, *, split_bytes: int = SPLIT_BYTES, split_seconds: float = SPLIT_SECONDS) -> None:
        self._mcap = require("mcap.writer", FORMAT)
        self._folder, self._name = folder, folder.absolute().name
        self._split_bytes, self._split_ns = split_bytes, int(split_seconds * NANOSECONDS)
        self._topics: dict[str, RawTopic] = {}
        self._counts: Counter[str] = Counter()
        self._files: list[BagFile] = []
        self._open: _OpenFile | None = None
        try:
            if folder.is_symlink() or (folder.exists() and any(folder.iterdir())):
                raise RecordingError(f"{folder} exists: choose another name, or remove it")
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise RecordingError(f"{folder}: cannot be made: {error.strerror}") from error
        self._begin()

    @property
    def count(self) -> int:
        """Messages that were written."""
        return self._counts.total()

    def add_topic(self, topic: RawTopic) -> None:
        """Make a topic known, before its first message."""
        self._topics[topic.name] = topic

    def write(self, topic: str, stamp: int, data: bytes) -> None:
        """Write a message.

        Args:
            topic: that was added.
            stamp: when it came [ns].
            data: its bytes, CDR.

        Raises:
            RecordingError: it cannot be written, as where the disk is full; what was written before is still there.
        """
        file = self._open
        assert file is not None, "the bag is closed"
        if file.count and (file.size > self._split_bytes or stamp - file.begin > self._split_ns):
            self._end()
            file = self._begin()
        try:
            file.write(self._topics[topic], stamp, data)
        except OSError as error:
            raise RecordingError(f"{file.path}: cannot be written: {error.strerror}; nothing before is lost") from error
        self._counts[topic] += 1

    def flush(self) -> None:
        """Hand everything to the kernel: from then on it outlives this process.

        Raises:
            RecordingError: it cannot be written.
        """
        if self._open is not None:
            try:
                self._open.flush()
            except OSError as error:
                raise RecordingError(f"{self._open.path}: cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """End the last file. A second call does nothing.

        Raises:
            RecordingError: it cannot be written; `reindex` makes the bag whole where there is room again.
        """
        if self._open is not None:
            self._end()

    def _begin(self) -> _OpenFile:
        path = self._folder / f"{self._name}_{len(self._files)}.mcap"
        try:
            self._open = _OpenFile(path, self._mcap)
            self._put_info(self._open)
        except OSError as error:
            raise RecordingError(f"{path}: cannot be made: {error.strerror}") from error
        return self._open

    def _end(self) -> None:
        file, self._open = self._open, None
        assert file is not None
        try:
            file.finish()
            self._files.append(file.about)
            self._put_info(None)
        except OSError as error:
            raise RecordingError(
                f"{file.path}: cannot be closed: {error.strerror}; ./serl data reindex {self._folder} makes it whole"
            ) from error

    def _put_info(self, running: _OpenFile | None) -> None:
        """Say in metadata.yaml what there is; a file that is still being written is named, and counts nothing yet."""
        files = [*self._files, running.about] if running is not None else self._files
        topics = [
            BagTopic(each.name, each.type, self._counts[each.name], qos=each.qos) for each in self._topics.values()
        ]
        write_whole(self._folder / INFO, info_text(files, topics))


class _OpenFile:
    """A file that is being written."""

    def __init__(self, path: Path, mcap: Any) -> None:
        self.path = path
        self.size = self.count = 0
        self.begin = self.end = 0
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        self._file = path.open("xb")
        self._writer = mcap.Writer(self._file, chunk_size=_CHUNK, compression=mcap.CompressionType.NONE)
        self._writer.start(profile="ros2", library="serl_recording")

    @property
    def about(self) -> BagFile:
        return BagFile(self.path.name, self.begin, self.end, self.count)

    def write(self, topic: RawTopic, stamp: int, data: bytes) -> None:
        channel = self._channels.get(topic.name)
        if channel is None:
            channel = self._channels[topic.name] = self._register(topic)
        self._writer.add_message(channel, stamp, data, stamp)
        self.begin = min(self.begin, stamp) if self.count else stamp
        self.end = max(self.end, stamp)
        self.count += 1
        self.size += len(data)

    def flush(self) -> None:
        self._writer.flush()

    def finish(self) -> None:
        try:
            self._writer.finish()
            self._file.flush()
            os.fsync(self._file.fileno())
        finally:
            self._file.close()

    def _register(self, topic: RawTopic) -> int:
        schema = self._schemas.get(topic.type)
        if schema is None:
            encoding = "ros2msg" if topic.definition else ""
            schema = self._writer.register_schema(topic.type, encoding, topic.definition.encode())
            self._schemas[topic.type] = schema
        qos = {"offered_qos_profiles": profiles_text(topic.qos)}
        return int(self._writer.register_channel(topic.name, "cdr", schema, qos))


@dataclass
class Reindexed:
    """What `reindex` has found: files and messages of the bag, files that lacked their index, and damage."""

    files: int = 0
    messages: int = 0
    mended: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


def reindex(folder: Path) -> Reindexed:
    """Make a bag whole that was killed: files get the index that they lack, and metadata.yaml says what there is.

    What stands behind damage in such a file cannot be read, and is left out and named.

    Raises:
        RecordingError: there is no bag, or it cannot be written.
    """
    if not folder.is_dir() or not (paths := files_of(folder)):
        raise RecordingError(f"{folder}: expected a bag, a folder with files *.mcap, found none")
    done = Reindexed(files=len(paths))
    files: list[BagFile] = []
    topics: dict[str, BagTopic] = {}
    try:
        for path in paths:
            summary = _summary(path)
            if summary is None:
                _mend(path, done)
                summary = _summary(path)
            if summary is None:
                raise RecordingError(f"{path}: cannot be read as it was written; is somebody else writing it?")
            statistics = summary.statistics
            count, begin, end = statistics.message_count, statistics.message_start_time, statistics.message_end_time
            files.append(BagFile(path.name, begin, end, count))
            done.messages += count
            for number, channel in summary.channels.items():
                found = statistics.channel_message_counts.get(number, 0)
                before = topics.get(channel.topic)
                topics[channel.topic] = BagTopic(
                    channel.topic,
                    summary.schemas[channel.schema_id].name,
                    found + (before.count if before else 0),
                    qos=yaml.safe_load(channel.metadata.get("offered_qos_profiles", "")) or [QOS],
                )
        write_whole(folder / INFO, info_text(files, topics.values()))
    except FileError as error:
        raise RecordingError(str(error)) from error
    except OSError as error:
        raise RecordingError(f"{folder}: cannot be written: {error.strerror}") from error
    return done


def _summary(path: Path) -> Any:
    """What a file says at its end of all that is in it; None where it has no end, or a damaged one."""
    readers = require("mcap.reader", FORMAT)
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - len(_MAGIC)))
        if size <= len(_MAGIC) or file.read() != _MAGIC:
            return None
        file.seek(0)
        try:
            summary = readers.make_reader(file).get_summary()
        except Exception:  # noqa: BLE001 - whatever the library meets in a damaged file
            return None
    return summary if summary is not None and summary.statistics is not None else None


def _mend(path: Path, done: Reindexed) -> None:
    """Write a file anew, with an index, and put it in its place."""
    remove_leftovers(path.parent, f".{path.name}.")
    mended = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open_file(path) as source, mended.open("xb") as target:
            _copy(source, target, path, done)
            target.flush()
            os.fsync(target.fileno())
        mended.replace(path)
        sync_directory(path.parent)
    finally:
        mended.unlink(missing_ok=True)
    done.mended.append(path.name)


def _copy(source: BinaryIO, target: BinaryIO, path: Path, done: Reindexed) -> None:
    mcap, records = require("mcap.writer", FORMAT), require("mcap.records", FORMAT)
    stream = require("mcap.stream_reader", FORMAT)
    writer = mcap.Writer(target, chunk_size=_CHUNK, compression=mcap.CompressionType.NONE)
    writer.start(profile="ros2", library="serl_recording")
    schemas: dict[int, int] = {0: 0}
    channels: dict[int, int] = {}
    try:
        for record in stream.StreamReader(source, record_size_limit=MAX_RECORD).records:
            if isinstance(record, records.Schema) and record.id not in schemas:
                schemas[record.id] = writer.register_schema(record.name, record.encoding, record.data)
            elif isinstance(record, records.Channel) and record.id not in channels:
                schema = schemas[record.schema_id]
                channels[record.id] = writer.register_channel(
                    record.topic, record.message_encoding, schema, record.metadata
                )
            elif isinstance(record, records.Message):
                writer.add_message(
                    channels[record.channel_id], record.log_time, record.data, record.publish_time, record.sequence
                )
            elif isinstance(record, records.DataEnd):
                break
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever the library meets where a file was cut
        if not _ends_so(error):
            done.damaged.append(f"{path.name}: {type(error).__name__}: {error!s:.80}; what is behind it was left out")
    writer.finish()


def _ends_so(error: Exception) -> bool:
    """Whether this is how a file ends that nobody has closed."""
    return type(error).__name__ == "EndOfFile"
