# SPDX-License-Identifier: Apache-2.0
"""How an environment is connected to its graph: node, executor, and waiting that says for what."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.client import Client
from rclpy.exceptions import InvalidNamespaceException
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.validate_namespace import validate_namespace
from serl_ros.execution.executor import FastExecutor

from serl_training.env.episode import EpisodeLost

_CHECK_PERIOD = 0.2  # [s] between looks at whether to wait on


class GraphError(EpisodeLost):
    """The graph did not do what was needed: says what was missing and for how long."""


class GraphConnection:
    """A node in the graph and the executor that spins it, of the environment's own or of whoever made it."""

    def __init__(
        self, node: Node | None, executor: FastExecutor | None, namespace: str, check: Callable[[], None]
    ) -> None:
        """Connect.

        Args:
            node: to use; None makes one of its own, in a context of its own.
            executor: that has `node`; needed with it.
            namespace: of an own node.
            check: called a few times a second while something is waited for; what it raises ends the wait.

        Raises:
            ValueError: `node` without `executor` or with `namespace`, or a `namespace` that is none.
            RuntimeError: this process was forked from one that had a connection of its own.
        """
        if node is not None and (executor is None or namespace):
            raise ValueError("GraphEnv: a node needs the executor that spins it, executor=; it has a namespace already")
        self.check = check
        self._context: rclpy.Context | None = None
        if node is None or executor is None:
            full_namespace = "/" + namespace.strip("/")
            try:
                validate_namespace(full_namespace)
            except InvalidNamespaceException as error:
                raise ValueError(f"namespace: expected letters, digits and _, found {namespace!r}") from error
            self._context = _own_context()
            node = rclpy.create_node("graph_env", namespace=full_namespace, context=self._context)
            executor = FastExecutor(context=self._context)
        executor.add_node(node)
        self.node, self.executor = node, executor

    def wait(
        self,
        condition: Callable[[], bool],
        timeout: float,
        what: Callable[[], str],
        *,
        notice: Callable[[str], None] = lambda _what: None,
        advice: str = "is that node running?",
    ) -> None:
        """Spin until `condition()` is true.

        Args:
            condition: looked at after each callback.
            timeout: longest wait [s].
            what: says what is waited for.
            notice: told a few times a second what is waited for.
            advice: what to do about it when the time is over.

        Raises:
            GraphError: the condition did not come true within `timeout`.
        """
        started = time.monotonic()
        while not self.executor.spin_until(condition, min(timeout, _CHECK_PERIOD)):
            waited = time.monotonic() - started
            if waited >= timeout:
                raise GraphError(f"waited {waited:.1f} s for {what()}; {advice}")
            self.check()
            notice(what())

    def call(self, client: Client, request: Any, timeout: float, server: str) -> Any:
        """Call a service and return its answer.

        Args:
            client: of the service.
            request: to send.
            timeout: longest wait for the service, and then for its answer [s].
            server: node that serves, for the error.

        Raises:
            GraphError: there is no such service, or no answer.
        """
        name = client.srv_name.rsplit(self.node.get_namespace().rstrip("/") + "/", 1)[-1]
        self.wait(client.service_is_ready, timeout, lambda: f"service {name} ({server})")
        future = client.call_async(request)
        try:
            self.wait(future.done, timeout, lambda: f"the answer of {name} ({server})")
        except GraphError:
            client.remove_pending_request(future)
            raise
        return future.result()

    def close(self) -> None:
        """Leave the graph, if the node is the connection's own. A second call does nothing."""
        if self._context is not None and self._context.ok():
            self.executor.shutdown(timeout_sec=1.0)
            self.node.destroy_node()
            self._context.try_shutdown()


_uses_ros = _is_forked = False


def _after_fork() -> None:
    global _is_forked
    _is_forked = _uses_ros


os.register_at_fork(after_in_child=_after_fork)


def _own_context() -> rclpy.Context:
    """A context of a connection's own. Signals stay the program's, so Ctrl-C raises KeyboardInterrupt."""
    global _uses_ros
    if _is_forked:  # without the middleware's threads, whose answers would be waited for without end
        raise RuntimeError(
            "ROS 2 does not survive a fork, and the process that this one was forked from had a GraphEnv. Start "
            "processes with multiprocessing's context forkserver or spawn, as AsyncVectorEnv(..., context='spawn') does"
        )
    _uses_ros = True
    context = rclpy.Context()
    named = [] if "--enclave" in sys.argv else ["--ros-args", "--enclave", "/script"]
    rclpy.init(args=[*sys.argv, *named], context=context, signal_handler_options=SignalHandlerOptions.NO)
    return context
