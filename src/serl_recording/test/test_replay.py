# SPDX-License-Identifier: Apache-2.0
"""Which recordings may move an arm, and how far a replay is from what was recorded."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from serl_recording.episode import RecordingError, RecordingSpec
from serl_recording.replay import check_actions, check_control, compare, distance
from serl_rl.spec import ArraySpec, TransitionSpec

STATE = [{"name": f"tcp_position[{axis}]", "shift": 0.1 * axis, "scale": 0.5} for axis in range(3)]
ACTION = [{"name": name, "scale": 0.04} for name in ("dx", "dy", "gripper")]
MEANING = {"kind": "pick", "robot": "arm", "base_frame": "base", "state": STATE, "action": ACTION}


def spec_of(changes=(), *, actions=3, rate=10.0):
    meaning = {name: value for name, value in (MEANING | dict(changes)).items() if value is not None}
    transitions = TransitionSpec({"state": ArraySpec((3,), "float32")}, actions, meaning=meaning)
    return RecordingSpec(transitions, rate, "pick_cube")


EXPECTED = spec_of()


@pytest.mark.parametrize(
    "found",
    [
        EXPECTED,
        spec_of({"base_frame": None}),  # older recordings do not say it
        spec_of({"frame": "base"}),  # nor that, where it is the usual one
        spec_of({"state": STATE[:1] * 3}),  # what was seen moves nothing
        spec_of(rate=10.05),
    ],
)
def test_actions_of_the_task_are_replayed(found):
    check_control(Path("a.serl"), found, EXPECTED)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (spec_of(actions=4), "expected actions of 3 values, as pick_cube has them, found 4"),
        (spec_of(rate=20.0), "expected 10 actions per second, as pick_cube has them, found 20"),
        (spec_of({"robot": "other"}), "robot: expected arm, as pick_cube has it, found other"),
        (spec_of({"kind": "insert"}), "kind: expected pick, as pick_cube has it, found insert"),
        (spec_of({"frame": "tool"}), "frame: expected base, as pick_cube has it, found tool"),
        (spec_of({"base_frame": "world"}), "base_frame: expected base, as pick_cube has it, found world"),
        (
            spec_of({"action": [each | {"scale": 0.4} for each in ACTION]}),
            "action: expected dx 0.04, dy 0.04, gripper 0.04, as pick_cube has it, found dx 0.4, dy 0.4, gripper 0.4",
        ),
        (spec_of(dict.fromkeys(MEANING)), "does not say what its actions mean: give --unchecked"),
    ],
)
def test_others_are_refused(found, says):
    with pytest.raises(RecordingError) as caught:
        check_control(Path("a.serl"), found, EXPECTED)
    assert str(caught.value).startswith("a.serl: ")
    assert says in str(caught.value)


def test_what_says_nothing_is_taken_where_a_person_says_so():
    check_control(Path("a.serl"), spec_of(dict.fromkeys(MEANING)), EXPECTED, unchecked=True)
    with pytest.raises(RecordingError, match="found 20"):
        check_control(Path("a.serl"), spec_of(dict.fromkeys(MEANING), rate=20.0), EXPECTED, unchecked=True)


def with_state(spec, width):
    """The same, with a state of another width, whatever its meaning says."""
    observation = {"state": ArraySpec((width,), "float32")}
    return replace(spec, transitions=replace(spec.transitions, observation=observation))


@pytest.mark.parametrize("unchecked", [False, True])
def test_a_state_of_another_size_than_it_says_is_refused_before_anything_moves(unchecked):
    with pytest.raises(RecordingError, match=r"a\.serl: state: expected 3 values, as pick_cube has them .* found 4"):
        check_control(Path("a.serl"), with_state(EXPECTED, 4), EXPECTED, unchecked=unchecked)
    check_control(Path("a.serl"), with_state(spec_of({"state": STATE + STATE[:1]}), 4), EXPECTED)  # another one


@pytest.mark.parametrize("value", [1.01, -1.5, float("nan"), float("inf")])
def test_actions_that_no_arm_may_be_given_are_refused(make_episode, value):
    episode = make_episode(EXPECTED, 3, steps=5)
    episode.action[2, 1] = value
    with pytest.raises(RecordingError, match=rf"a\.serl: episode 3 of \w+, step 2: expected .* found {value:g}$"):
        check_actions(Path("a.serl"), episode)
    episode.action[2, 1] = -1.0
    check_actions(Path("a.serl"), episode)


def replayed(make_episode, shift, *, found=EXPECTED, steps=4):
    """An episode whose replay was `shift` [m] beside it from its first step on."""
    episode = make_episode(found, 3, steps=5)
    states = episode.observation["state"].copy()
    states[1:, 0] += shift / 0.5
    executed = episode.action.copy()
    executed[2, 1] = 0.0
    return compare(
        episode,
        found,
        states[: steps + 1],
        EXPECTED,
        executed[:steps],
        success=False,
        led=1,
        limits=frozenset({"speed", "box"}),
        seconds=0.5,
    )


def test_the_tool_path_is_compared_in_metres(make_episode):
    outcome = replayed(make_episode, 0.03)
    np.testing.assert_allclose(outcome.path, [0.0, 0.03, 0.03, 0.03, 0.03], atol=1e-6)
    assert (outcome.recorded, outcome.replayed, outcome.changed, outcome.led) == (5, 4, 1, 1)
    assert outcome.limits == ("box", "speed")
    assert outcome.rate == 8.0
    assert (outcome.recorded_success, outcome.replayed_success, outcome.same_start) == (True, False, True)


def test_how_far_the_tool_is_at_a_step_is_what_the_path_says_of_it(make_episode):
    episode = make_episode(EXPECTED, 3, steps=5)
    states = episode.observation["state"] + np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    whole = {"success": True, "led": 0, "limits": frozenset[str](), "seconds": 0.5}
    outcome = compare(episode, EXPECTED, list(states), EXPECTED, list(episode.action), **whole)
    off = [distance(episode, EXPECTED, step, state, EXPECTED) for step, state in enumerate(states)]
    np.testing.assert_allclose(off, outcome.path)


def test_places_that_are_told_from_different_origins_are_not_compared(make_episode):
    from_start = spec_of({"state": [each | {"name": f"tcp_position_from_start[{i}]"} for i, each in enumerate(STATE)]})
    outcome = replayed(make_episode, 0.1, found=from_start)
    assert outcome.path is None
    episode = make_episode(from_start, 3, steps=5)
    state = episode.observation["state"][0]
    assert distance(episode, from_start, 0, state, EXPECTED) is None
    assert distance(episode, from_start, 0, state, from_start) == 0.0


def test_another_scale_of_the_state_is_another_place(make_episode):
    other = spec_of({"state": [each | {"scale": 1.0} for each in STATE]})
    outcome = replayed(make_episode, 0.0, found=other)
    episode = make_episode(other, 3, steps=5)
    expected = np.linalg.norm(0.5 * episode.observation["state"][:5], axis=1)
    np.testing.assert_allclose(outcome.path, expected, atol=1e-6)
    assert outcome.start is None


def test_a_state_that_says_no_place_has_no_path(make_episode):
    names = [each | {"name": f"joint_positions[{index}]"} for index, each in enumerate(STATE)]
    outcome = replayed(make_episode, 0.1, found=spec_of({"state": names}))
    assert outcome.path is None


def test_another_start_is_seen(make_episode):
    episode = make_episode(EXPECTED, 3, steps=5)
    states = episode.observation["state"] + np.float32(0.01)
    executed = list(episode.action)
    whole = {"success": True, "led": 0, "limits": frozenset[str](), "seconds": 0.5}
    assert not compare(episode, EXPECTED, list(states), EXPECTED, executed, **whole).same_start
    same = replace(episode, observation={"state": states})
    assert compare(same, EXPECTED, list(states), EXPECTED, executed, **whole).same_start
