# SPDX-License-Identifier: Apache-2.0
"""Runs where rosbags and mcap are installed: both read a bag of ours, and have to agree.

python read_bag.py BAG READ.npz
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from rosbags.highlevel import AnyReader


def values(topic: str, message: Any) -> Any:
    """What a message holds, as one array."""
    if topic.endswith("compressed"):
        return np.frombuffer(bytes(message.data), np.uint8)
    if topic == "/arm/executed":
        return np.array([message.episode, message.step, message.source, *message.action])
    if topic == "/reward":
        return np.array([message.episode, message.step, message.reward, message.success, message.terminated])
    if topic.startswith("/observation"):
        return np.array(message.data)
    return np.array([message.data])


def main() -> None:
    """Read twice, compare, and say what was seen."""
    bag, target = map(Path, sys.argv[1:])
    found: list[tuple[str, int, Any]] = []
    with AnyReader([bag]) as reader:
        for connection, stamp, data in reader.messages():
            message = reader.deserialize(data, connection.msgtype)
            found.append((connection.topic, stamp, values(connection.topic, message)))
    again: list[tuple[str, int, Any]] = []
    with next(bag.glob("*.mcap")).open("rb") as file:
        for _, channel, message, decoded in make_reader(
            file, decoder_factories=[DecoderFactory()]
        ).iter_decoded_messages():
            again.append((channel.topic, message.log_time, values(channel.topic, decoded)))
    topics = sorted({topic for topic, _, _ in found})
    columns: dict[str, Any] = {}
    for topic in topics:
        ours, others = ([each for each in some if each[0] == topic] for some in (found, again))
        assert [stamp for _, stamp, _ in ours] == [stamp for _, stamp, _ in others], topic
        for (_, _, one), (_, _, other) in zip(ours, others, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=topic)
        columns[f"{topic}/stamp"] = np.array([stamp for _, stamp, _ in ours])
        if topic.startswith(("/observation", "/arm", "/reward")):
            columns[topic] = np.stack([array for _, _, array in ours])
    np.savez(target, **columns)
    print(f"rosbags and mcap read {len(found)} equal messages of {topics}")


if __name__ == "__main__":
    main()
