# SPDX-License-Identifier: Apache-2.0
"""What figures of a recording are drawn from."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_recording.sketch import BINS, MOST_THUMBNAILS, Sketch


@given(count=st.integers(1, 70))
@settings(max_examples=20, deadline=None)
def test_thumbnails_are_spread_evenly_over_however_many_episodes(make_spec, make_episode, count):
    spec = make_spec(cameras=1)
    sketch = Sketch(spec)
    for number in range(count):
        sketch.add(make_episode(spec, number, steps=2))
    shown = [int(each.title.split()[0]) for each in sketch.thumbnails]
    assert shown[0] == 0
    assert min(count, MOST_THUMBNAILS // 2) <= len(shown) <= MOST_THUMBNAILS
    (stride,) = set(np.diff(shown)) or {1}
    assert count - shown[-1] <= stride
    for number, each in zip(shown, sketch.thumbnails, strict=True):
        np.testing.assert_array_equal(each.pictures["front"], make_episode(spec, number, steps=2).observation["front"])


def test_every_value_of_an_action_is_counted_once(make_spec, make_episode):
    spec = make_spec(cameras=0)
    sketch = Sketch(spec)
    episodes = [make_episode(spec, seed, steps=50) for seed in range(3)]
    episodes[1].action[:, 2] = 1.0
    episodes[2].action[7] = (-1.5, 1.5, 0.0)
    for episode in episodes:
        sketch.add(episode)
    values = np.concatenate([episode.action for episode in episodes])
    np.testing.assert_array_equal(sketch.outside, [1, 1, 0])
    np.testing.assert_array_equal(sketch.actions.sum(axis=1) + sketch.outside, [150, 150, 150])
    places = np.clip(np.floor((values + 1) / 2 * BINS), 0, BINS - 1)
    for component in range(3):
        inside = np.abs(values[:, component]) <= 1
        expected = np.bincount(places[inside, component].astype(int), minlength=BINS)
        assert np.abs(sketch.actions[component] - expected).sum() <= 2  # a value at an edge may round to either side


def test_intervals_are_those_of_measured_stamps(make_spec, make_episode):
    spec = make_spec(cameras=0)
    sketch = Sketch(spec)
    episode = make_episode(spec, 1, steps=3)
    sketch.add(replace(episode, stamp=np.array([0, 100, 300, 350], np.int64) * 1_000_000))
    sketch.add(make_episode(spec, 2, steps=3, stamped=False))
    assert sketch.intervals.tolist() == pytest.approx([0.1, 0.2, 0.05])
