# SPDX-License-Identifier: Apache-2.0
"""rclpy's action server, except that a goal whose callback fails is answered."""

import inspect
from collections.abc import Callable
from typing import Any

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import default_cancel_callback, default_goal_callback, default_handle_accepted_callback
from rclpy.node import Node

from serl_ros.execution.faults import fill_failure, report_fault


class GuardedActionServer(ActionServer):
    """An :class:`rclpy.action.ActionServer`: a failed goal callback rejects, a failed execution aborts and says why."""

    def __init__(
        self,
        node: Node,
        action_type: Any,
        action_name: str,
        execute_callback: Callable[[Any], Any],
        *,
        goal_callback: Callable[[Any], Any] = default_goal_callback,
        handle_accepted_callback: Callable[[Any], Any] = default_handle_accepted_callback,
        cancel_callback: Callable[[Any], Any] = default_cancel_callback,
        **options: Any,
    ) -> None:
        """Take the arguments of :class:`rclpy.action.ActionServer`."""
        where = f"action {action_name}"

        def reject(error: Exception, _request: Any) -> GoalResponse:
            report_fault(node, f"{where} (goal)", error)
            return GoalResponse.REJECT

        def let_go_on(error: Exception, _goal: Any) -> CancelResponse:
            report_fault(node, f"{where} (cancel)", error)
            return CancelResponse.REJECT

        def abort(error: Exception, goal: Any) -> Any:
            report_fault(node, where, error)
            if goal.is_active:
                goal.abort()
            return fill_failure(action_type.Result(), f"internal error: {type(error).__name__}: {error}")

        def abort_accepted(error: Exception, goal: Any) -> None:
            goal.execute(lambda goal: abort(error, goal))

        super().__init__(
            node,
            action_type,
            action_name,
            _guarded(execute_callback, abort),
            goal_callback=_guarded(goal_callback, reject),
            handle_accepted_callback=_guarded(handle_accepted_callback, abort_accepted),
            cancel_callback=_guarded(cancel_callback, let_go_on),
            **options,
        )


def _guarded(callback: Callable[[Any], Any], failed: Callable[[Exception, Any], Any]) -> Callable[[Any], Any]:
    if inspect.iscoroutinefunction(callback):

        async def run_coroutine(argument: Any) -> Any:
            try:
                return await callback(argument)
            except Exception as error:  # noqa: BLE001 - whatever it is, the client waits for an answer
                return failed(error, argument)

        return run_coroutine

    def run(argument: Any) -> Any:
        try:
            return callback(argument)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client waits for an answer
            return failed(error, argument)

    return run
