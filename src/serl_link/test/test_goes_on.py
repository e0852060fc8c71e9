# SPDX-License-Identifier: Apache-2.0
"""The robot's end goes on: after errors that nobody foresaw, beside metrics that are refused, and with too many."""

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from rclpy.serialization import serialize_message
from serl_link.carried import LATER
from serl_link.link_node import LearnerChannel, RobotChannel
from serl_link.patience import MOST_LATER, MOST_TRIES, Owed, guarded, repeat

from serl_interfaces.msg import Metrics
from serl_link import link_node


class OtherSide:
    """A session whose other end answers as a test likes."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.tries: list[bytes] = []
        self.ready = True
        self.fails = 0
        self.refuses: set[bytes] = set()
        self.later: dict[bytes, int] = {}
        """How often each is answered that it cannot be taken now."""

    def declare_subscriber(self, _name: str, _call: Any) -> MagicMock:
        return MagicMock()

    def get(self, name: str, *, payload: bytes, attachment: bytes | None, timeout: float) -> list[Any]:
        if self.fails:
            self.fails -= 1
            raise RuntimeError("nobody foresaw this")
        if name.endswith("/@state"):
            return [SimpleNamespace(ok=SimpleNamespace(payload=b"", attachment=b"\1" if self.ready else b"\0"))]
        self.tries.append(payload)
        if payload in self.refuses:
            return [SimpleNamespace(ok=None, err=SimpleNamespace(payload=b"I do not want it"))]
        if self.later.get(payload):
            self.later[payload] -= 1
            return [SimpleNamespace(ok=None, err=SimpleNamespace(payload=f"{LATER}no learner runs there".encode()))]
        self.taken.append(payload)
        return [SimpleNamespace(ok=SimpleNamespace(payload=b"", attachment=None))]


def wait_until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60.0
    while not true():
        assert time.monotonic() < deadline, "it did not happen within 60 s"
        time.sleep(0.01)


@pytest.fixture
def learners_end(said: list[str], monkeypatch: pytest.MonkeyPatch) -> LearnerChannel:
    monkeypatch.setattr(link_node, "library", MagicMock())
    node = MagicMock()
    node.resolve_topic_name.side_effect = lambda name: f"/{name}"
    return LearnerChannel(node, MagicMock(), "")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(link_node, "log", lambda _node, _level, text, **_: lines.append(str(text)))
    monkeypatch.setattr(link_node, "refuse", lambda _node, topic, why: lines.append(f"{topic}: {why}"))
    monkeypatch.setattr(link_node, "_ASK_PERIOD", 0.02)
    return lines


@pytest.fixture
def other() -> OtherSide:
    return OtherSide()


@pytest.fixture
def channel(said: list[str], other: OtherSide) -> Iterator[RobotChannel]:
    node = MagicMock()
    node.resolve_topic_name.side_effect = lambda name: f"/{name}"
    made = RobotChannel(node, other, "", lambda: "", "there:1")
    yield made
    made.close()


def test_an_error_that_nobody_foresaw_is_told_and_the_link_goes_on(
    channel: RobotChannel, other: OtherSide, said: list[str]
) -> None:
    other.fails = 2
    wait_until(lambda: not other.fails)
    channel._on_metrics(b"later")
    wait_until(lambda: other.taken == [b"later"])
    assert any("nobody foresaw this" in line for line in said), said
    assert all(thread.is_alive() for thread in channel._threads)


def test_metrics_that_are_always_refused_do_not_block_those_behind_them(
    channel: RobotChannel, other: OtherSide, said: list[str]
) -> None:
    other.refuses = {b"bad"}
    for data in (b"first", b"bad", b"last"):
        channel._on_metrics(data)
    wait_until(lambda: other.taken == [b"first", b"last"])
    assert other.tries.count(b"bad") == MOST_TRIES
    assert [line for line in said if "given up" in line and "I do not want it" in line], said


def test_metrics_are_kept_while_the_other_side_cannot_take_them(
    channel: RobotChannel, other: OtherSide, said: list[str]
) -> None:
    other.later = {b"first": 5 * MOST_TRIES, b"never": MOST_LATER}
    for data in (b"first", b"never", b"last"):
        channel._on_metrics(data)
    wait_until(lambda: other.taken == [b"first", b"last"])
    assert other.tries.count(b"first") == 5 * MOST_TRIES + 1
    assert [line for line in said if "given up" in line and "no learner runs there" in line], said
    assert channel._owed.lost == 1


def test_too_many_metrics_are_told_and_counted(
    channel: RobotChannel, other: OtherSide, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other.ready = False
    wait_until(lambda: channel._node.diagnostics.set.called)
    wait_until(lambda: not channel._ready)
    for number in range(2003):
        channel._on_metrics(b"%d" % number)
    assert channel._owed.lost == 3
    assert sum("the oldest is lost" in line for line in said) == 3  # throttled by the log
    other.ready = True
    wait_until(lambda: len(other.taken) == 2000)
    assert other.taken == [b"%d" % number for number in range(3, 2003)]


def test_an_owed_message_that_fell_out_is_neither_taken_nor_refused() -> None:
    owed = Owed(2)
    assert owed.add(b"a")
    assert owed.add(b"b")
    number, _ = owed.first() or (-1, b"")
    assert not owed.add(b"c")
    owed.taken(number)
    assert not owed.refused(number)
    assert len(owed) == 2
    assert owed.first() == (1, b"b")


def test_repeated_work_ends_by_its_event_alone() -> None:
    stopping, raised = threading.Event(), []

    def step() -> None:
        if len(raised) == 2:
            stopping.set()
        raise KeyError("x")

    repeat(step, stopping, raised.append)
    assert len(raised) == 3
    guarded(lambda _: step(), raised.append)(None)
    assert len(raised) == 4


def test_the_learners_end_answers_also_where_it_fails_by_surprise(
    learners_end: LearnerChannel, said: list[str]
) -> None:
    query = MagicMock()

    def serve(_query: Any) -> None:
        raise KeyError("by surprise")

    learners_end._guarded(serve)(query)
    (answer,) = query.reply_err.call_args.args
    assert answer.decode().startswith(LATER)  # nothing is wrong with what it was given
    query.reply_err.side_effect = OSError("gone")
    learners_end._guarded(serve)(query)
    assert [line for line in said if "gone" in line]


def test_the_learners_end_takes_no_metrics_while_no_learner_hears_them(
    learners_end: LearnerChannel, said: list[str]
) -> None:
    query = MagicMock(payload=serialize_message(Metrics()), attachment=b"session 0")
    take = learners_end._guarded(learners_end._take_metrics)
    learners_end._client.service_is_ready.return_value = False
    take(query)
    assert query.reply_err.call_args.args == (f"{LATER}no learner runs there".encode(),)
    assert not said
    assert not learners_end._metrics.publish.called
    learners_end._client.service_is_ready.return_value = True
    take(query)
    learners_end._metrics.publish.assert_called_once()
    query.payload = b"no message at all"
    take(query)
    assert not query.reply_err.call_args.args[0].decode().startswith(LATER)
