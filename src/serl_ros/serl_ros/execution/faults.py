# SPDX-License-Identifier: Apache-2.0
"""What happens when a callback raises: the message ends, the node does not, and everybody is told."""

import inspect
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

from rclpy.client import Client
from rclpy.exceptions import InvalidHandle
from rclpy.node import Node
from rclpy.service import Service
from rclpy.subscription import Subscription
from rclpy.timer import Timer
from serl_config.interrupt import was_interrupted
from serl_config.text import printable

from serl_ros import diagnostics
from serl_ros.log import ERROR, log

_REPEAT_AFTER = 5.0  # [s] between two lines of the same callback and the same kind of error

_MARK = "_serl_answers_always"  # on callbacks of services that need no more wrapping

_counts: WeakKeyDictionary[Node, dict[str, int]] = WeakKeyDictionary()


@runtime_checkable
class FaultAware(Protocol):
    """A node that has to act when one of its callbacks fails, for example to bring an arm to rest."""

    def on_callback_error(self, where: str, error: Exception) -> None:
        """Act on it.

        Args:
            where: what was handled, for example ``topic /joint_states``.
            error: what the callback raised.
        """


def report_fault(node: Node, where: str, error: Exception) -> None:
    """Log, count and show on /diagnostics what a callback of `node` raised, and tell the node where it wants to know.

    The node comes first: an arm is held whatever becomes of the log. Never raises an :class:`Exception` itself. With
    ``SERL_DEBUG=1`` the log has the traceback.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed, and the error is what became of it.
    """
    if was_interrupted():
        raise KeyboardInterrupt from error
    faults = [(where, error)]
    if isinstance(node, FaultAware):
        try:
            node.on_callback_error(where, error)
        except Exception as second:  # noqa: BLE001 - a fault of the fault handling ends no node either
            faults.append((f"on_callback_error for {where}", second))
    for place, fault in faults:
        try:
            _record(node, place, fault)
        except Exception as third:  # noqa: BLE001 - nor does one of the log; the last thing left is standard error
            with suppress(OSError, ValueError):
                print(f"callback failed: {place}: {_text(fault)}; {_text(third)}", file=sys.stderr, flush=True)


def fault_count(node: Node) -> int:
    """Return how often callbacks of `node` have failed so far."""
    return sum(_counts.get(node, {}).values())


def describe(entity: object) -> str:
    """Return what an entity of a node handles, for a person: ``topic /joint_states``."""
    try:
        if isinstance(entity, Subscription):
            return f"topic {entity.topic_name}"
        if isinstance(entity, Service):
            return f"service {entity.service_name}"
        if isinstance(entity, Client):
            return f"response of service {entity.service_name}"
        if isinstance(entity, Timer):
            return f"timer of {entity.timer_period_ns / 1e9:g} s"
    except InvalidHandle:  # destroyed meanwhile
        pass
    return "task" if entity is None else type(entity).__name__


def fill_failure(answer: Any, text: str) -> Any:
    """Let a new response or result, whose `success` is false as long as nobody sets it, say why, and return it."""
    fields = answer.get_fields_and_field_types()
    for name in ("message", "error_string"):  # ours and std_srvs', control_msgs'
        if name in fields:
            setattr(answer, name, printable(text))
    return answer


def answer_always(service: Service, node: Node) -> None:
    """Let the caller of `service` have an answer also where its callback raises or returns something else."""
    callback = service.callback
    if hasattr(callback, _MARK):
        return
    response_type = service.srv_type.Response

    def checked(response: Any) -> Any:
        if not isinstance(response, response_type):
            raise TypeError(f"the callback returned {type(response).__name__} instead of a response")
        return response

    def failed(error: Exception) -> Any:
        report_fault(node, describe(service), error)
        return fill_failure(response_type(), f"internal error: {_text(error)}")

    answer: Callable[[Any, Any], Any]
    if inspect.iscoroutinefunction(callback):

        async def answer(request: Any, response: Any) -> Any:
            try:
                return checked(await callback(request, response))
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller waits for an answer
                return failed(error)

    else:

        def answer(request: Any, response: Any) -> Any:
            try:
                return checked(callback(request, response))
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller waits for an answer
                return failed(error)

    setattr(answer, _MARK, True)
    service.callback = answer


def _record(node: Node, where: str, error: Exception) -> None:
    counts = _counts.setdefault(node, {})
    counts[where] = counts.get(where, 0) + 1
    log(node, ERROR, f"callback failed: {where}: {_text(error)}", throttle=_REPEAT_AFTER, key=(where, type(error)))
    if os.environ.get("SERL_DEBUG") == "1":
        with suppress(OSError):  # nobody reads
            traceback.print_exception(error)
    status = diagnostics.of(node)
    if status is not None:
        total = sum(counts.values())
        status.set(
            "callbacks",
            diagnostics.ERROR,
            f"{where} failed: {_text(error)}",
            failures=total,
            **{f"failed: {name}": count for name, count in counts.items()},
        )


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
