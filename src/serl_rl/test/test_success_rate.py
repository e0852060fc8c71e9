# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from serl_rl.success_rate import difference_interval, needed_successes, out_of_reach, wilson_interval

counts = st.integers(1, 500).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total)))


@pytest.mark.parametrize(
    ("successes", "episodes", "expected"),
    # Worked examples of Newcombe (1998), table I, method 3.
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611)), (1, 29, (0.0061, 0.1718))],
)
def test_published_intervals(successes, episodes, expected):
    assert wilson_interval(successes, episodes) == pytest.approx(expected, abs=5e-5)


@given(counts)
def test_the_bounds_solve_the_score_equation(count):
    successes, episodes = count
    rate = successes / episodes
    for bound in wilson_interval(successes, episodes):
        assert 0.0 <= bound <= 1.0
        if 0.0 < bound < 1.0:
            assert abs(rate - bound) == pytest.approx(1.959964 * np.sqrt(bound * (1 - bound) / episodes), abs=1e-6)


def test_no_episode_says_nothing():
    assert wilson_interval(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="successes"):
        wilson_interval(3, 2)


@pytest.mark.parametrize(
    ("after", "before", "expected"),
    # Worked examples of Newcombe (1998), Stat. Med. 17, 873-890, table II, method 10.
    [
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((6, 7), (2, 7), (0.0582, 0.8062)),
        ((5, 56), (0, 29), (-0.0381, 0.1926)),
        ((0, 10), (0, 20), (-0.1611, 0.2775)),
        ((10, 10), (0, 20), (0.6791, 1.0)),
    ],
)
def test_published_intervals_of_differences(after, before, expected):
    assert difference_interval(before, after) == pytest.approx(expected, abs=5e-5)


@given(counts, counts)
def test_the_interval_of_a_difference_turns_around_with_it_and_stays_possible(before, after):
    low, high = difference_interval(before, after)
    assert -1.0 - 1e-12 <= low <= after[0] / after[1] - before[0] / before[1] <= high <= 1.0 + 1e-12
    assert difference_interval(after, before) == pytest.approx((-high, -low))


def test_a_difference_needs_both():
    with pytest.raises(ValueError, match="an episode before and one after, found 0 and 2"):
        difference_interval((0, 0), (1, 2))


@pytest.mark.parametrize(("goal", "total", "needed"), [(0.95, 50, 48), (0.95, 20, 19), (1.0, 7, 7), (0.0, 7, 0)])
def test_needed_successes_are_exact(goal, total, needed):
    assert needed_successes(total, goal) == needed


@given(st.integers(1, 60), st.floats(0, 1), st.data())
def test_out_of_reach_means_that_even_luck_does_not_help(total, goal, data):
    done = data.draw(st.integers(0, total))
    successes = data.draw(st.integers(0, done))
    best = (successes + total - done) / total
    assume(abs(best - (goal - 1e-9)) > 1e-12)  # nearer than that, rounding says which
    assert out_of_reach(successes, done, total, goal) == (best < goal - 1e-9)
