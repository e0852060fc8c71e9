# SPDX-License-Identifier: Apache-2.0
"""ROS node ``raw_recorder``: writes the messages of the graph's topics into a bag, as they are."""

import importlib
import re
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSProfile,
    ReliabilityPolicy,
)
from rclpy.topic_endpoint_info import TopicEndpointInfo
from serl_recording.episode import RecordingError
from serl_recording.formats.bag.metadata import QOS
from serl_recording.raw_bag import RawBag, RawTopic
from serl_ros.execution.executor import FastExecutor
from serl_ros.log import ERROR, INFO, WARN, log
from serl_ros.message_definitions import DefinitionError, definition_text
from serl_ros.node import run_node
from serl_ros.parameters import declare

from serl_ros import diagnostics

_LOOK_PERIOD = 0.5  # [s] between two looks for new topics
_FLUSH_PERIOD = 0.25  # [s] between two times that everything is handed to the kernel: so much is lost when killed
_MOST_WAITING = 2**29  # [bytes] that wait for the disk, above which messages are dropped, and counted
_LAST_SECONDS = 1.0  # [s] for what waits when the node is told to end
_IDLE = 5  # times in a row that nothing came, after which nothing waits
_DEPTH, _PICTURE_DEPTH = 1000, 60  # messages that wait for this process
_PICTURES = re.compile(r"(.*)/image_raw(/compressed)?")
_NEVER = frozenset({"/parameter_events", "/rosout"})


class RawRecorderNode(Node):
    """Records every topic that is there or comes, of cameras one of the two transports.

    What cannot be recorded is counted, and said on the log and `/diagnostics`: messages that the middleware lost, or
    for which the disk was too slow. Where the disk is full it stops, and what is there stays.
    """

    def __init__(self) -> None:
        """Make the bag. Raises RecordingError (as ValueError) where that cannot be."""
        super().__init__("raw_recorder")
        folder = Path(declare(self, "folder", "", "Folder of the bag, where there is nothing yet."))
        self._pictures = declare(
            self, "pictures", "compressed", "Which topics of cameras.", choices=("compressed", "raw", "both")
        )
        chosen = declare(self, "topics", "", "Regular expression of names of topics; empty: all of them.")
        try:
            self._chosen = re.compile(chosen or ".*")
            if not folder.name:
                raise ValueError("folder: expected the folder of a bag, found an empty name")
            self._bag = RawBag(folder)
        except re.error as error:
            raise ValueError(f"topics: expected a regular expression, found {chosen!r} ({error})") from error
        except RecordingError as error:
            raise ValueError(str(error)) from error
        self._folder = folder
        self._waiting: deque[tuple[str, int, bytes] | RawTopic] = deque()
        self._come_bytes = self._gone_bytes = 0  # each is counted by one thread
        self._come = threading.Event()
        self._received = 0
        self._ending = False
        self._broken = ""
        self.recorded = self.dropped = self.unwritten = 0
        self._names: set[str] = set()
        self._diagnostics = diagnostics.Diagnostics(self)
        self._writer = threading.Thread(target=self._write, name="bag", daemon=True)
        self._writer.start()

    def run(self, executor: FastExecutor, stop: threading.Event) -> None:
        """Record until told to stop."""
        look = 0.0
        while not stop.is_set():
            if time.monotonic() >= look:
                look = time.monotonic() + _LOOK_PERIOD
                self._subscribe_to_new()
                self._tell()
            executor.spin_once(0.1)
        self._take_the_rest(executor)

    def _take_the_rest(self, executor: FastExecutor) -> None:
        """Take what came before the end and waits in the middleware; of a graph that goes on, for a bounded time."""
        deadline, idle = time.monotonic() + _LAST_SECONDS, 0
        while idle < _IDLE and time.monotonic() < deadline:
            before = self._received
            executor.spin_once(0.01)
            idle = idle + 1 if self._received == before else 0

    def close(self) -> None:
        """Write what waits, and end the bag."""
        self._ending = True
        self._come.set()
        self._writer.join()
        try:
            self._bag.close()
        except RecordingError as error:
            log(self, ERROR, str(error))
        log(self, INFO, f"{self._folder}: {self.recorded} messages, {self.dropped + self.unwritten} dropped")

    def _subscribe_to_new(self) -> None:
        for name, types in self.get_topic_names_and_types():
            if name in self._names or not types or not self._wanted(name):
                continue
            publishers = self.get_publishers_info_by_topic(name)
            if publishers:  # without one nobody says how it is offered
                self._names.add(name)
                self._subscribe(name, types[0], publishers)

    def _wanted(self, name: str) -> bool:
        if name in _NEVER or "/_" in name or not self._chosen.search(name):
            return False
        picture = _PICTURES.fullmatch(name)
        return picture is None or self._pictures == "both" or (picture[2] is None) == (self._pictures == "raw")

    def _subscribe(self, name: str, type_name: str, publishers: list[TopicEndpointInfo]) -> None:
        try:
            package, _, message = type_name.partition("/msg/")
            kind = getattr(importlib.import_module(f"{package}.msg"), message)
        except (AttributeError, ImportError) as error:
            log(self, WARN, f"{name}: is not recorded: {type_name} is not installed ({error})")
            return
        try:
            definition = definition_text(type_name)
        except DefinitionError as error:
            log(self, WARN, f"{name}: is recorded without its definition: {error}")
            definition = ""
        offered = [publisher.qos_profile for publisher in publishers]
        self._put(RawTopic(name, type_name, definition, [_profile(each) for each in offered]))

        def take(data: bytes) -> None:
            self._put((name, time.time_ns(), data))

        self.create_subscription(
            kind,
            name,
            take,
            _matching(offered, _PICTURE_DEPTH if _PICTURES.fullmatch(name) else _DEPTH),
            event_callbacks=SubscriptionEventCallbacks(message_lost=self._on_lost),
            raw=True,
        )

    def _on_lost(self, event: Any) -> None:  # a message_lost_info of rclpy, whose place differs between distributions
        self.dropped += event.total_count_change

    def _put(self, item: tuple[str, int, bytes] | RawTopic) -> None:
        size = 0 if isinstance(item, RawTopic) else len(item[2])
        self._received += 1
        if self._broken or self._come_bytes - self._gone_bytes + size > _MOST_WAITING:
            self.dropped += 1
            return
        self._come_bytes += size
        self._waiting.append(item)
        self._come.set()

    def _write(self) -> None:
        """Writes what waits, in a thread of its own: the disk may take its time."""
        flushed = time.monotonic()
        try:
            while not (self._ending and not self._waiting):
                self._come.wait(_FLUSH_PERIOD)
                self._come.clear()
                while self._waiting:
                    item = self._waiting.popleft()
                    if isinstance(item, RawTopic):
                        self._bag.add_topic(item)
                        continue
                    self._bag.write(*item)
                    self._gone_bytes += len(item[2])
                    self.recorded += 1
                    if time.monotonic() - flushed > _FLUSH_PERIOD:
                        break
                if time.monotonic() - flushed > _FLUSH_PERIOD:
                    self._bag.flush()
                    flushed = time.monotonic()
                    if self._waiting:
                        self._come.set()
        except RecordingError as error:
            self._broken = str(error)
            self.unwritten = len(self._waiting) + 1
            self._waiting.clear()

    def _tell(self) -> None:
        values = {
            "recorded": self.recorded,
            "dropped": self.dropped,
            "waiting [bytes]": self._come_bytes - self._gone_bytes,
        }
        if self._broken:
            log(self, ERROR, f"recording has ended: {self._broken}", throttle=30.0, key="broken")
            self._diagnostics.set("recording", diagnostics.ERROR, self._broken, **values)
        elif self.dropped:
            log(self, WARN, f"{self.dropped} messages were dropped so far", throttle=10.0, key="dropped")
            self._diagnostics.set("recording", diagnostics.WARN, f"{self.dropped} messages were dropped", **values)
        else:
            self._diagnostics.set("recording", diagnostics.OK, f"records into {self._folder}", **values)


def _matching(offered: list[QoSProfile], depth: int) -> QoSProfile:
    """The strictest profile that all publishers match."""
    reliable = all(each.reliability == ReliabilityPolicy.RELIABLE for each in offered)
    latched = all(each.durability == DurabilityPolicy.TRANSIENT_LOCAL for each in offered)
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def _profile(offered: QoSProfile) -> dict[str, object]:
    """A profile as rosbag2 writes it; the middleware does not tell history and depth of others."""
    return {
        **QOS,
        "history": "unknown",
        "depth": 0,
        "reliability": offered.reliability.name.lower(),
        "durability": offered.durability.name.lower(),
    }


def main() -> None:
    """Entry point."""
    run_node(RawRecorderNode)
