# SPDX-License-Identifier: Apache-2.0
"""Whether what an arm is commanded comes from one node alone.

ROS tells a receiver no sender. What it does tell is how many publishers a topic has, and the number that a publisher
has given to a message, one more than to that before. So nobody is followed while a topic of commands has two
publishers; and a number that is not larger than the last one is another publisher's, who may have gone already, or has
just begun. Where the middleware gives no numbers (Cyclone DDS), a message of one who has come and gone between two
others is not noticed.
"""

from __future__ import annotations

import math


class OneCommander:
    """Says of each command whether it may be followed. Call it for all topics by which one arm is commanded."""

    def __init__(self, patience: float) -> None:
        """Nobody has commanded yet; `patience` after the last sign of a second one, who is left is followed [s]."""
        self._patience = patience
        self._heard: dict[str, int] = {}  # number of the last message, by topic
        self._seen_two_at = -math.inf

    def accepts(self, topic: str, publishers: int, number: int | None, now: float) -> bool:
        """Whether a message may be followed.

        Args:
            topic: on which it came.
            publishers: that this topic has now.
            number: which its publisher has given to it; None: the middleware tells none.
            now: local time [s].
        """
        self.look(publishers, now)
        if number is not None:
            if number <= self._heard.get(topic, 0):
                self._seen_two_at = now
            self._heard[topic] = number
        return not self.is_disputed(now)

    def look(self, publishers: int, now: float) -> None:
        """Hear how many publishers one of the topics has now [s]."""
        if publishers > 1:
            self._seen_two_at = now

    def is_disputed(self, now: float) -> bool:
        """Whether nobody is followed at this time [s], as more than one commands the arm, or has until just now."""
        return now - self._seen_two_at < self._patience
