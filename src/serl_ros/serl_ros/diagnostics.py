# SPDX-License-Identifier: Apache-2.0
"""What a node says of itself on /diagnostics, once a second."""

import weakref

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from serl_config.text import printable

from serl_ros.qos import RELIABLE_10

OK = DiagnosticStatus.OK
WARN = DiagnosticStatus.WARN
ERROR = DiagnosticStatus.ERROR
STALE = DiagnosticStatus.STALE

_of_node: weakref.WeakKeyDictionary[Node, "weakref.ref[Diagnostics]"] = weakref.WeakKeyDictionary()


def of(node: Node) -> "Diagnostics | None":
    """Return the diagnostics of `node`, or None when it publishes none."""
    reference = _of_node.get(node)
    return None if reference is None else reference()


class Diagnostics:
    """One status for each component of a node.

    The timer runs on the steady clock: a paused simulation must not silence the node that says why it is paused.
    """

    def __init__(self, node: Node, hardware_id: str = "", period: float = 1.0) -> None:
        """Publish every `period` [s] for `node`; `hardware_id` names the device, if there is one.

        In a namespace both names are full, as `/left/arm_controller` and `/left/my_arm`.
        """
        self._node = node
        _of_node[node] = weakref.ref(self)
        # All nodes of a domain report on one topic, so those in namespaces say in which.
        namespace = node.get_namespace().rstrip("/")
        self._name = f"{namespace}/{node.get_name()}" if namespace else node.get_name()
        self._hardware_id = f"{namespace}/{hardware_id}" if namespace and hardware_id else hardware_id
        self._statuses: dict[str, DiagnosticStatus] = {}
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", RELIABLE_10)
        self._timer = node.create_timer(period, self._publish, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def set(self, component: str, level: bytes, message: str, **values: object) -> None:
        """Set the status of `component`; it is repeated until it is set again."""
        self._statuses[component] = DiagnosticStatus(
            level=level,
            name=f"{self._name}: {component}",
            message=printable(message),
            hardware_id=self._hardware_id,
            values=[KeyValue(key=key, value=printable(value)) for key, value in values.items()],
        )

    def _publish(self) -> None:
        if not self._statuses:
            return
        message = DiagnosticArray(status=list(self._statuses.values()))
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)
