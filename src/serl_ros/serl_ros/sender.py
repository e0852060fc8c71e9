# SPDX-License-Identifier: Apache-2.0
"""The name under which a node sends a person's actions."""

import uuid

from rclpy.node import Node

REAL_PERSON = 1
"""Priority of devices and pages: the scripted person, who has 0, yields to whoever is really there."""


def sender_of(node: Node) -> str:
    """A name for `ActionCommand.sender` that no other node has, not even one of the same name in the same graph."""
    return f"{node.get_fully_qualified_name()} {uuid.uuid4().hex[:8]}"
