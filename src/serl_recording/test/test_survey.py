# SPDX-License-Identifier: Apache-2.0
"""What is said of a recording, and what is found wrong with it."""

from dataclasses import replace

import numpy as np
import pytest
from serl_recording.survey import Survey

STEPS = 40


@pytest.fixture
def sound(make_spec, make_episode):
    spec = make_spec(cameras=1)
    return spec, make_episode(spec, 5, steps=STEPS)


def findings(spec, *episodes):
    survey = Survey(spec)
    for episode in episodes:
        survey.add(episode)
    return survey.conclude()


def test_nothing_is_found_in_a_sound_episode(sound, make_episode):
    spec, episode = sound
    assert findings(spec, episode, make_episode(spec, 6, steps=STEPS, success=False)) == []


def test_numbers_are_those_of_the_episodes(sound, make_episode):
    spec, episode = sound
    survey = Survey(spec)
    other = make_episode(spec, 6, steps=3, success=False, stamped=False)
    survey.add(episode)
    survey.add(other)
    assert (survey.steps, survey.lengths, survey.successes, survey.truncated) == (STEPS + 3, [STEPS, 3], 1, 1)
    assert survey.returns == [1.0, 0.0]
    assert survey.stamped == 1
    assert survey.led == episode.intervention.sum() + other.intervention.sum()
    actions = np.concatenate([episode.action, other.action])
    np.testing.assert_array_equal(survey.actions.low, actions.min(axis=0))
    np.testing.assert_array_equal(survey.actions.high, actions.max(axis=0))


def test_a_frozen_camera_is_found_and_one_of_an_arm_at_rest_is_none(sound):
    spec, episode = sound
    pictures = episode.observation["front"].copy()
    pictures[10:30] = pictures[10]
    frozen = replace(episode, observation={**episode.observation, "front": pictures})
    (line,) = findings(spec, frozen)
    assert "camera front: the same picture from step 10 to 29" in line
    state = episode.observation["state"].copy()
    state[10:30] = state[10]
    assert findings(spec, replace(frozen, observation={"front": pictures, "state": state})) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda stamp, period: stamp[20:].__iadd__(3 * period), "3 frames were dropped, the first behind step 19"),
        (lambda stamp, period: stamp[20:].__iadd__(60 * period), "the clock jumps at step 20 by 6.1"),
        (lambda stamp, period: stamp[20:].__isub__(5 * period), "the clock goes back at step 20 by 0.4"),
    ],
)
def test_stamps_tell_of_dropped_frames_and_jumps(sound, change, expected):
    spec, episode = sound
    stamp = episode.stamp.copy()
    change(stamp, 100_000_000)
    (line,) = findings(spec, replace(episode, stamp=stamp))
    assert expected in line


def test_another_rate_than_the_recording_says_is_found(sound):
    spec, episode = sound
    (line,) = findings(replace(spec, rate=12.5), episode)
    assert line.startswith("rate: expected 12.5 Hz, found 10")


def test_constant_actions_saturation_and_values_out_of_range_are_found(sound):
    spec, episode = sound
    action = episode.action.copy()
    action[:, 0] = 0.25
    action[:, 1] = np.where(np.arange(STEPS) == 7, 0.0, np.sign(action[:, 1]))
    action[:, 2] = 1.5 * np.sign(action[:, 2])
    lines = findings(spec, replace(episode, action=action))
    assert lines == [
        "action dx: is 0.25 in all 40 steps",
        "action dy: at its bound in 98 % of the steps",
        "action gripper: expected values in [-1, 1], found -1.5 to 1.5",
    ]
    assert "the action is the same in all 40 steps" in findings(spec, replace(episode, action=0 * action))[-1]


def test_a_success_without_reward_a_missing_end_and_black_pictures_are_found(sound, unended):
    spec, episode = sound
    black = {**episode.observation, "front": 0 * episode.observation["front"]}
    lines = findings(spec, replace(unended(episode), reward=0 * episode.reward, observation=black))
    for expected in ("no reward is above 0", "no end", "41 pictures of one colour", "the same picture"):
        assert sum(expected in line for line in lines) == 1


def test_an_empty_recording_is_nothing_to_learn_from(make_spec):
    assert findings(make_spec()) == ["there is no complete episode"]
