# SPDX-License-Identifier: Apache-2.0
"""The file metadata.yaml of a bag, as rosbag2 has it (version 9)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

INFO: Final = "metadata.yaml"
_FOREVER: Final = {"sec": 9223372036, "nsec": 854775807}
QOS: Final[Mapping[str, Any]] = {
    "history": "keep_last",
    "depth": 10,
    "reliability": "reliable",
    "durability": "volatile",
    "deadline": dict(_FOREVER),
    "lifespan": dict(_FOREVER),
    "liveliness": "automatic",
    "liveliness_lease_duration": dict(_FOREVER),
    "avoid_ros_namespace_conventions": False,
}
"""What a publisher offers that nothing else is known of."""


@dataclass(frozen=True)
class BagTopic:
    """A topic of a bag; `qos` are the profiles that its publishers offer, `type_hash` may be empty."""

    name: str
    type: str
    count: int
    type_hash: str = ""
    qos: Sequence[Mapping[str, Any]] = field(default_factory=lambda: [QOS])


@dataclass(frozen=True)
class BagFile:
    """A file of a bag: its name, stamps of the first and of the last message [ns], and how many there are."""

    name: str
    begin: int
    end: int
    count: int


def profiles_text(profiles: Sequence[Mapping[str, Any]]) -> str:
    """Profiles as a channel of MCAP has them."""
    return yaml.safe_dump([dict(each) for each in profiles])


def info_text(files: Sequence[BagFile], topics: Iterable[BagTopic]) -> bytes:
    """The content of metadata.yaml."""
    filled = [file for file in files if file.count]
    begin = min((file.begin for file in filled), default=0)
    end = max((file.end for file in filled), default=0)
    information = {
        "version": 9,
        "storage_identifier": "mcap",
        "duration": {"nanoseconds": end - begin},
        "starting_time": {"nanoseconds_since_epoch": begin},
        "message_count": sum(file.count for file in files),
        "topics_with_message_count": [
            {
                "topic_metadata": {
                    "name": topic.name,
                    "type": topic.type,
                    "serialization_format": "cdr",
                    "offered_qos_profiles": [dict(each) for each in topic.qos],
                    "type_description_hash": topic.type_hash,
                },
                "message_count": topic.count,
            }
            for topic in topics
        ],
        "compression_format": "",
        "compression_mode": "",
        "relative_file_paths": [file.name for file in files],
        "files": [
            {
                "path": file.name,
                "starting_time": {"nanoseconds_since_epoch": file.begin},
                "duration": {"nanoseconds": file.end - file.begin},
                "message_count": file.count,
            }
            for file in files
        ],
        "custom_data": None,
        "ros_distro": "jazzy",
    }
    return _plain({"rosbag2_bagfile_information": information}).encode()


class _NoAliases(yaml.SafeDumper):
    """Writes what is there twice twice: not every reader of YAML follows references."""

    def ignore_aliases(self, data: Any) -> bool:
        """Always."""
        return True


def _plain(tree: Any) -> str:
    return str(yaml.dump(tree, Dumper=_NoAliases, sort_keys=False))
