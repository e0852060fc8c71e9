# SPDX-License-Identifier: Apache-2.0
"""Who else commands the controllers of an arm: they obey everybody, so somebody has to look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from action_msgs.msg import GoalStatus, GoalStatusArray
from rclpy.node import Node
from serl_ros.qos import LATCHED

_MOVES: Final = (GoalStatus.STATUS_ACCEPTED, GoalStatus.STATUS_EXECUTING)


class OtherCommanders:
    """Publishers on a controller's topic and goals at its actions that are not ours. In the thread that spins."""

    def __init__(self, node: Node) -> None:
        """Look for others than `node`, which publishes once on each topic that is looked at."""
        self._node = node
        self._goals: dict[str, set[bytes]] = {}  # of others, by the actions that are watched
        self._old: set[bytes] = set()  # which no longer count

    def watch_action(self, action: str, is_own: Callable[[bytes], bool] = lambda _: False) -> None:
        """Look for goals at an action, by its full name, whose identifier (16 bytes) is not one of ours."""
        found = self._goals.setdefault(action, set())

        def hear(message: GoalStatusArray) -> None:
            goals = {bytes(each.goal_info.goal_id.uuid) for each in message.status_list if each.status in _MOVES}
            found.update(goal for goal in goals if not is_own(goal))

        self._node.create_subscription(GoalStatusArray, f"{action}/_action/status", hear, LATCHED)

    def forget(self) -> None:
        """Goals that were heard of up to here count no longer, as those of a driver that was killed."""
        self._old = set().union(*self._goals.values())

    def say(self, topic: str) -> str:
        """Who else commands on `topic`, by its full name, or has since `forget` by an action; empty: nobody."""
        found = [
            f"a goal of {action} that is none of this driver's"
            for action, goals in self._goals.items()
            if goals - self._old
        ]
        if self._node.count_publishers(topic) > 1:
            infos = self._node.get_publishers_info_by_topic(topic)
            names = Counter(f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in infos)
            names.subtract([self._node.get_fully_qualified_name()])
            found += [f"{name} on {topic}" for name in sorted(+names)]
        return f"the arm is commanded by others too: {', '.join(found)}; end what should not be there" if found else ""
