# SPDX-License-Identifier: Apache-2.0
"""The command line's own ROS node: it calls services and looks at the graph."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from serl_ros.execution.executor import FastExecutor
from serl_ros.incoming import subscribe
from serl_ros.qos import RELIABLE_50
from serl_tasks.messages import MessageError, metric_values

from serl_launch.errors import CommandError

OPERATOR = ("--ros-args", "--enclave", "/operator")
"""Enclave of the commands where ROS 2 is secured (config/security/policy.xml); elsewhere a name that nobody reads."""
SERVICE_TIMEOUT = 5.0  # [s] to find a service, and to get its answer
_TICK = 0.1  # [s]; a signal is noticed within this time
_DISCOVERY = (1.0, 3.0)  # [s] at least and at most that discovery is given
_SETTLED = 0.5  # [s] without a change, after which it counts as done


class Client:
    """A node with its own context and executor, used as a context manager; everything it does has a time limit.

    Python's own SIGINT handling stays in place, so Ctrl-C raises KeyboardInterrupt wherever the client waits.
    """

    def __init__(self, namespace: str = "", domain_id: int | None = None) -> None:
        """Joins a domain.

        Args:
            namespace: of the arm whose graph is meant; relative names are below it.
            domain_id: to join; None: that of the environment.
        """
        self._context = rclpy.Context()
        # Not the arguments of the command line: those are not meant for ROS.
        rclpy.init(
            args=list(OPERATOR),
            context=self._context,
            domain_id=domain_id,
            signal_handler_options=SignalHandlerOptions.NO,
        )
        # A leading underscore hides a node from lists, as those of the ros2 tools are.
        self.node: Node = rclpy.create_node(
            f"_serl_command_{time.time_ns() % 10**9}",
            context=self._context,
            namespace=namespace or None,
            enable_rosout=False,
            start_parameter_services=False,
            parameter_overrides=[Parameter("start_type_description_service", value=False)],
        )
        self.executor = FastExecutor(context=self._context)
        self.executor.add_node(self.node)

    def close(self) -> None:
        """Leaves the graph."""
        self.executor.shutdown(timeout_sec=1.0)
        self.node.destroy_node()
        self._context.try_shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def spin_until(self, condition: Callable[[], bool], timeout: float, tick: Callable[[], None] | None = None) -> bool:
        """Handles messages until `condition()` holds; False when it did not within `timeout` [s].

        Args:
            condition: what is waited for.
            timeout: longest time to wait [s].
            tick: called at least ten times a second; what it raises ends the wait.
        """
        deadline = time.monotonic() + timeout
        while not condition():
            if tick is not None:
                tick()
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self.executor.spin_once(min(left, _TICK))
        return True

    def settle(self) -> None:
        """Waits until the other participants are known: until nothing new was seen for a while."""
        start = time.monotonic()
        seen, since = -1, start
        shortest, longest = _DISCOVERY
        while (now := time.monotonic()) - start < longest and (now - start < shortest or now - since < _SETTLED):
            found = len(self.node.get_node_names()) + len(self.node.get_topic_names_and_types())
            if found != seen:
                seen, since = found, time.monotonic()
            self.executor.spin_once(0.05)

    def on_metrics(self, callback: Callable[[str, int, dict[str, float]], None]) -> None:
        """Calls ``callback(node, env_steps, values)`` for each message on `metrics`."""
        from serl_interfaces.msg import Metrics

        def received(message: Metrics) -> None:
            callback(message.node, message.env_steps, metric_values(message))

        subscribe(self.node, Metrics, "metrics", received, RELIABLE_50, MessageError)

    def call(self, service_type: type, name: str, request: Any) -> Any:
        """Calls a service and returns its response.

        Raises:
            CommandError: nobody offers it, or no answer came in time.
        """
        client = self.node.create_client(service_type, name)
        try:
            if not self.spin_until(client.service_is_ready, SERVICE_TIMEOUT):
                raise CommandError(f"nobody offers the service {client.service_name}: is the graph running?")
            future = client.call_async(request)
            if not self.spin_until(future.done, SERVICE_TIMEOUT):
                raise CommandError(f"no answer from the service {client.service_name} within {SERVICE_TIMEOUT:.0f} s")
            return future.result()
        finally:
            self.node.destroy_client(client)
