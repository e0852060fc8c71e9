# SPDX-License-Identifier: Apache-2.0
"""What a fleet knows of its learner: what is stored, and which policy there is."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.node import Node
from serl_ros.execution.executor import FastExecutor
from serl_ros.log import WARN, log
from serl_ros.qos import LATCHED

from serl_interfaces.msg import PolicyParameters
from serl_interfaces.srv import InsertTransitions
from serl_training.link.graph_id import belong_together
from serl_training.link.graph_insertion_client import InsertionClient
from serl_training.link.learner_link import LearnerTotals

_NOTICE = 5.0  # [s]


class LearnerView:
    """Asks a learner, and sends it nothing."""

    def __init__(self, node: Node, executor: FastExecutor, graph_id: str, check: Callable[[], None]) -> None:
        """Connect; `check` is called while waiting, and may raise to leave."""
        self._node, self._executor, self._graph_id, self._check = node, executor, graph_id, check
        self._session, self._updates = "", -1
        client = node.create_client(InsertTransitions, "learner/insert")
        self._insertion = InsertionClient(node, client, actor_id="fleet", graph_id=graph_id)
        self._subscription = node.create_subscription(PolicyParameters, "learner/policy", self._on_policy, LATCHED)

    def totals(self) -> LearnerTotals:
        """What the learner has stored by now; waits for its answer."""
        self._insertion.connected = False
        self._wait(self._answered, "learner/insert and learner/policy (learner)")
        return self._insertion.stored

    def await_updates(self, count: int) -> None:
        """Tell the learner that demonstrations are complete; wait for a policy with so many updates behind it."""
        self._insertion.connected = False  # to ask is what tells it
        self._wait(lambda: self._answered() and self._updates >= count, f"a policy after {count} updates")

    def _answered(self) -> bool:
        self._insertion.pump()
        return self._insertion.ask_each(self._session) and self._updates >= 0

    def _on_policy(self, message: PolicyParameters) -> None:
        if belong_together(message.graph_id, self._graph_id):
            self._session, self._updates = message.session, message.updates

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        notice = time.monotonic() + _NOTICE
        while not self._executor.spin_until(condition, 0.2):
            self._check()
            if time.monotonic() >= notice:
                notice = time.monotonic() + _NOTICE
                log(self._node, WARN, f"waiting for {what}")
