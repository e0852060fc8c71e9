# SPDX-License-Identifier: Apache-2.0
"""The e-stop of one arm, as `./serl estop` gives it: by the service `arm/estop`, and again until the arm has it."""

import time
from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from serl_interfaces.msg import SafetyStatus

_AGAIN = 0.1  # [s] until an arm that has not said that it is stopped is asked again


class GraphEstop:
    """Asks for the stop at once, in whichever thread."""

    def __init__(self, node: Node, notice: Callable[[str], object], halt: Callable[[], object] = lambda: None) -> None:
        """Connect.

        Args:
            node: that asks.
            notice: takes a sentence for all who look.
            halt: a second way to the arm that needs no ROS, where there is one.
        """
        self._notice, self._halt = notice, halt
        self._stop_client = node.create_client(SetBool, "arm/estop")
        self._release_client = node.create_client(Trigger, "arm/reset_estop")
        self._asked_at: float | None = None
        self._called_at = 0.0
        self._stops = 0  # that the arm controller has counted when it last said that the arm is stopped; 0: it is not
        self.by = ""
        """Who stopped it from here, while it is stopped."""

    def stop(self, who: str) -> None:
        """Stop the arm. Returns at once."""
        now = time.monotonic()
        if self._asked_at is None:
            self._asked_at = now
        if not self.by:  # a page asks by two ways, and others may press, too
            self.by = who
            self._notice(f"e-stop by {who}")
        self._call(now)
        self._halt()

    def waits(self, now: float) -> float:
        """Time [s] for which the arm has not said that it is stopped; 0: it has, or nobody asked."""
        asked_at = self._asked_at  # which another thread may take away
        return 0.0 if asked_at is None else max(now - asked_at, 1e-3)

    def tick(self, now: float) -> None:
        """Ask again; called at least 20 times a second."""
        if self._asked_at is not None and now - self._called_at >= _AGAIN:
            self._call(now)

    def hear(self, safety: SafetyStatus) -> None:
        """`arm/safety` came."""
        counts = dict(zip(safety.limit_names, safety.limit_counts, strict=False))
        stops = counts.get("estop", 0) + counts.get("fault", 0)
        if safety.estop:
            self._asked_at, self._stops = None, stops
        elif stops < self._stops:  # nobody has released it: another controller, which knows of no stop
            self._stops = 0
            self._notice("the arm controller was started again while the arm was stopped: it is stopped again")
            self.stop(self.by or "whoever stopped it before")
        elif self._asked_at is None:
            self.by, self._stops = "", 0

    def release(self, who: str) -> None:
        """Release the stop; what the arm answers becomes a notice."""
        if self._asked_at is not None:
            self._notice(f"{who}: not released: the arm has not said yet that it is stopped")
        elif not self._release_client.service_is_ready():
            self._notice(f"{who}: not released: nobody offers {self._release_client.service_name}")
        else:
            self._release_client.call_async(Trigger.Request()).add_done_callback(
                lambda future: self._notice(f"{who}: {future.result().message}")
            )

    def _call(self, now: float) -> None:
        self._called_at = now
        if self._stop_client.service_is_ready():
            asked_at = self._asked_at
            self._stop_client.call_async(SetBool.Request(data=True)).add_done_callback(
                lambda future: self._on_answer(future, asked_at)
            )

    def _on_answer(self, future: Any, asked_at: float | None) -> None:
        """An answer; one that is late, of a stop that was released meanwhile, says nothing of the one after."""
        if future.result().success and asked_at == self._asked_at:
            self._asked_at = None
