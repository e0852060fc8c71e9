# SPDX-License-Identifier: Apache-2.0
"""A single-threaded executor whose wait set lives as long as the node's entities do.

rclpy's own executor collects every entity of every node and builds a wait set, a task and a coroutine for each
callback, which costs more than most callbacks. In a lockstep simulation every process handles a few messages for each
control step, so that cost is the step rate. Here what has a plain callback is taken and called directly; actions and
coroutines go the way they go in rclpy.
"""

import inspect
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from rclpy.client import Client
from rclpy.event_handler import EventHandler
from rclpy.exceptions import InvalidHandle
from rclpy.guard_condition import GuardCondition
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.service import Service
from rclpy.subscription import Subscription
from rclpy.timer import Timer

from serl_ros.execution import rclpy_layout
from serl_ros.execution.faults import answer_always, describe
from serl_ros.execution.guarded_executor import GuardedExecutor

CHOICE = "SERL_EXECUTOR"
"""Environment variable: ``rclpy`` has rclpy find what is ready; ``fast``, the default, does so where it can."""

_EVENT_CHECK_PERIOD_NS = 500_000_000
_COROUTINE_CHECK_PERIOD_NS = 1_000_000

_said = False


class FastExecutor(GuardedExecutor):
    """Drop-in for :class:`rclpy.executors.SingleThreadedExecutor` with cheap callbacks that end no node.

    With an rclpy that is built in a way it does not know it is a :class:`GuardedExecutor`, and says so once.
    """

    def __init__(self, **options: Any) -> None:
        """Take the arguments of :class:`rclpy.executors.SingleThreadedExecutor`.

        Raises:
            ValueError: the environment variable `SERL_EXECUTOR` is neither ``fast`` nor ``rclpy``.
        """
        super().__init__(**options)
        self._library = rclpy_layout.compiled()
        self._fast = _may_be_fast(self.context)
        self._stale = True
        self._next_event_check_ns = 0
        self._wakeup = GuardCondition(callback=None, callback_group=None, context=self.context) if self._fast else None

    @property
    def is_fast(self) -> bool:
        """Whether it finds what is ready itself instead of leaving that to rclpy."""
        return self._fast

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Wait until something is ready, at most `timeout_sec` [s], and handle it.

        What is ready together is handled together.
        """
        if not self._fast:
            super().spin_once(timeout_sec)
            return
        timeout_ns = -1 if timeout_sec is None else int(timeout_sec * 1e9)
        if self._unfinished or time.monotonic_ns() >= self._next_event_check_ns:
            self._spin_rest(len(self._unfinished) + 1)
            if self._unfinished:  # rclpy asks a coroutine again and again whether it can go on
                timeout_ns = min(timeout_ns, _COROUTINE_CHECK_PERIOD_NS) if timeout_ns >= 0 else 0
        if self._closed:
            return
        if self._stale:
            self._collect()
        self._wait(timeout_ns)

    def create_task(self, callback: Any, *args: Any, **kwargs: Any) -> Any:
        """Have `callback` called, or the coroutine awaited, while spinning."""
        task = super().create_task(callback, *args, **kwargs)
        self._trigger()
        return task

    def add_node(self, node: Node) -> bool:
        """Serve `node` too; see :meth:`rclpy.executors.Executor.add_node`."""
        added = super().add_node(node)
        self.wake()
        return added

    def remove_node(self, node: Node) -> None:
        """Serve `node` no more; see :meth:`rclpy.executors.Executor.remove_node`."""
        super().remove_node(node)
        self.wake()

    def wake(self) -> None:
        """Called by rclpy whenever an entity is created or destroyed."""
        self._stale = True
        super().wake()
        self._trigger()

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        """Stop; see :meth:`rclpy.executors.Executor.shutdown`."""
        self._closed = True
        self._trigger()
        done = super().shutdown(timeout_sec)
        if self._wakeup is not None:
            wakeup, self._wakeup = self._wakeup, None
            wakeup.destroy()
        return done

    def _trigger(self) -> None:
        wakeup = getattr(self, "_wakeup", None)  # rclpy calls wake() from its constructor's hooks as well
        if wakeup is not None:
            with suppress(InvalidHandle):
                wakeup.trigger()

    def _spin_rest(self, count: int) -> None:
        """Let rclpy handle so many things that are ready: tasks, actions, events.

        It goes through what it has found with each call, so it has to look anew after a wait of ours: a waitable knows
        where it stands in the wait set that it was added to last, and no other.
        """
        self._next_event_check_ns = time.monotonic_ns() + _EVENT_CHECK_PERIOD_NS
        look = _Never()
        for _ in range(count):
            self._spin_one(0.0, condition=look)

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
        self._owners = {
            id(entity): node
            for node in nodes
            for entities in (node.subscriptions, node.timers, node.clients, node.services, node.guards)
            for entity in entities
        }
        for service in self._services:
            answer_always(service, self._owners[id(service)])
        self._dispatch: list[tuple[str, dict[int, Any], Callable[[Any], None]]] = [
            ("subscription", _by_pointer(self._subscriptions, _message_arguments), self._handle_message),
            ("timer", _by_pointer(self._timers, _has_plain_callback), self._handle_timer),
            ("client", _by_pointer(self._clients, lambda _: True), self._handle_response),
            ("service", _by_pointer(self._services, _has_plain_callback), self._handle_request),
            ("guard_condition", _by_pointer(self._guards, lambda _: True), self._handle_guard),
        ]
        self._info_wanted = {id(s) for s in self._subscriptions if _message_arguments(s) == 2}
        counts = [len(self._subscriptions), len(self._guards) + 1, len(self._timers), len(self._clients),
                  len(self._services), 0]  # fmt: skip
        for waitable in self._waitables:
            needed = waitable.get_num_entities()
            for index, field in enumerate(rclpy_layout.COUNTED[:-1]):
                counts[index] += getattr(needed, f"num_{field}")
        handle = self.context.handle
        if handle is None:
            raise RuntimeError("the executor's context was never initialized; call rclpy.init first")
        with handle:
            self._wait_set = self._library.WaitSet(*counts, handle)

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
        except InvalidHandle:  # destroyed since the last collection
            self._stale = True
            return
        if self._wakeup is not None:
            wait_set.add_guard_condition(self._wakeup.handle)
        wait_set.wait(timeout_ns)

        others = False
        for kind, entities, handle in self._dispatch:
            for pointer in wait_set.get_ready_entities(kind):
                entity = entities.get(pointer)
                if entity is None:
                    others = others or kind != "guard_condition"  # those of actions are found below
                    continue
                if self._stale and _is_destroyed(entity):  # by another callback of this round
                    continue
                try:
                    handle(entity)
                except Exception as error:  # noqa: BLE001 - a message ends, the node does not
                    if not (self._stale and isinstance(error, InvalidHandle)):  # destroyed by another callback
                        self._report(self._owners.get(id(entity)), describe(entity), error)
        ready = sum(waitable.is_ready(wait_set) for waitable in self._waitables)
        if others or ready:
            self._spin_rest(ready + others)

    def _handle_message(self, subscription: Subscription) -> None:
        taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
        if taken is None:
            return
        if id(subscription) in self._info_wanted:
            subscription.callback(*taken)
        else:
            subscription.callback(taken[0])

    def _handle_timer(self, timer: Timer) -> None:
        if timer.handle.is_timer_ready():  # it may have been cancelled since the wait
            call = getattr(timer.handle, "call_timer", None) or timer.handle.call_timer_with_info
            call()
            timer.callback()

    def _handle_request(self, service: Service) -> None:
        request, header = service.handle.service_take_request(service.srv_type.Request)
        if header is not None:
            service.send_response(service.callback(request, service.srv_type.Response()), header)

    def _handle_response(self, client: Client) -> None:
        header, response = client.handle.take_response(client.srv_type.Response)
        if header is None:
            return
        try:
            future = client.get_pending_request(header.request_id.sequence_number)
        except KeyError:  # nobody waits for it any more
            return
        # Without it, what waits for the future is called at once instead of by the executor.
        getattr(future, "_set_executor", lambda _: None)(self)
        future.set_result(response)

    def _handle_guard(self, guard: GuardCondition) -> None:
        if inspect.iscoroutinefunction(guard.callback):
            self.create_task(guard.callback)
        elif guard.callback is not None:
            guard.callback()


def _is_destroyed(entity: Any) -> bool:
    try:
        with entity.handle:
            return False
    except InvalidHandle:
        return True


class _Never:
    """A condition that never holds; each is another."""

    def __call__(self) -> bool:
        return False


def _may_be_fast(context: Any) -> bool:
    choice = os.environ.get(CHOICE) or "fast"
    if choice not in ("fast", "rclpy"):
        raise ValueError(f"{CHOICE}: expected fast or rclpy, found {choice!r}")
    if choice == "rclpy":
        return False
    difference = rclpy_layout.difference(context)
    global _said
    if difference is not None and not _said:
        _said = True
        get_logger("executor").warning(f"rclpy is not as the fast executor knows it ({difference}): rclpy's is used")
    return difference is None


def _add(add: Callable[[Any], object], entities: Iterable[Any]) -> None:
    for entity in entities:
        add(entity.handle)


def _message_arguments(subscription: Subscription) -> int:
    """Return how many arguments its callback is given, as rclpy decides it; 0 for a coroutine, which rclpy awaits."""
    if inspect.iscoroutinefunction(subscription.callback):
        return 0
    try:
        inspect.signature(subscription.callback).bind(None)
    except TypeError:
        return 2
    except ValueError:  # a compiled function
        pass
    return 1


def _has_plain_callback(entity: Any) -> bool:
    """Whether it can be called here; a coroutine, and a timer that wants to know when it was called, are rclpy's."""
    if entity.callback is None or inspect.iscoroutinefunction(entity.callback):
        return False
    return not isinstance(entity, Timer) or not any(
        "TimerInfo" in str(parameter.annotation) for parameter in _parameters(entity.callback)
    )


def _parameters(callback: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(callback).parameters.values())
    except ValueError:  # a compiled function
        return []


def _by_pointer(entities: Iterable[Any], usable: Callable[[Any], object]) -> dict[int, Any]:
    """Those that are handled here, by the pointer under which a wait set reports them."""
    return {entity.handle.pointer: entity for entity in entities if usable(entity)}
