# SPDX-License-Identifier: Apache-2.0
"""What the driver of an arm says of itself on `driver/status`, for those who command the arm."""

from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node
from serl_config.text import printable

from serl_ros.qos import LATCHED


class DriverStatus:
    """Why a driver moves nothing, by its own word, which holds as long as somebody is there who gives it.

    The word of one who has gone is no reason to wait: nobody is left to take it back. The next driver gives its own.
    """

    def __init__(
        self,
        node: Node,
        topic: str = "driver/status",
        on_change: Callable[[str], None] = lambda _: None,
        guarded: Callable[[str, Callable[..., None]], Callable[..., None]] = lambda _, callback: callback,
    ) -> None:
        """Listen.

        Args:
            node: who listens.
            topic: of the driver.
            on_change: told why the driver moves nothing with each of its messages, and "" once it has gone.
            guarded: puts something around a callback, of which it is told the entity.
        """
        self._problem, self._on_change = "", on_change
        # Any holds the subscription: rclpy keeps no other reference to it.
        self.subscription: Any = node.create_subscription(
            DiagnosticStatus, topic, guarded(f"topic {topic}", self._on_status), LATCHED
        )

    @property
    def problem(self) -> str:
        """Why the driver moves nothing; empty: it does what is commanded, or there is none."""
        self.look()
        return self._problem

    def look(self) -> None:
        """Forget the word of one who has gone."""
        if self._problem and not self.subscription.get_publisher_count():
            self._problem = ""
            self._on_change("")

    def _on_status(self, status: DiagnosticStatus) -> None:
        self._problem = _problem(status)
        self._on_change(self._problem)


def _problem(status: DiagnosticStatus) -> str:
    if status.level == DiagnosticStatus.OK:
        return ""
    state = next((value.value for value in status.values if value.key == "state"), "")
    advice = {"fault": "; see to that, then ./serl driver connect", "limp": "; ./serl driver hold switches it on"}
    return printable(f"the driver, which moves nothing: {status.message}") + advice.get(state, "")
