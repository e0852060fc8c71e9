# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from serl_rl.reward.calibration import (
    StageCounter,
    area_under_roc,
    balanced_loss,
    choose_threshold,
    first_success,
    fit_temperature,
    rates,
    reliability,
    softmax,
)
from serl_rl.spec import DataError

SCORES = arrays(np.float64, st.integers(1, 60), elements=st.floats(0.0, 0.999))


@given(
    logits=arrays(np.float32, (30, 2), elements=st.floats(-20, 20, width=32)),
    labels=arrays(np.int64, 30, elements=st.integers(0, 1)),
)
def test_the_temperature_never_makes_the_loss_worse_and_keeps_the_order(logits, labels):
    temperature = fit_temperature(logits, labels)
    assert balanced_loss(logits, labels, temperature) <= balanced_loss(logits, labels)
    difference = logits[:, 1].astype(float) - logits[:, 0]
    probability = softmax(logits, temperature)[:, 1]
    order = np.argsort(difference)
    assert (np.diff(probability[order]) >= -1e-12).all()


def test_logits_are_divided_by_the_temperature():
    np.testing.assert_allclose(softmax(np.array([0.0, 2.0 * np.log(4.0)]), 2.0), [0.2, 0.8])


def test_in_the_balanced_loss_every_stage_has_the_same_weight():
    logits = np.log([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0.9, 0.1]])
    expected = 0.5 * -np.log(0.5) + 0.5 * -np.log(0.1)
    assert balanced_loss(logits, np.array([0, 0, 0, 1])) == pytest.approx(expected)


@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
def test_the_temperature_of_logits_that_are_too_sure_is_found(scale):
    rng = np.random.default_rng(0)
    logit = 3.0 * rng.standard_normal(40_000)
    labels = (rng.random(len(logit)) < 1.0 / (1.0 + np.exp(-logit))).astype(int)
    logits = scale * np.stack([np.zeros_like(logit), logit], axis=1)
    assert fit_temperature(logits, labels) == pytest.approx(scale, rel=0.05)


@given(scores=SCORES, data=st.data(), wanted=st.floats(0.0, 0.4))
def test_the_threshold_keeps_the_wanted_rate_and_is_the_lowest_that_does(scores, data, wanted):
    positive = np.array(data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores))))
    if positive.all():
        with pytest.raises(DataError, match="found none"):
            choose_threshold(scores, positive, wanted)
        return
    threshold = choose_threshold(scores, positive, wanted)
    false, _ = rates(scores, positive, threshold)
    assert false.value <= wanted + 1e-9
    assert 0.5 <= threshold <= 1.0
    if threshold > 0.5:
        lower, _ = rates(scores, positive, float(np.nextafter(threshold, 0.0)))
        assert lower.value > wanted


def test_failures_that_are_certain_successes_leave_no_threshold():
    with pytest.raises(DataError, match="probability 1"):
        choose_threshold(np.ones(10), np.zeros(10, bool), 0.01)


def test_the_area_under_the_roc_counts_pairs():
    scores, positive = np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])
    assert area_under_roc(scores, positive) == pytest.approx(0.75)
    assert np.isnan(area_under_roc(scores, np.ones(4, bool)))


def test_reliability_compares_belief_and_truth():
    scores = np.array([0.05, 0.05, 0.95, 0.95, 1.0])
    low, high = reliability(scores, np.array([False, False, True, True, False]))
    assert (low.observed.value, low.observed.total) == (0.0, 2)
    assert high.predicted == pytest.approx(2.9 / 3)
    assert (high.observed.count, high.observed.total) == (2, 3)


@given(hits=st.lists(st.booleans(), max_size=40), consecutive=st.integers(1, 5))
def test_success_needs_frames_in_a_row(hits, consecutive):
    rows = np.array([[0.1, 0.9] if hit else [0.9, 0.1] for hit in hits]).reshape(-1, 2)
    text = "".join("x" if hit else "." for hit in hits)
    start = text.find("x" * consecutive)
    expected = None if start < 0 else start + consecutive - 1
    assert first_success(rows, [0.8], consecutive) == expected


def test_an_episode_begins_without_what_the_last_one_saw():
    counter = StageCounter([0.5], consecutive=2)
    assert not counter.update([0.1, 0.9])
    counter.reset()
    assert not counter.update([0.1, 0.9])
    assert counter.update([0.1, 0.9])
    assert counter.update([0.9, 0.1]), "what has succeeded stays so until the next episode"


def test_stages_count_in_their_turn():
    held, done = [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]
    assert first_success(np.array([done, done, held]), [0.5, 0.5], 1) is None
    assert first_success(np.array([held, done]), [0.5, 0.5], 1) == 1


def test_frames_of_one_stage_do_not_count_for_the_next():
    held, done = [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]
    assert first_success(np.array([held, held, done]), [0.5, 0.5], 2) is None
    assert first_success(np.array([held, held, done, done]), [0.5, 0.5], 2) == 3
