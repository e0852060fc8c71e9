# SPDX-License-Identifier: Apache-2.0
"""What an actor does with transitions that the learner does not take: for now, or ever."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time as TimeStamp
from serl_rl.ingest import InsertResult, Totals
from serl_rl.policy.acting import SquashedGaussian
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.spec import TransitionSpec
from serl_rl.storage.chunk import Chunk, DataError, decode_chunk
from serl_rl.storage.journal import JournalError, JournalLost
from serl_ros.execution.executor import FastExecutor
from serl_ros.qos import LATCHED
from serl_training.fleet.graph_learner_view import LearnerView
from serl_training.link import graph_insertion_client, graph_insertion_service
from serl_training.link.graph_insertion_client import InsertionClient
from serl_training.link.graph_insertion_service import InsertionService
from serl_training.link.graph_learner_link import GraphLearnerLink
from serl_training.link.learner_link import JobFailed
from std_msgs.msg import Header

from serl_interfaces.msg import PolicyParameters
from serl_interfaces.srv import InsertTransitions

SPEC = TransitionSpec({"state": ((3,), np.float32)}, 2)

pytestmark = pytest.mark.graph


def chunk(value: float) -> Chunk:
    return Chunk(
        observation={"state": np.full((3, 3), value, np.float32)},
        action=np.zeros((2, 2), np.float32),
        reward=np.zeros(2, np.float32),
        mask=np.ones(2, np.float32),
        truncated=np.zeros(2, np.bool_),
        intervention=np.zeros(2, np.bool_),
        policy_version=np.zeros(2, np.uint64),
        actor_id="a",
        episode=1,
        first_step=0,
        demonstration=False,
        last=False,
        success=False,
    )


class Store:
    """Takes transitions in order, unless `problem` says that it cannot."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.expected: dict[str, int] = {}
        self.refused: list[str] = []
        self.on_question: Callable[[], None] = lambda: None
        self.problem: Callable[[float], Exception | None] = lambda _value: None

    def insert(self, _actor: str, session: str, first: int, count: int, data: memoryview) -> InsertResult:
        expected = self.expected.get(session, 0)
        if not count:
            self.on_question()
        if count and first == expected:
            value = float(decode_chunk(data, SPEC).observation["state"][0, 0])
            if (problem := self.problem(value)) is not None:
                raise problem
            self.values.append(value)
            self.expected[session] = expected = expected + count
        return InsertResult(expected, 0)


@pytest.fixture
def peers(ros: Any) -> Iterator[tuple[Store, GraphLearnerLink]]:
    import rclpy

    store = Store()
    service = InsertionService(
        ros.node("learner"),
        store.insert,
        lambda: Totals(env_steps=2 * len(store.values)),
        store.refused.append,
        spec=SPEC,
    )
    node = rclpy.create_node("actor", context=ros.context)
    executor = FastExecutor(context=ros.context)
    executor.add_node(node)
    client = GraphLearnerLink(
        node,
        executor,
        spec=SPEC,
        actor_id="a",
        max_lead=0,
        max_backlog=100,
        check=lambda: ros.executor.spin_once(timeout_sec=0.02),
    )
    yield store, client
    del service
    executor.shutdown()
    node.destroy_node()


def publish_policy(ros: Any, **fields: Any) -> Callable[..., None]:
    """Publish a policy as a learner does; returns what publishes another one."""
    arrays = {"head/kernel": np.zeros((3, 4), np.float32), "head/bias": np.zeros(4, np.float32)}
    policy = PolicySnapshot(arrays, {"state": 3}, "relu", SquashedGaussian((-5.0, 2.0)))
    publisher = ros.node("learner").create_publisher(PolicyParameters, "learner/policy", LATCHED)

    def publish(**fields: Any) -> None:
        publisher.publish(PolicyParameters(data=array("B", policy.to_bytes()), **{"session": "s", **fields}))

    publish(**fields)
    return publish


def test_what_cannot_be_stored_for_now_is_kept_and_sent_again(peers: tuple[Store, GraphLearnerLink]) -> None:
    store, client = peers
    tries = iter([JournalError("disk full"), JournalError("disk full")])
    store.problem = lambda _value: next(tries, None)
    for value in (1.0, 2.0, 3.0):
        client.send(chunk(value))
    client.flush()
    assert store.values == [1.0, 2.0, 3.0]
    assert client.backlog == 0
    assert len(store.refused) == 2


@pytest.mark.parametrize(
    "error", [DataError("state", "other values", "7"), JournalLost("the journal is gone")], ids=repr
)
def test_what_will_never_be_stored_ends_one_job_and_not_the_next(
    peers: tuple[Store, GraphLearnerLink], error: Exception
) -> None:
    store, client = peers
    store.problem = lambda value: error if value == 7.0 else None
    client.send(chunk(1.0))
    client.flush()
    session = client.session
    with pytest.raises(JobFailed, match=r"refused transitions, 4 are given up: .*(found 7|gone)"):
        for value in (7.0, 8.0):
            client.send(chunk(value))
        client.flush()
    assert client.session != session
    client.send(chunk(9.0))
    client.flush()
    assert store.values == [1.0, 9.0]


def test_absurd_values_are_not_even_sent(peers: tuple[Store, GraphLearnerLink]) -> None:
    store, client = peers
    with pytest.raises(DataError, match=r"observation\.state"):
        client.send(chunk(3e38))
    client.send(chunk(1.0))
    client.flush()
    assert store.values == [1.0]


def test_a_learner_that_trains_more_often_than_transitions_come_is_followed(
    ros: Any, peers: tuple[Store, GraphLearnerLink]
) -> None:
    """As in real time, and where a checkpoint is evaluated without its journal."""
    _, client = peers
    publish_policy(ros, version=7, env_steps=0, env_steps_trained=1506)
    client.connect()
    assert client.policy_version == 7
    assert client.lag == 0
    client.settle()  # returns


def test_the_policy_that_is_waited_for_has_learned_from_all_that_was_sent(
    ros: Any, peers: tuple[Store, GraphLearnerLink]
) -> None:
    store, client = peers
    publish = publish_policy(ros, version=1, next_update_at=4)
    client.connect()
    client.send(chunk(1.0))
    client.settle()
    assert (client.totals.env_steps, client.policy_version) == (2, 1)

    def learn(_value: float) -> None:
        publish(version=2, env_steps=4, env_steps_trained=4, next_update_at=8)

    store.problem = learn
    client.send(chunk(2.0))
    client.settle()
    assert client.policy_version == 2


def test_an_actor_with_another_specification_is_told_what_differs(
    ros: Any, peers: tuple[Store, GraphLearnerLink]
) -> None:
    store, _ = peers
    node = ros.node("other_actor")
    other = TransitionSpec({"state": ((3,), np.float32), "force": ((2,), np.float32)}, 1)
    client = node.create_client(InsertTransitions, "learner/insert")
    sender = InsertionClient(node, client, actor_id="b", spec=other)

    def asked() -> bool:
        sender.pump()
        return sender.ask()

    with pytest.raises(JobFailed) as raised:
        ros.spin_until(asked, 20.0, "an answer")
    text = str(raised.value)
    ours, theirs = text.split("expected")[-1].split("; found ")
    assert "action: 2 components" in ours and "action: 1 components" in theirs
    assert "force: none" in ours and "force: float32 (2,)" in theirs
    assert SPEC.fingerprint in text and other.fingerprint in text
    assert len(store.refused) == 1 and "'b'" in store.refused[0]


def test_two_versions_of_the_software_are_told_and_learn_from_each_other(
    ros: Any, peers: tuple[Store, GraphLearnerLink], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, client = peers
    lines: list[str] = []
    for module in (graph_insertion_client, graph_insertion_service):
        monkeypatch.setattr(module, "log", lambda _node, _level, text, **_more: lines.append(text))
    monkeypatch.setattr(graph_insertion_client, "software", lambda: "0.1.0 (old)")
    monkeypatch.setattr(graph_insertion_service, "software", lambda: "0.2.0 (new)")
    for value in (1.0, 2.0):
        client.send(chunk(value))
        client.flush()
    assert store.values == [1.0, 2.0]
    assert len(lines) == 2  # one of each side, not one for each chunk
    assert all("0.1.0 (old)" in line and "0.2.0 (new)" in line for line in lines)


def test_a_learner_is_silent_where_it_owes_an_answer(
    peers: tuple[Store, GraphLearnerLink], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, client = peers
    client.send(chunk(1.0))
    client.flush()
    now = time.monotonic()
    monkeypatch.setattr(graph_insertion_client, "time", SimpleNamespace(monotonic=lambda: now))
    client.pump()
    now += 100.0
    client.pump()
    assert client.silence == 0.0  # nobody has asked it anything
    client.send(chunk(2.0))
    now += 7.0
    client.pump()
    assert client.silence == 7.0
    client.flush()
    assert client.silence == 0.0
    assert store.values == [1.0, 2.0]


def test_clocks_an_hour_apart_change_nothing(ros: Any, peers: tuple[Store, GraphLearnerLink]) -> None:
    store, client = peers
    publish = publish_policy(ros, version=1)
    client.connect()
    for version, apart in ((2, 3600), (3, -3600)):
        stamp = TimeStamp(sec=int(time.time()) + apart)
        publish(version=version, header=Header(stamp=stamp))
        client.send(chunk(float(version)))
        client.flush()
        ros.spin_until(lambda version=version: _spun(client).policy_version == version, 20.0, "the policy")
        assert client.silence < 20.0
    assert store.values == [2.0, 3.0]


def _spun(client: GraphLearnerLink) -> GraphLearnerLink:
    client._executor.spin_once(0.02)
    return client


@pytest.mark.parametrize("fleet", [False, True])
def test_a_learner_that_is_started_again_is_told_again_that_demonstrations_are_complete(
    ros: Any, peers: tuple[Store, GraphLearnerLink], fleet: bool
) -> None:
    store, link = peers
    publish = publish_policy(ros, updates=0)
    node = link._node
    view = LearnerView(node, link._executor, "", lambda: ros.executor.spin_once(timeout_sec=0.02))
    then = iter([{"version": 0, "updates": 0}, {"version": 1, "updates": 5}])  # what one says that was started again
    questions: list[None] = []

    def go_on() -> None:
        if questions:  # it has been answered meanwhile
            questions.clear()
            publish(session="another", **next(then, {"version": 1, "updates": 5}))

    ros.node("learner").create_timer(0.5, go_on)
    store.on_question = lambda: questions.append(None)
    (view if fleet else link).await_updates(5)
