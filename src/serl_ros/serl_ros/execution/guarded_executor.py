# SPDX-License-Identifier: Apache-2.0
"""rclpy's single-threaded executor, except that a callback that raises ends a message and not the node.

It is written against rclpy's public interface alone, so it works with every rclpy.
"""

import math
import time
from collections.abc import Callable
from typing import Any

from rclpy.executors import (
    ConditionReachedException,
    ShutdownException,
    SingleThreadedExecutor,
    TimeoutException,
)
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.service import Service
from rclpy.task import Future, Task
from serl_config.text import printable

from serl_ros.execution.faults import answer_always, describe, report_fault

_SIGNAL_CHECK_PERIOD = 0.1  # [s]


class GuardedExecutor(SingleThreadedExecutor):
    """Calls callbacks in the thread that spins it, and reports what they raise instead of raising it.

    See :func:`serl_ros.execution.faults.report_fault`. What is no :class:`Exception`, as :class:`SystemExit` and
    :class:`KeyboardInterrupt`, is raised.
    """

    def __init__(self, **options: Any) -> None:
        """Take the arguments of :class:`rclpy.executors.SingleThreadedExecutor`."""
        super().__init__(**options)
        self._closed = False
        # What was begun and is not done: coroutines that wait for something, and what create_task was given.
        self._unfinished: dict[Task, str] = {}

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Wait until something is ready, at most `timeout_sec` [s], and handle it."""
        self._spin_one(timeout_sec)

    def spin_once_until_future_complete(self, future: Future, timeout_sec: Any = None) -> None:
        """Like :meth:`spin_once`, and return at once when `future` is done."""
        if not future.done():
            future.add_done_callback(lambda _: self.wake())
            self.spin_once(getattr(timeout_sec, "timeout", timeout_sec))

    def spin(self) -> None:
        """Handle callbacks until the context or the executor is shut down."""
        self.spin_until(lambda: False, math.inf)

    def spin_until_future_complete(self, future: Future, timeout_sec: float | None = None) -> None:
        """Handle callbacks until `future` is done, or for `timeout_sec` [s]."""
        future.add_done_callback(lambda _: self.wake())
        timeout = math.inf if timeout_sec is None or timeout_sec < 0 else timeout_sec
        self.spin_until(lambda: future.done() or future.cancelled(), timeout)

    def spin_until(self, condition: Callable[[], bool], timeout_sec: float) -> bool:
        """Handle callbacks until `condition()` holds; False when it did not within `timeout_sec` [s].

        Python's signal handlers run at least every 0.1 s meanwhile.
        """
        if condition():
            return True
        deadline = time.monotonic() + timeout_sec
        while self.context.ok() and not self._closed:
            left = deadline - time.monotonic()
            self.spin_once(max(0.0, min(left, _SIGNAL_CHECK_PERIOD)))
            if condition():
                return True
            if left <= 0:
                return False
        return False

    def create_task(self, callback: Any, *args: Any, **kwargs: Any) -> Task:
        """Have `callback` called, or the coroutine awaited, while spinning."""
        task = super().create_task(callback, *args, **kwargs)
        self._unfinished[task] = f"task {getattr(callback, '__qualname__', '')}".strip()
        return task

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        """Stop; see :meth:`rclpy.executors.Executor.shutdown`."""
        self._closed = True
        return super().shutdown(timeout_sec)

    def _spin_one(self, timeout_sec: float | None, **look: Any) -> None:
        """Let rclpy find one thing that is ready, and do it; it looks anew where `look` is not as the last time."""
        try:
            task, entity, node = self.wait_for_ready_callbacks(timeout_sec, **look)
        except (TimeoutException, ShutdownException, ConditionReachedException):
            return
        if isinstance(entity, Service) and node is not None:
            answer_always(entity, node)
        task()
        name = self._unfinished.pop(task, None) or describe(entity)
        if not task.done():
            if not task.cancelled():
                self._unfinished[task] = name
        elif (error := task.exception()) is not None:
            self._report(node, name, error)

    def _report(self, node: Node | None, where: str, error: Exception) -> None:
        if node is None:  # a task belongs to no node: the only one here is meant
            node = next(iter(self.get_nodes()), None)
        if node is None:
            get_logger("executor").error(f"callback failed: {where}: {printable(repr(error))}")
        else:
            report_fault(node, where, error)
