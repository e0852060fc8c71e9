# SPDX-License-Identifier: Apache-2.0
"""A single-threaded executor whose wait set lives as long as the node's entities do.

rclpy's own executor collects every entity of every node and builds a wait set, a task and a coroutine for each
callback, which costs more than most callbacks. In a lockstep simulation every process handles a few messages for each
control step, so that cost is the step rate. Here what has a plain callback is taken and called directly; actions, guard
conditions and coroutines go the way they go in rclpy.
"""

import inspect
import time
from collections.abc import Callable, Iterable
from typing import Any

from rclpy.client import Client
from rclpy.event_handler import EventHandler
from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
from rclpy.service import Service
from rclpy.subscription import Subscription
from rclpy.timer import Timer

TimerHandle = _rclpy.Timer

_EVENT_CHECK_PERIOD_NS = 500_000_000
_SIGNAL_CHECK_PERIOD_NS = 100_000_000


class FastExecutor(SingleThreadedExecutor):
    """Drop-in for :class:`rclpy.executors.SingleThreadedExecutor` with cheap callbacks."""

    _tasks: list[Any]  # rclpy's: what is being executed

    def __init__(self, **kwargs: Any) -> None:
        """Take the arguments of :class:`rclpy.executors.SingleThreadedExecutor`."""
        super().__init__(**kwargs)
        self._stale = True
        self._next_event_check_ns = 0

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Wait until something is ready, at most `timeout_sec` [s], and handle it.

        What is ready together is handled together.
        """
        timeout_ns = -1 if timeout_sec is None else int(timeout_sec * 1e9)
        if self._tasks:
            # rclpy forgets what is done only when it collects again, and would then take the next message as well.
            with self._tasks_lock:
                self._tasks = [task for task in self._tasks if not task[0].done()]
        if self._tasks or time.monotonic_ns() >= self._next_event_check_ns:
            self._spin_rest()
            timeout_ns = 0 if self._tasks else timeout_ns
        if self._stale:
            self._collect()
        self._wait(timeout_ns)

    def spin(self) -> None:
        """Handle callbacks until the context is shut down."""
        while self._context.ok() and not self._is_shutdown:
            self.spin_once(0.1)

    def spin_until(self, condition: Callable[[], bool], timeout_sec: float) -> bool:
        """Handle callbacks until `condition()` holds; False when it did not within `timeout_sec` [s].

        Python's signal handlers run at least every 0.1 s meanwhile.
        """
        if condition():
            return True
        deadline_ns = time.monotonic_ns() + int(timeout_sec * 1e9)
        while self._context.ok() and not self._is_shutdown:
            left_ns = deadline_ns - time.monotonic_ns()
            self.spin_once(max(0, min(left_ns, _SIGNAL_CHECK_PERIOD_NS)) / 1e9)
            if condition():
                return True
            if left_ns <= 0:
                return False
        return False

    def wake(self) -> None:
        """Called by rclpy whenever an entity is created or destroyed."""
        self._stale = True
        super().wake()

    def _spin_rest(self) -> None:
        """Let rclpy handle one thing that is ready: a task, an action, an event."""
        self._next_event_check_ns = time.monotonic_ns() + _EVENT_CHECK_PERIOD_NS
        super().spin_once(0.0)

    def _collect(self) -> None:
        """Rebuild the wait set. QoS event handlers stay outside: rclpy looks at them twice a second."""
        self._stale = False
        nodes = self.get_nodes()
        self._subscriptions = [s for node in nodes for s in node.subscriptions]
        self._timers = [t for node in nodes for t in node.timers]
        self._clients = [c for node in nodes for c in node.clients]
        self._services = [s for node in nodes for s in node.services]
        self._guards = [g for node in nodes for g in node.guards]
        self._waitables = [w for node in nodes for w in node.waitables if not isinstance(w, EventHandler)]
        self._dispatch: list[tuple[str, dict[int, Any], Callable[[Any], None]]] = [
            ("subscription", _by_pointer(self._subscriptions), _handle_message),
            ("timer", _by_pointer(self._timers, hasattr(TimerHandle, "call_timer")), _handle_timer),
            ("client", {client.handle.pointer: client for client in self._clients}, self._handle_response),
            ("service", _by_pointer(self._services), _handle_request),
        ]
        counts = [len(self._subscriptions), len(self._guards) + 2, len(self._timers), len(self._clients),
                  len(self._services), 0]  # fmt: skip
        for waitable in self._waitables:
            needed = waitable.get_num_entities()
            for index, field in enumerate(("subscriptions", "guard_conditions", "timers", "clients", "services")):
                counts[index] += getattr(needed, f"num_{field}")
        handle = self._context.handle
        if handle is None:
            raise RuntimeError("the executor's context was never initialized; call rclpy.init first")
        with handle:
            self._wait_set = _rclpy.WaitSet(*counts, handle)

    def _wait(self, timeout_ns: int) -> None:
        wait_set = self._wait_set
        wait_set.clear_entities()
        try:
            _add(wait_set.add_subscription, self._subscriptions)
            _add(wait_set.add_timer, self._timers)
            _add(wait_set.add_client, self._clients)
            _add(wait_set.add_service, self._services)
            _add(wait_set.add_guard_condition, self._guards)
            for waitable in self._waitables:
                waitable.add_to_wait_set(wait_set)
        except _rclpy.InvalidHandle:  # destroyed since the last collection
            self._stale = True
            return
        wait_set.add_guard_condition(self._guard.handle)
        wait_set.add_guard_condition(self._sigint_gc.handle)
        wait_set.wait(timeout_ns)

        others = False
        for kind, entities, handle in self._dispatch:
            for pointer in wait_set.get_ready_entities(kind):
                entity = entities.get(pointer)
                if entity is not None:
                    handle(entity)
                else:
                    others = True
        guards = wait_set.get_ready_entities("guard_condition")
        for guard in self._guards:
            if guard.handle.pointer in guards:
                guard._executor_triggered = True  # rclpy triggers it again when it collects
                others = True
        if others or any(waitable.is_ready(wait_set) for waitable in self._waitables):
            self._spin_rest()

    def _handle_response(self, client: Client) -> None:
        header, response = client.handle.take_response(client.srv_type.Response)
        if header is None:
            return
        try:
            future = client.get_pending_request(header.request_id.sequence_number)
        except KeyError:  # nobody waits for it any more
            return
        future._set_executor(self)
        future.set_result(response)


def _add(add: Callable[[Any], object], entities: Iterable[Any]) -> None:
    for entity in entities:
        add(entity.handle)


def _handle_message(subscription: Subscription) -> None:
    taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
    if taken is None:
        return
    if subscription._callback_type is Subscription.CallbackType.MessageOnly:
        subscription.callback(taken[0])
    else:
        subscription.callback(*taken)


def _handle_timer(timer: Timer) -> None:
    if timer.handle.is_timer_ready():  # it may have been cancelled since the wait
        timer.handle.call_timer()
        timer.callback()


def _handle_request(service: Service) -> None:
    request, header = service.handle.service_take_request(service.srv_type.Request)
    if header is not None:
        service.send_response(service.callback(request, service.srv_type.Response()), header)


def _by_pointer(entities: Iterable[Any], usable: bool = True) -> dict[int, Any]:
    """Those with plain callbacks, by the pointer under which a wait set reports them; coroutines are rclpy's."""
    return {e.handle.pointer: e for e in entities if usable and not inspect.iscoroutinefunction(e.callback)}
