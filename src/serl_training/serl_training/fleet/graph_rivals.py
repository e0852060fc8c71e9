# SPDX-License-Identifier: Apache-2.0
"""Whether another fleet is at work in the same namespace, which is looked for as long as a fleet lives."""

from __future__ import annotations

import math
import re
import time
import uuid

from rclpy.node import Node
from serl_config.text import printable
from serl_ros.incoming import subscribe
from serl_ros.qos import RELIABLE_50
from serl_tasks.messages import MessageError
from std_msgs.msg import String

SESSION = "fleet/session"
"""Topic on which each fleet says that it is there: its identifier, and for how long it has been at work [s]."""
_PERIOD = 0.5  # [s]
_TIE = 2.0  # [s] of difference up to which identifiers decide: what is told has been on its way for a moment
_WORDS = re.compile(r"([0-9a-f]{32}) (\d{1,10}\.\d{1,3})")


def must_end(own: tuple[str, float], other: tuple[str, float]) -> bool:
    """Whether one of two fleets has to end for the other: the one that came later, and of two that came at once one.

    Args:
        own: identifier, and for how long it has been at work [s].
        other: the same of the other, as it has told it, some time ago.
    """
    difference = own[1] - other[1]
    return own[0] > other[0] if abs(difference) < _TIE else difference < 0.0


class Rivals:
    """Tells other fleets of this one, and listens to them.

    Attributes:
        problem: why this fleet has to end; empty while it has not.
    """

    def __init__(self, node: Node) -> None:
        """Listen, and say nothing yet: until `begin` any other comes first."""
        self._node, self._id = node, uuid.uuid4().hex
        self._began, self._told_at = math.inf, -math.inf
        self._subscription = subscribe(node, String, SESSION, self._hear, RELIABLE_50, MessageError)
        self._publisher = node.create_publisher(String, SESSION, RELIABLE_50)
        self.problem = ""

    def begin(self) -> None:
        """Be at work from now on."""
        self._began = time.monotonic()

    def tell(self) -> None:
        """Say that this fleet is there, twice a second at most."""
        now = time.monotonic()
        if now >= max(self._began, self._told_at + _PERIOD):
            self._told_at = now
            self._publisher.publish(String(data=f"{self._id} {now - self._began:.3f}"))

    def _hear(self, message: String) -> None:
        words = _WORDS.fullmatch(message.data)
        if words is None:
            found = printable(message.data, 80)
            raise MessageError(f"data: expected an identifier of 32 hexadecimal digits and seconds, found {found!r}")
        if words[1] != self._id and must_end((self._id, time.monotonic() - self._began), (words[1], float(words[2]))):
            space = self._node.get_namespace()
            self.problem = (
                f"another fleet is at work in {space}, and came first; end it, or give this one another ROS_DOMAIN_ID "
                "or namespace (fleet:=NAME)"
            )
