# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serl_robots.safety.braking import braked, braking_distance, stoppable_speed

drops = st.floats(1e-3, 10.0)
periods = st.floats(1e-3, 1.0)


def simulated(speed: float, drop: float, period: float) -> float:
    """Distance after the period of `speed`, summed period by period."""
    distance = 0.0
    while speed > 0.0:
        speed = braked(speed, drop)
        distance += speed * period
    return distance


@given(st.floats(0.0, 3.0), st.floats(0.01, 10.0), periods)
def test_the_braking_distance_is_the_sum_of_the_braking_steps(speed: float, drop: float, period: float) -> None:
    assert braking_distance(speed, drop, period) == pytest.approx(simulated(speed, drop, period), abs=1e-9)


@given(st.floats(0.0, 2.0), drops, periods)
def test_the_stoppable_speed_uses_up_the_distance_exactly(distance: float, drop: float, period: float) -> None:
    speed = stoppable_speed(distance, drop, period)
    assert speed * period + braking_distance(speed, drop, period) == pytest.approx(distance, rel=1e-9, abs=1e-12)


@given(st.floats(0.0, 2.0), st.floats(0.0, 2.0), drops, periods)
def test_more_distance_never_allows_less_speed(a: float, b: float, drop: float, period: float) -> None:
    low, high = sorted((a, b))
    assert stoppable_speed(low, drop, period) <= stoppable_speed(high, drop, period) * (1 + 1e-12)


@pytest.mark.parametrize(("speed", "expected"), [(1.0, 0.7), (-1.0, -0.7), (0.2, 0.0), (-0.2, 0.0), (0.0, 0.0)])
def test_braking_never_turns_round(speed: float, expected: float) -> None:
    assert braked(speed, 0.3) == pytest.approx(expected)
