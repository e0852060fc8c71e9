# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serl_cameras.health import Health, Limits, State

LIMITS = Limits(timeout=1.0, frozen_after=0.5, min_rate=10.0)


def frame(value, height=40):
    return np.full((height, 8, 3), value, np.uint8)


def play(health, start, seconds, rate, pictures=None):
    """Feed pictures from `start` on; returns the time of the last one and which of them were shown."""
    shown = []
    for k in range(round(seconds * rate)):
        now = start + k / rate
        shown.append(health.arrived(frame(k % 251) if pictures is None else pictures(k), now))
    return now, shown


def test_a_camera_that_runs_is_trusted():
    health = Health(LIMITS, 0.0)
    assert health.report(0.5).state is State.OPENING
    health.opened(0.5)
    now, shown = play(health, 1.0, 5.0, 30.0)
    report = health.report(now)
    assert all(shown)
    assert report.state is State.RUNNING
    assert report.rate == pytest.approx(30.0, rel=0.02)
    assert report.age == 0.0


@given(st.floats(0.5, 3.0), st.sampled_from([15.0, 30.0, 60.0]))
def test_the_same_picture_is_shown_no_longer_than_allowed(seconds, rate):
    health = Health(LIMITS, 0.0)
    health.opened(0.0)
    now, shown = play(health, 0.0, seconds, rate, lambda k: frame(7))
    times = np.arange(len(shown)) / rate
    assert shown == [bool(age <= LIMITS.frozen_after) for age in times]
    assert (health.report(now).state is State.FROZEN) == (now > LIMITS.frozen_after)
    assert health.arrived(frame(8), now + 1 / rate), "a new picture is trusted at once"
    assert health.report(now + 1 / rate).state is State.RUNNING


def test_one_pixel_is_a_change():
    changed = frame(7)
    changed[17, 3, 1] += 1  # in no row of the quick comparison
    health = Health(LIMITS, 0.0)
    health.opened(0.0)
    _, shown = play(health, 0.0, 3.0, 30.0, lambda k: changed if k % 2 else frame(7))
    assert all(shown)


def test_a_still_picture_is_fine_where_it_is_allowed():
    health = Health(Limits(timeout=1.0, frozen_after=0.0, min_rate=0.0), 0.0)
    health.opened(0.0)
    now, shown = play(health, 0.0, 5.0, 30.0, lambda k: frame(7))
    assert all(shown)
    assert health.report(now).state is State.RUNNING


def test_few_pictures_are_slow_and_none_are_silence():
    health = Health(LIMITS, 0.0)
    health.opened(0.0)
    now, shown = play(health, 0.0, 5.0, 4.0)
    report = health.report(now)
    assert (report.state, all(shown)) == (State.SLOW, True)
    assert report.message == "4.0 pictures in a second, expected at least 10"
    report = health.report(now + 1.5)
    assert (report.state, report.message) == (State.SILENT, "no picture for 1.5 s")
    assert report.age == pytest.approx(1.5)


def test_a_camera_that_never_gave_a_picture_is_silent_too():
    health = Health(LIMITS, 10.0)
    assert health.report(10.9).state is State.OPENING
    assert health.report(12.0).message == "no picture for 2.0 s"  # opening hangs
    health.opened(12.5)
    assert health.report(14.0).message == "no picture for 1.5 s"


def test_a_lost_camera_says_why_and_comes_back():
    health = Health(LIMITS, 0.0)
    health.opened(0.0)
    now, _ = play(health, 0.0, 1.0, 30.0)
    health.lost("/dev/video0: gives no picture any more", now, now + 2.0)
    report = health.report(now + 0.5)
    assert report.state is State.LOST
    assert report.message == "/dev/video0: gives no picture any more; next try in 1.5 s"
    assert report.losses == 1
    health.opened(now + 2.0)
    assert health.report(now + 2.1).state is State.OPENING
    now, _ = play(health, now + 2.2, 0.5, 30.0, lambda k: frame(100 + k))
    assert health.report(now).state is State.RUNNING
