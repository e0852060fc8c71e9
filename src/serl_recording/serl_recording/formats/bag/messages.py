# SPDX-License-Identifier: Apache-2.0
"""The messages that an episode is, and their bytes.

Of each step: a Float32MultiArray for each vector and a CompressedImage for each camera, then ExecutedAction, Reward and
the version of the policy. Behind the last observation of an episode comes a String with what it was, in JSON.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from serl_rl.spec import DataError

from serl_recording.episode import NANOSECONDS, RecordingError, RecordingSpec
from serl_recording.optional import require

FORMAT: Final = "MCAP"

VECTOR: Final = "std_msgs/msg/Float32MultiArray"
PICTURE: Final = "sensor_msgs/msg/CompressedImage"
EXECUTED: Final = "serl_interfaces/msg/ExecutedAction"
REWARD: Final = "serl_interfaces/msg/Reward"
VERSION: Final = "std_msgs/msg/UInt64"
EPISODE: Final = "std_msgs/msg/String"

EXECUTED_TOPIC: Final = "/arm/executed"
REWARD_TOPIC: Final = "/reward"
VERSION_TOPIC: Final = "/policy/version"
EPISODE_TOPIC: Final = "/recording/episode"

SOURCE_POLICY: Final = 1
SOURCE_HUMAN: Final = 2

DEFINITIONS: Final[Mapping[str, str]] = {
    EXECUTED: """\
uint8 SOURCE_IDLE=0
uint8 SOURCE_POLICY=1
uint8 SOURCE_HUMAN=2
uint8 SOURCE_MOVE_TO=3
uint8 SOURCE_ESTOP=4
std_msgs/Header header
uint64 episode
uint32 step
uint8 source
float32[] action
string[] limits
""",
    REWARD: """\
std_msgs/Header header
uint64 episode
uint32 step
float32 reward
bool success
bool terminated
float32 probability
string source
string task
""",
}
"""Definitions of serl_interfaces: a recording is read where that package is not."""


@cache
def _types() -> Any:
    """The messages of ROS 2 and ours; to make them takes a while."""
    typesys = require("rosbags.typesys", FORMAT)
    store = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)
    for name, text in DEFINITIONS.items():
        store.register(typesys.get_types_from_msg(text, name))
    return store


class Messages:
    """Makes messages and their bytes, and reads them.

    Raises:
        RecordingError: the optional packages are missing.
    """

    def __init__(self) -> None:
        self._store = _types()

    def definition(self, name: str) -> str:
        """The definition of a message with those that it is made of, as MCAP keeps it."""
        return str(self._store.generate_msgdef(name, ros_version=2)[0])

    def type_hash(self, name: str) -> str:
        """The hash of a message's definition, as ROS 2 has it (REP 2016)."""
        return str(self._store.hash_rihs01(name))

    def decode(self, data: bytes, name: str) -> Any:
        """A message of bytes that may come from anyone; raises DataError where it is none."""
        try:
            return self._store.deserialize_cdr(data, name)
        except Exception as error:
            raise DataError(name, "its bytes", f"{len(data)} others ({type(error).__name__})") from error

    def vector(self, name: str, values: NDArray[np.float32]) -> bytes:
        """A Float32MultiArray of values (k,)."""
        dimension = self._make("std_msgs/msg/MultiArrayDimension", label=name, size=len(values), stride=len(values))
        layout = self._make("std_msgs/msg/MultiArrayLayout", dim=[dimension], data_offset=0)
        return self._bytes(VECTOR, layout=layout, data=values)

    def picture(self, stamp: int, frame: str, kind: str, data: bytes) -> bytes:
        """A CompressedImage; `kind` is png or jpeg."""
        return self._bytes(PICTURE, header=self._header(stamp, frame), format=kind, data=np.frombuffer(data, np.uint8))

    def executed(self, stamp: int, episode: int, step: int, led: bool, action: NDArray[np.float32]) -> bytes:
        """An ExecutedAction of a person or of the policy; `action` is (A,)."""
        return self._bytes(
            EXECUTED,
            header=self._header(stamp),
            episode=episode,
            step=step,
            source=SOURCE_HUMAN if led else SOURCE_POLICY,
            action=action,
            limits=[],
        )

    def reward(self, stamp: int, episode: int, step: int, value: float, *, success: bool, terminated: bool) -> bytes:
        """The Reward of the state that a step led to, whose number is `step`."""
        return self._bytes(
            REWARD,
            header=self._header(stamp),
            episode=episode,
            step=step,
            reward=value,
            success=success,
            terminated=terminated,
            probability=float(success),
            source="recording",
            task="",
        )

    def version(self, value: int) -> bytes:
        """A UInt64."""
        return self._bytes(VERSION, data=value)

    def text(self, value: str) -> bytes:
        """A String."""
        return self._bytes(EPISODE, data=value)

    def _header(self, stamp: int, frame: str = "") -> Any:
        seconds, rest = divmod(stamp, NANOSECONDS)
        time = self._make("builtin_interfaces/msg/Time", sec=seconds, nanosec=rest)
        return self._make("std_msgs/msg/Header", stamp=time, frame_id=frame)

    def _make(self, name: str, **fields: Any) -> Any:
        return self._store.types[name](**fields)

    def _bytes(self, name: str, **fields: Any) -> bytes:
        return bytes(self._store.serialize_cdr(self._make(name, **fields), name))


def topics_of(spec: RecordingSpec) -> dict[str, str]:
    """The topic of each entry of the observation.

    Raises:
        RecordingError: there are entries that no message is for, or two would have one topic.
    """
    topics: dict[str, str] = {}
    for name, entry in spec.transitions.observation.items():
        plain = re.sub(r"[^A-Za-z0-9_/]", "_", name)
        if entry.kind == "image" and entry.shape[2] in (1, 3):
            topics[name] = f"/{plain}/color/image_raw/compressed"
        elif entry.kind == "vector":
            topics[name] = f"/observation/{plain}"
        else:
            raise RecordingError(
                f"{name}: MCAP holds pictures and vectors, and not {entry.dtype} {entry.shape}: leave it out with "
                f"--without {name}, or convert to rlds or serl"
            )
    if len(set(topics.values())) < len(topics):
        raise RecordingError(f"expected entries of the observation with topics of their own, found {sorted(topics)}")
    return topics
