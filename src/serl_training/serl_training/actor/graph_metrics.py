# SPDX-License-Identifier: Apache-2.0
"""Named numbers of an actor, on a topic that a learner or the command line listens to."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rclpy.node import Node
from serl_ros.qos import RELIABLE_50

from serl_interfaces.msg import Metrics


class MetricsPublisher:
    """Publishes on `metrics`, below a prefix."""

    def __init__(self, node: Node, prefix: str = "") -> None:
        """Publish on the topic ``<prefix>metrics`` of `node`."""
        self._node = node
        self._publisher = node.create_publisher(Metrics, f"{prefix}metrics", RELIABLE_50)

    def __call__(self, env_steps: int, values: Mapping[str, float]) -> None:
        """Publish `values`, as they were after `env_steps`, without what is no number; says which arm's they are.

        Where nothing is left, nothing is published.
        """
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        if not finite:
            return
        message = Metrics(
            node=self._node.get_fully_qualified_name().lstrip("/"),
            env_steps=env_steps,
            names=list(finite),
            values=list(finite.values()),
        )
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)
