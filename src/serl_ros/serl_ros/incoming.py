# SPDX-License-Identifier: Apache-2.0
"""Subscriptions whose callbacks may refuse a message: one throttled line says what was wrong with it."""

from collections import Counter
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription

from serl_ros import diagnostics
from serl_ros.log import WARN, log

_REPEAT_AFTER = 5.0  # [s] between two lines about the same topic

_refused: WeakKeyDictionary[Node, Counter[str]] = WeakKeyDictionary()


def subscribe(
    node: Node,
    kind: Any,
    topic: str,
    callback: Callable[[Any], object],
    qos: QoSProfile,
    refusal: type[ValueError],
) -> Subscription:
    """Like `create_subscription`, for a callback that checks its messages.

    Args:
        node: that subscribes.
        kind: type of the messages.
        topic: relative name.
        callback: gets each message.
        qos: of the subscription.
        refusal: what `callback` raises about a message that it cannot use; see :func:`refuse`.
    """

    def receive(message: Any) -> None:
        try:
            callback(message)
        except refusal as error:
            refuse(node, topic, error)

    return node.create_subscription(kind, topic, receive, qos)


def refuse(node: Node, topic: str, reason: object) -> None:
    """Say on the log and on /diagnostics that a message on `topic` was not used, and count it."""
    log(node, WARN, f"{topic}: message refused: {reason}", throttle=_REPEAT_AFTER, key=("refused", topic))
    counts = _refused.setdefault(node, Counter())
    counts[topic] += 1
    status = diagnostics.of(node)
    if status is not None:
        values = {f"refused on {name}": count for name, count in counts.items()}
        status.set("messages", diagnostics.WARN, f"refused on {topic}: {reason}", **values)
