# SPDX-License-Identifier: Apache-2.0
"""The topics by which a driver is commanded, followed while one node alone commands on them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from serl_ros.incoming import refuse

from serl_drivers.one_commander import OneCommander

_LOOK: Final = 0.1  # [s] between two looks for a second commander
_PATIENCE: Final = 0.5  # [s] of one commander alone, after which it is followed again
_NAMES_AFTER: Final = 1.0  # [s] between two looks for names, which cost more


class CommandTopics:
    """Subscriptions of one arm's commands."""

    def __init__(self, node: Node, tell: Callable[[str], None]) -> None:
        """Listen to nothing yet.

        Args:
            node: that subscribes.
            tell: hears why nobody is followed, with names, each time that it changes; empty: one is.
        """
        self._node, self._tell = node, tell
        self._one = OneCommander(_PATIENCE)
        self._told = ""
        self._named_at = 0.0
        self._subscriptions: list[Subscription] = []
        self._timer = node.create_timer(_LOOK, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def listen(
        self, kind: Any, topic: str, callback: Callable[[Any], object], qos: QoSProfile, refusal: type[ValueError]
    ) -> None:
        """Have `callback` hear what may be followed; see `serl_ros.incoming.subscribe`."""

        def receive(message: Any, info: dict[str, Any]) -> None:
            count, number = subscription.get_publisher_count(), info.get("publication_sequence_number")
            if not self._one.accepts(topic, count, number, time.monotonic()):
                self._say()
                return
            try:
                callback(message)
            except refusal as error:
                refuse(self._node, topic, error)

        subscription = self._node.create_subscription(kind, topic, receive, qos)
        self._subscriptions.append(subscription)

    def _look(self) -> None:
        now = time.monotonic()
        for each in self._subscriptions:
            self._one.look(each.get_publisher_count(), now)
        self._say()

    def _say(self) -> None:
        now = time.monotonic()
        if not self._one.is_disputed(now):
            text = ""
        elif self._told and now - self._named_at < _NAMES_AFTER:
            return
        else:
            self._named_at = now
            text = self._dispute()
        if text != self._told:
            self._told = text
            self._tell(text)

    def _dispute(self) -> str:
        others = [
            f"{info.node_namespace.rstrip('/')}/{info.node_name} on {each.topic_name}"
            for each in self._subscriptions
            if len(infos := self._node.get_publishers_info_by_topic(each.topic_name)) > 1
            for info in infos
        ]
        who = ", ".join(sorted(others)) or "one who has gone or begun meanwhile"
        return f"the arm is commanded by more than one: {who}; none is followed until one alone is left"
