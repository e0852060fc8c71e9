# SPDX-License-Identifier: Apache-2.0
"""Writes a folder that ``ros2 bag`` and Foxglove read: one MCAP file, and metadata.yaml."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from serl_config.atomic_files import write_whole
from serl_rl.spec import DataError
from serl_rl.storage.pictures import encode_jpeg, encode_png

from serl_recording.episode import NANOSECONDS, Episode, RecordingError, RecordingSpec
from serl_recording.format import Writer
from serl_recording.formats.bag import messages
from serl_recording.formats.bag.messages import Messages, topics_of
from serl_recording.formats.bag.metadata import INFO, QOS, BagFile, BagTopic, info_text, profiles_text
from serl_recording.optional import require

METADATA: Final = "serl"
"""Name of the metadata record of an MCAP file that holds the specification."""
_LARGEST_STAMP: Final = 2**31 * NANOSECONDS


class BagWriter(Writer):
    """Writes a bag into a folder; an episode is in the file when `append` returns.

    Episodes without measured stamps follow each other a second apart.

    Args:
        folder: that is not there, or empty.
        spec: of the episodes.
        pictures: png or jpeg.

    Raises:
        RecordingError: the format cannot hold such episodes, or the folder cannot be made.
    """

    def __init__(self, folder: Path, spec: RecordingSpec, pictures: str = "png") -> None:
        self._folder, self._spec, self._kind = folder, spec, pictures
        self._encode: Callable[[Any], bytes] = encode_jpeg if pictures == "jpeg" else encode_png
        self._messages = Messages()
        self._topics = topics_of(spec)
        self._span: tuple[int, int] | None = None
        self._counts: dict[str, int] = {}
        writer = require("mcap.writer", messages.FORMAT)
        self._path = folder / f"{folder.absolute().name}_0.mcap"
        try:
            folder.mkdir(exist_ok=True)
            self._file = self._path.open("xb")
        except OSError as error:
            raise RecordingError(f"{folder}: cannot be written: {error.strerror}") from error
        self._writer = writer.Writer(self._file, chunk_size=2**20, compression=writer.CompressionType.NONE)
        self._writer.start(profile="ros2", library="serl_recording")
        own = {"transitions": json.loads(spec.transitions.to_json()), "rate": spec.rate, "task": spec.task}
        self._writer.add_metadata(METADATA, {"spec": json.dumps(own)})
        self._types = {
            **{topic: self._type_of(name) for name, topic in self._topics.items()},
            messages.EXECUTED_TOPIC: messages.EXECUTED,
            messages.REWARD_TOPIC: messages.REWARD,
            messages.VERSION_TOPIC: messages.VERSION,
            messages.EPISODE_TOPIC: messages.EPISODE,
        }
        schemas = {
            name: self._writer.register_schema(name, "ros2msg", self._messages.definition(name).encode())
            for name in sorted(set(self._types.values()))
        }
        qos = profiles_text([QOS])
        self._channels = {
            topic: self._writer.register_channel(topic, "cdr", schemas[name], {"offered_qos_profiles": qos})
            for topic, name in self._types.items()
        }
        self._flush()

    def append(self, episode: Episode) -> None:
        """Write an episode.

        Raises:
            DataError: it is not of the specification, or later than ROS can say.
            RecordingError: it cannot be written.
        """
        episode.check(self._spec)
        offset = 0 if episode.stamped or self._span is None else self._span[1] + NANOSECONDS
        if int(episode.stamp.max()) + offset >= _LARGEST_STAMP:
            raise DataError("stamp", "before 2038, as ROS has it", f"{int(episode.stamp.max()) + offset} ns")
        stamps = [int(stamp) + offset for stamp in episode.stamp]
        n = len(episode)
        for step, stamp in enumerate(stamps):
            self._observe(episode, step, stamp)
            if step < n:
                led, action = bool(episode.intervention[step]), episode.action[step]
                executed = self._messages.executed(stamp, episode.number, step, led, action)
                self._add(messages.EXECUTED_TOPIC, stamp, executed)
                self._add(messages.VERSION_TOPIC, stamp, self._messages.version(int(episode.policy_version[step])))
            if step:
                reward = self._messages.reward(
                    stamp,
                    episode.number,
                    step,
                    float(episode.reward[step - 1]),
                    success=episode.success and step == n,
                    terminated=episode.terminated and step == n,
                )
                self._add(messages.REWARD_TOPIC, stamp, reward)
        names = ("stamped", "terminated", "truncated", "success", "demonstration", "actor", "number")
        about = {name: getattr(episode, name) for name in names} | {
            "steps": n,
            "offset": offset,
            "first": min(stamps),
            "last": max(stamps),
        }
        self._add(messages.EPISODE_TOPIC, stamps[-1], self._messages.text(json.dumps(about)))
        low, high = self._span or (min(stamps), max(stamps))
        self._span = (min(low, *stamps), max(high, *stamps))
        self._flush()

    def close(self, finished: bool) -> None:
        """Write the index of the file, and close it.

        Raises:
            RecordingError: there is no room for the index. Where something else has ended the recording that is told,
                and the file has no index, as that of a recording that was killed.
        """
        try:
            try:
                self._writer.finish()
            finally:
                self._file.close()
        except OSError as error:
            if finished:
                raise RecordingError(f"{self._path}: cannot be written: {error.strerror}") from error

    def _observe(self, episode: Episode, step: int, stamp: int) -> None:
        for name, topic in self._topics.items():
            row = episode.observation[name][step]
            if self._types[topic] == messages.PICTURE:
                frame = f"{name}_color_optical_frame"
                self._add(topic, stamp, self._messages.picture(stamp, frame, self._kind, self._encode(row)))
            else:
                self._add(topic, stamp, self._messages.vector(name, np.ascontiguousarray(row)))

    def _type_of(self, name: str) -> str:
        return messages.PICTURE if name in self._spec.cameras else messages.VECTOR

    def _add(self, topic: str, stamp: int, data: bytes) -> None:
        try:
            self._writer.add_message(self._channels[topic], stamp, data, stamp)
        except OSError as error:
            raise RecordingError(f"{self._path}: cannot be written: {error.strerror}") from error
        self._counts[topic] = self._counts.get(topic, 0) + 1

    def _flush(self) -> None:
        """Hand everything to the kernel, and say in metadata.yaml what there is."""
        try:
            self._writer.flush()
            write_whole(self._folder / INFO, self._info())
        except OSError as error:
            raise RecordingError(f"{self._path}: cannot be written: {error.strerror}") from error

    def _info(self) -> bytes:
        begin, end = self._span or (0, 0)
        topics = [
            BagTopic(topic, name, self._counts.get(topic, 0), self._messages.type_hash(name))
            for topic, name in self._types.items()
        ]
        return info_text([BagFile(self._path.name, begin, end, sum(self._counts.values()))], topics)
