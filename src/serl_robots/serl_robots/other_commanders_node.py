# SPDX-License-Identifier: Apache-2.0
"""Who else publishes commands: past the safety filter, or through that of a second controller."""

from collections import Counter
from collections.abc import Iterable

from rclpy.node import Node
from rclpy.publisher import Publisher
from serl_ros.diagnostics import ERROR, OK, Diagnostics

from serl_ros import log as logs

_AGAIN_AFTER = 30.0  # [s] between two log lines


def report_other_commanders(node: Node, publishers: Iterable[Publisher], diagnostics: Diagnostics) -> None:
    """Say who commands the arm beside `node`: what it does is not known here, nor kept within the limits."""
    others = other_commanders(node, publishers)
    if not others:
        diagnostics.set("commands", OK, "from this node alone")
        return
    text = f"the arm is commanded past the safety filter by {others}; end what should not be there"
    diagnostics.set("commands", ERROR, text)
    logs.log(node, logs.ERROR, text, throttle=_AGAIN_AFTER, key="commands")


def other_commanders(node: Node, publishers: Iterable[Publisher]) -> str:
    """Names of other nodes, or of a second one of the same name, on the topics of `publishers`; empty: there are none.

    Each of the publishers is of `node`, and its only one on that topic.
    """
    own = node.get_fully_qualified_name()
    found = []
    for publisher in publishers:
        topic = publisher.topic_name
        if node.count_publishers(topic) < 2:
            continue
        names = Counter(
            f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in node.get_publishers_info_by_topic(topic)
        )
        names.subtract([own])
        found += [f"{name} on {topic}" for name in sorted(+names)]
    return ", ".join(found)
