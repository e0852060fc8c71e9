# SPDX-License-Identifier: Apache-2.0
"""Two fleets in one namespace: whenever they hear of each other, one ends, and only one."""

from types import SimpleNamespace

import pytest
from serl_tasks.messages import MessageError
from serl_training.fleet import graph_rivals
from serl_training.fleet.graph_rivals import Rivals, must_end

A, B = "a" * 32, "b" * 32


@pytest.mark.parametrize("delay", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("apart", [0.0, 1.0, 1.9, 2.0, 2.2, 3.1, 3600.0])
@pytest.mark.parametrize("first", [A, B])
def test_of_two_fleets_never_both_end_and_the_later_one_does_where_it_is_clear(first, apart, delay):
    second = B if first == A else A
    older, younger = (first, 100.0 + apart), (second, 100.0)
    # Each knows the other as it was `delay` ago.
    older_ends = must_end(older, (second, 100.0 - delay))
    younger_ends = must_end(younger, (first, older[1] - delay))
    assert not (older_ends and younger_ends)
    if apart > graph_rivals._TIE + delay:
        assert younger_ends
    if not delay and apart != graph_rivals._TIE:
        assert older_ends or younger_ends


@pytest.fixture
def fleets(monkeypatch):
    """Nodes that hear each other when a test says so, and a clock."""
    now = SimpleNamespace(value=100.0)
    monkeypatch.setattr(graph_rivals.time, "monotonic", lambda: now.value)
    monkeypatch.setattr(graph_rivals, "subscribe", lambda *_: None)

    def fleet():
        sent = []
        node = SimpleNamespace(
            get_namespace=lambda: "/", create_publisher=lambda *_: SimpleNamespace(publish=sent.append)
        )
        return Rivals(node), sent

    return fleet, now


def test_a_fleet_that_is_heard_late_ends_the_later_one(fleets):
    fleet, now = fleets
    (first, told), (second, _) = fleet(), fleet()
    first.begin()
    first.tell()
    now.value += 30.0
    second.begin()  # it has heard nothing, and is at work, too
    now.value += 0.1
    first.tell()
    second._hear(told[0])  # of long ago: what it tells is younger than it is
    second._hear(told[-1])
    assert "another fleet is at work in /" in second.problem
    second.tell()
    assert not first.problem


def test_one_that_has_not_begun_ends_for_any_other(fleets):
    fleet, _ = fleets
    (at_work, told), (new, silent) = fleet(), fleet()
    at_work.begin()
    at_work.tell()
    new.tell()
    assert not silent, "who is not at work yet drives nobody away"
    new._hear(told[0])
    assert new.problem


def test_a_fleet_does_not_end_for_itself_and_tells_twice_a_second(fleets):
    fleet, now = fleets
    rivals, told = fleet()
    rivals.begin()
    for _ in range(100):
        now.value += 0.05
        rivals.tell()
    assert 9 <= len(told) <= 11
    for message in told:
        rivals._hear(message)
    assert not rivals.problem


@pytest.mark.parametrize("text", ["", "x", f"{A} nan", f"{A} -1.0", f"{A} 1e9", f"{A}  1.0", "Z" * 32 + " 1.0"])
def test_what_is_no_session_is_refused(fleets, text):
    rivals, _ = fleets[0]()
    with pytest.raises(MessageError, match="data: expected an identifier"):
        rivals._hear(SimpleNamespace(data=text))
