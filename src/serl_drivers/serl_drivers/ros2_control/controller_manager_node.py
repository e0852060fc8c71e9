# SPDX-License-Identifier: Apache-2.0
"""The services of a controller_manager, asked from a thread that does not spin."""

from __future__ import annotations

import threading
from typing import Any

from builtin_interfaces.msg import Duration
from controller_manager_msgs.srv import ListControllers, SwitchController
from rclpy.client import Client
from rclpy.node import Node

from serl_drivers.device import DriverError
from serl_drivers.ros2_control.controllers import Controller, Switch

_SWITCH_TIME = 2  # [s] that the manager has for a switch
_LOOK_TIME = 1.0  # [s] that it has for a look: one that has been started anew does not answer what was asked before


class ControllerManager:
    """Asks one controller_manager. Another thread spins the node meanwhile."""

    def __init__(self, node: Node, name: str) -> None:
        """Ask the manager `name`, relative to the namespace of `node`."""
        self._list = node.create_client(ListControllers, f"{name}/list_controllers")
        self._switch = node.create_client(SwitchController, f"{name}/switch_controller")
        self._node = node
        self.name = node.resolve_service_name(name)
        """Full name."""
        self._pending: Any = None
        self._asked_at = 0.0  # local time [s]
        self._seen: tuple[Controller, ...] | None = None

    def controllers(self, timeout: float) -> tuple[Controller, ...]:
        """All controllers that are loaded.

        Raises:
            DriverError: nothing answers within `timeout` [s].
        """
        return _controllers(self._ask(self._list, ListControllers.Request(), timeout))

    def switch(self, switch: Switch, timeout: float) -> None:
        """Activate and deactivate in one step, all of it or nothing.

        Raises:
            DriverError: nothing answers within `timeout` [s], or it is refused, with the manager's reason.
        """
        request = SwitchController.Request(
            activate_controllers=list(switch.activate),
            deactivate_controllers=list(switch.deactivate),
            strictness=SwitchController.Request.STRICT,
            activate_asap=True,
            timeout=Duration(sec=_SWITCH_TIME),
        )
        response = self._ask(self._switch, request, timeout)
        if not response.ok:
            raise DriverError(
                f"{self.name} refused to switch: {response.message or 'it does not say why, its log does'}; try "
                f"`{switch.command}`"
            )

    def look(self, now: float) -> tuple[Controller, ...] | None:
        """What the last look has found, and begin another one; None: nothing new.

        From the thread that spins, at the local time `now` [s].
        """
        if self._pending is not None and self._pending.done():
            answer, self._pending = self._pending.result(), None
            self._seen = None if answer is None else _controllers(answer)
        elif self._pending is not None and now - self._asked_at > _LOOK_TIME:
            self._list.remove_pending_request(self._pending)
            self._pending = None
        if self._pending is None and self._list.service_is_ready():
            self._pending, self._asked_at = self._list.call_async(ListControllers.Request()), now
        seen, self._seen = self._seen, None
        return seen

    def _ask(self, client: Client, request: Any, timeout: float) -> Any:
        name = self._node.resolve_service_name(client.srv_name)
        if not client.wait_for_service(timeout_sec=timeout):
            raise DriverError(
                f"no {name} after {timeout:g} s: is ros2_control started, and its controller_manager in "
                "this namespace? `ros2 control list_controllers` has to answer"
            )
        done = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: done.set())
        if not done.wait(timeout):
            client.remove_pending_request(future)
            raise DriverError(f"{name} has not answered within {timeout:g} s")
        answer = future.result()
        if answer is None:
            raise DriverError(f"{name} has failed to answer")
        return answer


def _controllers(answer: Any) -> tuple[Controller, ...]:
    return tuple(
        Controller(each.name, each.state, tuple(each.required_command_interfaces), tuple(each.claimed_interfaces))
        for each in answer.controller
    )
