# SPDX-License-Identifier: Apache-2.0
"""The fast executor does what rclpy's does, with every layout of rclpy, in one context of its own."""

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import rclpy
from rclpy.action import ActionClient
from rclpy.context import Context
from rclpy.executors import Executor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.task import Future, Task
from serl_ros.action_server import GuardedActionServer
from serl_ros.execution import rclpy_layout
from serl_ros.execution.executor import CHOICE, FastExecutor
from serl_ros.execution.faults import fault_count, report_fault
from serl_ros.qos import LATCHED, RELIABLE_10
from std_msgs.msg import String
from std_srvs.srv import Trigger

from serl_interfaces.action import ResetEpisode

TIMEOUT = 30.0


def keep_tasks_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let rclpy keep its tasks as rclpy 7.1.9 and 10 do: in `_pending_tasks` and `_ready_tasks`, not `_tasks`."""
    make, wait, init = Executor._make_handler, Executor._wait_for_ready_callbacks, Executor.__init__

    def new_init(self: Any, **options: Any) -> None:
        init(self, **options)
        self._pending_tasks, self._ready_tasks = {}, []
        del self._tasks

    def new_create_task(self: Any, callback: Any, *args: Any, **kwargs: Any) -> Task:
        task = Task(callback, args, kwargs, executor=self)
        self._pending_tasks[task] = (None, None)
        self._guard.trigger()
        return task

    def new_make(self: Any, entity: Any, node: Node, take: Any) -> Task:
        self._tasks = []
        task = make(self, entity, node, take)
        del self._tasks
        self._pending_tasks[task] = (entity, node)
        return task

    def new_wait(self: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        self._pending_tasks = {task: of for task, of in self._pending_tasks.items() if not task.done()}
        self._ready_tasks = list(self._pending_tasks)
        while self._ready_tasks:
            task = self._ready_tasks.pop()
            yield task, *self._pending_tasks[task]
        rest = wait(self, *args, **kwargs)
        while True:
            self._tasks = []
            try:
                found = next(rest)
            except StopIteration:
                return
            finally:
                self.__dict__.pop("_tasks", None)
            yield found

    monkeypatch.setattr(Executor, "__init__", new_init)
    monkeypatch.setattr(Executor, "create_task", new_create_task)
    monkeypatch.setattr(Executor, "_make_handler", new_make)
    monkeypatch.setattr(Executor, "_wait_for_ready_callbacks", new_wait)


def hide_the_wait_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let rclpy's compiled half have wait sets that the fast executor does not know."""
    names = {name: getattr(rclpy_implementation, name) for name in ("Subscription", "Timer", "Client", "Service")}
    monkeypatch.setattr(rclpy_layout, "compiled", lambda: SimpleNamespace(**names, WaitSet=object))


@pytest.fixture(params=["as installed", "tasks elsewhere", "unknown", "rclpy's own"])
def graph(
    ros_domain: int, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Node, FastExecutor]]:
    if request.param == "tasks elsewhere":
        keep_tasks_elsewhere(monkeypatch)
    elif request.param == "unknown":
        keep_tasks_elsewhere(monkeypatch)
        hide_the_wait_set(monkeypatch)
    elif request.param == "rclpy's own":
        monkeypatch.setenv(CHOICE, "rclpy")
    context = Context()
    rclpy.init(context=context, domain_id=ros_domain)
    node = rclpy.create_node("executor_test", context=context)
    executor = FastExecutor(context=context)
    assert executor.is_fast == (request.param in ("as installed", "tasks elsewhere"))
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


def test_what_another_callback_destroys_is_passed_over(graph: tuple[Node, FastExecutor]) -> None:
    node, executor = graph
    calls: list[Any] = []
    service = node.create_service(Trigger, "goes", lambda request, _: calls.append(request))
    client = node.create_client(Trigger, "goes")
    assert executor.spin_until(client.service_is_ready, TIMEOUT)
    assert node.context.handle is not None
    client.call_async(Trigger.Request())
    with node.context.handle:
        waiting = rclpy_implementation.WaitSet(0, 0, 0, 0, 1, 0, node.context.handle)
        waiting.clear_entities()
        waiting.add_service(service.handle)
        waiting.wait(int(TIMEOUT * 1e9))
    assert waiting.get_ready_entities("service"), "the request has not come"
    destroyed: list[bool] = []
    timer = node.create_timer(0.001, lambda: destroyed.append(node.destroy_service(service)))
    while not timer.is_ready():
        time.sleep(0.001)
    if executor.is_fast:  # rclpy's has no rounds
        executor._collect()
        executor._wait(0)  # both are ready
    assert executor.spin_until(lambda: bool(destroyed), TIMEOUT)
    timer.cancel()
    assert destroyed[0] is True
    assert not calls
    assert fault_count(node) == 0


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

    server = GuardedActionServer(node, ResetEpisode, "reset", execute)
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
    assert 0.25 < time.monotonic() - started < TIMEOUT


def test_spin_until_future_complete_of_rclpy_works(graph: tuple[Node, FastExecutor]) -> None:
    node, executor = graph
    future = Future()
    node.create_timer(0.05, lambda: future.done() or future.set_result(7))
    executor.spin_until_future_complete(future, timeout_sec=TIMEOUT)
    assert future.result() == 7


def fail(*_: object) -> None:
    raise ValueError("no\x1b[31m")


def test_a_message_that_makes_a_callback_raise_ends_alone(graph: tuple[Node, FastExecutor]) -> None:
    node, executor = graph
    got: list[str] = []

    def on_message(message: String) -> None:
        if message.data == "bad":
            fail()
        got.append(message.data)

    node.create_subscription(String, "topic", on_message, RELIABLE_10)
    publisher = node.create_publisher(String, "topic", RELIABLE_10)
    assert executor.spin_until(lambda: publisher.get_subscription_count() == 1, TIMEOUT)
    for text in ("bad", "good", "bad", "good"):
        publisher.publish(String(data=text))
    assert executor.spin_until(lambda: len(got) == 2, TIMEOUT)
    assert fault_count(node) == 2


@pytest.mark.parametrize("coroutine", [False, True])
def test_a_failed_service_answers(graph: tuple[Node, FastExecutor], coroutine: bool) -> None:
    node, executor = graph

    async def fail_later(*_: object) -> None:
        fail()

    node.create_service(Trigger, "trigger", fail_later if coroutine else fail)
    client = node.create_client(Trigger, "trigger")
    assert executor.spin_until(client.service_is_ready, TIMEOUT)
    for count in (1, 2):
        future = client.call_async(Trigger.Request())
        assert executor.spin_until(future.done, TIMEOUT)
        assert not future.result().success
        assert future.result().message == "internal error: ValueError: no\\x1b[31m"
        assert fault_count(node) == count


def test_a_service_that_returns_nothing_answers(graph: tuple[Node, FastExecutor]) -> None:
    node, executor = graph
    node.create_service(Trigger, "trigger", lambda _request, _response: None)
    client = node.create_client(Trigger, "trigger")
    assert executor.spin_until(client.service_is_ready, TIMEOUT)
    future = client.call_async(Trigger.Request())
    assert executor.spin_until(future.done, TIMEOUT)
    assert "NoneType instead of a response" in future.result().message


def test_timers_guards_tasks_and_done_callbacks_that_raise_end_nothing(graph: tuple[Node, FastExecutor]) -> None:
    node, executor = graph
    timer = node.create_timer(0.01, fail)
    assert executor.spin_until(lambda: fault_count(node) >= 2, TIMEOUT)
    timer.cancel()

    guard = node.create_guard_condition(fail)
    before = fault_count(node)
    guard.trigger()
    assert executor.spin_until(lambda: fault_count(node) > before, TIMEOUT)
    executor.create_task(fail)
    before = fault_count(node)
    assert executor.spin_until(lambda: fault_count(node) > before, TIMEOUT)

    node.create_service(Trigger, "trigger", lambda _request, response: response)
    client = node.create_client(Trigger, "trigger")
    assert executor.spin_until(client.service_is_ready, TIMEOUT)
    future = client.call_async(Trigger.Request())
    future.add_done_callback(fail)
    before = fault_count(node)
    assert executor.spin_until(lambda: fault_count(node) > before, TIMEOUT)


def test_a_coroutine_awaits_an_answer_and_its_error_ends_nothing(graph: tuple[Node, FastExecutor]) -> None:
    node, executor = graph
    got: list[bool] = []
    node.create_service(Trigger, "trigger", lambda _request, response: response)
    client = node.create_client(Trigger, "trigger")
    assert executor.spin_until(client.service_is_ready, TIMEOUT)

    async def ask() -> None:
        got.append((await client.call_async(Trigger.Request())).success)
        fail()

    executor.create_task(ask)
    assert executor.spin_until(lambda: fault_count(node) == 1, TIMEOUT)
    assert got == [False]


@pytest.mark.parametrize("what", ["goal_callback", "handle_accepted_callback", "execute_callback"])
def test_a_failed_action_answers(graph: tuple[Node, FastExecutor], what: str) -> None:
    node, executor = graph
    callbacks = {"execute_callback": lambda _goal: ResetEpisode.Result(), what: fail}
    server = GuardedActionServer(node, ResetEpisode, "reset", **callbacks)
    client = ActionClient(node, ResetEpisode, "reset")
    assert executor.spin_until(client.server_is_ready, TIMEOUT)
    answer = client.send_goal_async(ResetEpisode.Goal())
    assert executor.spin_until(answer.done, TIMEOUT)
    assert answer.result().accepted == (what != "goal_callback")
    if answer.result().accepted:
        result = answer.result().get_result_async()
        assert executor.spin_until(result.done, TIMEOUT)
        assert not result.result().result.success
        assert "ValueError: no" in result.result().result.message
    assert fault_count(node) == 1
    server.destroy()
    client.destroy()


def test_a_node_is_told_of_its_faults_and_may_fail_at_that_too(ros_domain: int) -> None:
    class Aware(Node):
        told: list[str] = []  # noqa: RUF012

        def on_callback_error(self, where: str, error: Exception) -> None:
            self.told.append(f"{where.split()[0]} {error}")
            raise error

    context = Context()
    rclpy.init(context=context, domain_id=ros_domain)
    node, executor = Aware("aware", context=context), FastExecutor(context=context)
    executor.add_node(node)
    timer = node.create_timer(0.01, fail)
    assert executor.spin_until(lambda: len(node.told) >= 2, TIMEOUT)
    timer.cancel()
    assert node.told[0] == "timer no\x1b[31m"
    assert fault_count(node) == 2 * len(node.told)
    executor.shutdown(timeout_sec=1.0)
    node.destroy_node()
    rclpy.try_shutdown(context=context)


def test_a_node_is_told_of_its_faults_where_the_log_fails_too(ros_domain: int, capsys: Any) -> None:
    class Mute(Node):
        told: list[str] = []  # noqa: RUF012
        mute = False

        def on_callback_error(self, where: str, error: Exception) -> None:
            self.told.append(f"{where}: {error}")

        def get_logger(self) -> Any:
            if self.mute:
                raise RuntimeError("no log")
            return super().get_logger()

    context = Context()
    rclpy.init(context=context, domain_id=ros_domain)
    node = Mute("mute", context=context)
    node.mute = True
    report_fault(node, "action arm/move_to", ValueError("a bug"))
    assert node.told == ["action arm/move_to: a bug"]
    assert "action arm/move_to: ValueError: a bug; RuntimeError: no log" in capsys.readouterr().err
    node.mute = False
    node.destroy_node()
    rclpy.try_shutdown(context=context)


def test_a_deliberate_end_is_raised(graph: tuple[Node, FastExecutor]) -> None:
    node, executor = graph

    def end() -> None:
        raise SystemExit(2)

    node.create_timer(0.01, end)
    with pytest.raises(SystemExit):
        executor.spin_until(lambda: False, TIMEOUT)


def test_ctrl_c_that_came_out_as_another_error_is_raised(
    graph: tuple[Node, FastExecutor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where it comes while rclpy converts a message."""
    node, executor = graph
    node.create_timer(0.001, lambda: 1 / 0)
    assert executor.spin_until(lambda: fault_count(node) > 0, TIMEOUT)
    assert fault_count(node) > 0
    monkeypatch.setattr("serl_ros.execution.faults.was_interrupted", lambda: True)
    with pytest.raises(KeyboardInterrupt):
        executor.spin_until(lambda: False, TIMEOUT)


def test_another_choice_is_refused(ros_domain: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CHOICE, "quick")
    context = Context()
    rclpy.init(context=context, domain_id=ros_domain)
    with pytest.raises(ValueError, match="SERL_EXECUTOR: expected fast or rclpy, found 'quick'"):
        FastExecutor(context=context)
    rclpy.try_shutdown(context=context)
