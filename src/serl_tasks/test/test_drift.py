# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serl_tasks.drift import DriftMonitor, TakeoverRule

ALWAYS = TakeoverRule(probability=1.0)


def leads(distances, rule=None, seed=0):
    monitor = DriftMonitor(np.random.default_rng(seed), rule)
    return [monitor.leads(distance) for distance in distances]


def turns(led):
    """Lengths of the runs of True."""
    lengths, run = [], 0
    for now in [*led, False]:
        if now:
            run += 1
        elif run:
            lengths.append(run)
            run = 0
    return lengths


def test_nobody_interrupts_who_makes_progress():
    assert not any(leads(np.linspace(0.3, 0.0, 25)))


def test_standing_still_is_tolerated_for_six_steps():
    led = leads([0.2] * 20, ALWAYS)
    assert led.index(True) == 7  # the first step sets the mark, six more are patience


def test_a_late_episode_is_taken_over_in_spite_of_progress():
    assert leads(np.linspace(1.0, 0.0, 40), ALWAYS).index(True) == 25


@given(st.lists(st.floats(0.0, 0.5), max_size=80), st.integers(0, 1000))
def test_a_turn_has_a_sensible_length(distances, seed):
    rule = TakeoverRule(late=1000)
    lengths = turns(leads(distances, rule, seed))
    assert all(length >= rule.shortest_turn for length in lengths[:-1])
    assert all(length <= rule.longest_turn for length in lengths)


def test_patience_begins_anew_after_a_turn():
    rule = TakeoverRule(probability=1.0, shortest_turn=5, longest_turn=5, late=1000)
    assert leads([0.2] * 30, rule) == [False] * 7 + [True] * 5 + [False] * 6 + [True] * 5 + [False] * 6 + [True]


def test_a_reset_forgets_the_episode_before():
    monitor = DriftMonitor(np.random.default_rng(0), ALWAYS)
    for _ in range(10):
        monitor.leads(0.2)
    monitor.reset()
    assert not any(monitor.leads(0.2) for _ in range(7))


@pytest.mark.parametrize(
    "numbers", [{"patience": -1}, {"probability": 1.5}, {"shortest_turn": 0}, {"shortest_turn": 9, "longest_turn": 8}]
)
def test_a_rule_that_is_none_is_refused(numbers):
    with pytest.raises(ValueError, match="takeover rule"):
        TakeoverRule(**numbers)
