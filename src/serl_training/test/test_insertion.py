# SPDX-License-Identifier: Apache-2.0
"""The insertion window against a learner that loses messages, answers late and restarts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serl_training.link.insertion_window import InsertionError, InsertionWindow


def test_acknowledged_chunks_are_not_sent_again() -> None:
    window = InsertionWindow(in_flight=2)
    for _ in range(3):
        window.add(4, b"")
    assert [chunk.first_sequence for chunk in window.to_send()] == [0, 4]
    assert window.to_send() == []
    window.acknowledge(4)
    assert [chunk.first_sequence for chunk in window.to_send()] == [8]
    window.resend()
    assert [chunk.first_sequence for chunk in window.to_send()] == [4, 8]
    window.acknowledge(12)
    assert window.backlog == 0


def test_a_learner_that_forgot_what_it_acknowledged_is_an_error() -> None:
    window = InsertionWindow()
    window.add(8, b"")
    window.acknowledge(8)
    with pytest.raises(InsertionError, match="run directory"):
        window.acknowledge(0)


def test_a_learner_that_expects_what_was_never_sent_is_an_error() -> None:
    window = InsertionWindow()
    with pytest.raises(InsertionError, match="only 0"):
        window.acknowledge(1)


@given(
    counts=st.lists(st.integers(1, 5), min_size=1, max_size=30),
    events=st.lists(st.sampled_from(["deliver", "lose", "reply", "resend"]), max_size=200),
    in_flight=st.integers(1, 5),
)
def test_every_transition_arrives_once_and_in_order(counts: list[int], events: list[str], in_flight: int) -> None:
    window = InsertionWindow(in_flight)
    stored: list[int] = []
    network: list = []
    replies: list[int] = []
    waiting = list(counts)

    def deliver() -> None:
        chunk = network.pop(0)
        expected = len(stored)
        if chunk.first_sequence <= expected:
            stored.extend(range(expected, chunk.first_sequence + chunk.count))
        replies.append(len(stored))

    def step(event: str) -> None:
        if waiting:
            window.add(waiting.pop(0), b"")
        network.extend(window.to_send())
        if event == "deliver" and network:
            deliver()
        elif event == "lose" and network:
            network.pop(0)
        elif event == "reply" and replies:
            window.acknowledge(max(window.next_sequence - window.backlog, replies.pop(0)))
        elif event == "resend":
            window.resend()

    for event in events:
        step(event)
    while waiting or window.backlog:  # a network that works again
        step("resend")
        while network:
            deliver()
        while replies:
            step("reply")
    assert stored == list(range(sum(counts)))
