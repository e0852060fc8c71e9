# SPDX-License-Identifier: Apache-2.0
"""The fast executor does what rclpy's does, in one context of its own."""

import time
from collections.abc import Iterator

import pytest
import rclpy
from rclpy.action import ActionClient, ActionServer
from rclpy.context import Context
from rclpy.node import Node
from rclpy.task import Future
from serl_ros.executor import FastExecutor
from serl_ros.qos import LATCHED, RELIABLE_10
from std_msgs.msg import String
from std_srvs.srv import Trigger

from serl_interfaces.action import ResetEpisode

TIMEOUT = 10.0


@pytest.fixture
def graph(ros_domain: int) -> Iterator[tuple[Node, FastExecutor]]:
    context = Context()
    rclpy.init(context=context, domain_id=ros_domain)
    node = rclpy.create_node("executor_test", context=context)
    executor = FastExecutor(context=context)
    executor.add_node(node)
    yield node, executor
    executor.shutdown(timeout_sec=1.0)
    node.destroy_node()
    rclpy.try_shutdown(context=context)


def test_messages_arrive_in_order(graph: tuple[Node, FastExecutor]) -> None:
    node, executor = graph
    got: list[str] = []
    node.create_subscription(String, "a", lambda message: got.append(message.data), RELIABLE_10)
    publisher = node.create_publisher(String, "a", RELIABLE_10)
    assert executor.spin_until(lambda: publisher.get_subscription_count() == 1, TIMEOUT)
    for number in range(10):
        publisher.publish(String(data=str(number)))
        assert executor.spin_until(lambda number=number: len(got) > number, TIMEOUT)
    assert got == [str(number) for number in range(10)]


def test_a_subscription_made_while_spinning_is_served(graph: tuple[Node, FastExecutor]) -> None:
    node, executor = graph
    publisher = node.create_publisher(String, "late", LATCHED)
    publisher.publish(String(data="kept"))
    executor.spin_once(0.0)
    got: list[str] = []
    subscription = node.create_subscription(String, "late", lambda message: got.append(message.data), LATCHED)
    assert executor.spin_until(lambda: got == ["kept"], TIMEOUT)
    node.destroy_subscription(subscription)
    executor.spin_once(0.0)


def test_coroutine_callbacks_are_awaited(graph: tuple[Node, FastExecutor]) -> None:
    node, executor = graph
    got: list[str] = []

    async def on_message(message: String) -> None:
        got.append(message.data)

    node.create_subscription(String, "coroutine", on_message, RELIABLE_10)
    publisher = node.create_publisher(String, "coroutine", RELIABLE_10)
    assert executor.spin_until(lambda: publisher.get_subscription_count() == 1, TIMEOUT)
    publisher.publish(String(data="x"))
    assert executor.spin_until(lambda: got == ["x"], TIMEOUT)


def test_services_timers_and_guards_work_beside_subscriptions(graph: tuple[Node, FastExecutor]) -> None:
    node, executor = graph
    ticks: list[float] = []
    node.create_timer(0.01, lambda: ticks.append(time.monotonic()))

    def answer(_request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = True
        return response

    node.create_service(Trigger, "trigger", answer)
    client = node.create_client(Trigger, "trigger")
    assert executor.spin_until(client.service_is_ready, TIMEOUT)
    future = client.call_async(Trigger.Request())
    assert executor.spin_until(future.done, TIMEOUT)
    assert future.result().success
    assert executor.spin_until(lambda: len(ticks) >= 5, TIMEOUT)


def test_actions_work(graph: tuple[Node, FastExecutor]) -> None:
    node, executor = graph

    def execute(goal: object) -> ResetEpisode.Result:
        goal.succeed()  # type: ignore[attr-defined]
        return ResetEpisode.Result(success=True, termination_reason="done")

    server = ActionServer(node, ResetEpisode, "reset", execute)
    client = ActionClient(node, ResetEpisode, "reset")
    assert executor.spin_until(client.server_is_ready, TIMEOUT)
    accepted = client.send_goal_async(ResetEpisode.Goal())
    assert executor.spin_until(accepted.done, TIMEOUT)
    result = accepted.result().get_result_async()
    assert executor.spin_until(result.done, TIMEOUT)
    assert result.result().result.termination_reason == "done"
    server.destroy()
    client.destroy()


def test_spin_until_gives_up_after_the_timeout(graph: tuple[Node, FastExecutor]) -> None:
    _, executor = graph
    started = time.monotonic()
    assert not executor.spin_until(lambda: False, 0.3)
    assert 0.25 < time.monotonic() - started < 5.0


def test_spin_until_future_complete_of_rclpy_works(graph: tuple[Node, FastExecutor]) -> None:
    node, executor = graph
    future = Future()
    node.create_timer(0.05, lambda: future.done() or future.set_result(7))
    executor.spin_until_future_complete(future, timeout_sec=TIMEOUT)
    assert future.result() == 7


def test_an_exception_in_a_callback_reaches_the_caller(graph: tuple[Node, FastExecutor]) -> None:
    node, executor = graph

    def fail(_message: String) -> None:
        raise ValueError("callback")

    node.create_subscription(String, "fail", fail, RELIABLE_10)
    publisher = node.create_publisher(String, "fail", RELIABLE_10)
    assert executor.spin_until(lambda: publisher.get_subscription_count() == 1, TIMEOUT)
    publisher.publish(String())
    with pytest.raises(ValueError, match="callback"):
        executor.spin_until(lambda: False, TIMEOUT)
