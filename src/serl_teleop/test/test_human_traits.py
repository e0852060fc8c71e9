# SPDX-License-Identifier: Apache-2.0
"""A person who is late, imprecise, tired, or lets go, against what that means."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_config.resources import listing
from serl_config.schema import read_yaml
from serl_robots.model.pose import Pose
from serl_tasks.drift import DriftMonitor
from serl_teleop.scripted.human import ScriptedHuman
from serl_teleop.scripted.traits import RECENT, Traits
from serl_teleop.scripted.unsteady_hand import UnsteadyHand

from serl_tasks import ArmSample, get_task

TASK = get_task("pick_cube")
PERIOD = TASK.control_period
DOWN = np.array([1.0, 0.0, 0.0, 0.0])
shares = st.floats(0.0, 1.0)

Scene = tuple[ArmSample, dict[str, Pose]]


def scenes(seed: int, count: int) -> list[Scene]:
    """What there is to be seen in an episode: a tool that wanders about, and a cube that lies."""
    walk = np.array([0.5, 0.0, 0.3]) + np.cumsum(np.random.default_rng(seed).normal(0.0, 0.01, (count, 3)), axis=0)
    cube = Pose(np.array([0.5, 0.0, 0.02]), np.array([0.0, 0.0, 0.0, 1.0]))
    tools = [Pose(position, DOWN) for position in walk]
    return [(ArmSample(tool, np.zeros(6), 0.08, 0.08), {"tcp": tool, "cube": cube}) for tool in tools]


def episode(
    human: ScriptedHuman, seen: Sequence[Scene], number: int = 1, *, demonstrating: bool = False
) -> list[tuple[float, ...] | None]:
    """What the person does in it."""
    human.begin(number, 0, demonstrating=demonstrating)
    actions = [human.act(*scene) for scene in seen]
    return [None if action is None else tuple(action.tolist()) for action in actions]


@given(st.integers(0, 999), st.integers(0, 999), st.booleans())
@settings(max_examples=20, deadline=None)
def test_without_traits_it_is_the_expert_where_the_policy_drifts(seed: int, number: int, demonstrating: bool) -> None:
    """The person before there were traits, written down once more: learning curves are the same bit for bit."""
    seen = scenes(seed, 45)
    rng = np.random.default_rng([seed, number])
    expert, drift, errors = (
        TASK.make_expert(rng, noise=0.3 if demonstrating else 0.0),
        DriftMonitor(rng),
        TASK.errors.draw(0),
    )
    expected: list[tuple[float, ...] | None] = []
    for step, (arm, objects) in enumerate(seen):
        arm = arm.at_start() if step == 0 else arm
        leads = demonstrating or drift.leads(TASK.distance_to_goal(objects))
        act = expert.act(errors.arm(arm), errors.objects(objects)) if leads else None
        expected.append(None if act is None else tuple(act.tolist()))
    assert episode(ScriptedHuman(TASK, seed), seen, number, demonstrating=demonstrating) == expected


@given(st.integers(0, 99), st.floats(0.0, 2.0), st.booleans())
@settings(max_examples=30, deadline=None)
def test_a_late_person_takes_over_and_gives_back_when_a_prompt_one_did(
    seed: int, delay: float, demonstrating: bool
) -> None:
    seen = scenes(seed, 45)
    prompt = episode(ScriptedHuman(TASK, seed), seen, demonstrating=demonstrating)
    late = episode(ScriptedHuman(TASK, seed, traits=Traits(reaction_delay=delay)), seen, demonstrating=demonstrating)
    steps = round(delay / PERIOD)
    led = [action is not None for action in late]
    assert led == ([False] * steps + [action is not None for action in prompt])[: len(seen)]
    expert, errors = TASK.make_expert(np.random.default_rng(0)), TASK.errors.draw(0)
    for (arm, objects), action in zip(seen, late, strict=True):
        if action is not None and not demonstrating:  # what they do is what is right now
            assert action == tuple(expert.act(errors.arm(arm), errors.objects(objects)).tolist())


def test_what_was_on_its_way_does_not_reach_the_next_episode() -> None:
    human, seen = ScriptedHuman(TASK, 0, traits=Traits(reaction_delay=5 * PERIOD)), scenes(0, 20)
    first = episode(human, seen, 1, demonstrating=True)
    second = episode(human, seen, 2, demonstrating=True)
    assert first[:5] == second[:5] == [None] * 5 and None not in first[5:] + second[5:]


def test_the_noise_of_an_unsteady_hand_has_the_covariance_that_it_says() -> None:
    """Of many hands at once: the covariance of any two steps, also of the first, and of two components."""
    hands, steps, deviation, period, time = 4000, 6, 0.3, 0.05, 0.1
    hand = UnsteadyHand(np.random.default_rng(1), hands, deviation, period, time)
    found = np.array([hand.step() for _ in range(steps)])  # (steps, hands)
    lags = np.abs(np.subtract.outer(np.arange(steps), np.arange(steps))) * period
    # What the stationary solution of dx = -x dt / T + s sqrt(2 / T) dW has: s² exp(-|t - t'| / T).
    expected = deviation**2 * np.exp(-lags / time)
    error = deviation**2 * math.sqrt(2.0 / hands)  # standard error of a variance
    assert np.abs(found @ found.T / hands - expected).max() < 5.0 * error
    assert np.abs(found.mean(axis=1)).max() < 5.0 * deviation / math.sqrt(hands)
    halves = found[:, : hands // 2], found[:, hands // 2 :]
    assert np.abs(np.mean(halves[0] * halves[1], axis=1)).max() < 5.0 * error


def test_noise_without_memory_is_white() -> None:
    hand = UnsteadyHand(np.random.default_rng(2), 1, 1.0, 0.05, 0.0)
    values = np.array([hand.step()[0] for _ in range(4000)])
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 5.0 / math.sqrt(len(values))


def test_an_imprecise_person_errs_in_motion_and_not_in_gripping() -> None:
    seen = scenes(3, 40)
    exact = np.array(episode(ScriptedHuman(TASK, 3), seen, demonstrating=True))
    shaky = np.array(episode(ScriptedHuman(TASK, 3, traits=Traits(imprecision=0.4)), seen, demonstrating=True))
    assert TASK.action.names[-1] == "gripper"
    np.testing.assert_array_equal(shaky[:, -1], exact[:, -1])
    hand = UnsteadyHand(np.random.default_rng([3, 1, 1]), 3, 0.4, PERIOD, 0.5)
    added = np.array([hand.step() for _ in seen])
    np.testing.assert_allclose(shaky[:, :-1], np.clip(exact[:, :-1] + added, -1.0, 1.0), atol=1e-6)


@given(shares, shares, st.tuples(shares, shares), st.tuples(shares, shares))
def test_help_never_becomes_likelier_with_success_or_tiredness(
    most: float, part: float, alone: tuple[float, float], tired: tuple[float, float]
) -> None:
    traits = Traits(most_help=most, least_help=part * most)
    less, more = sorted(alone)
    fresh, tired_out = sorted(tired)
    assert 0.0 <= traits.help_probability(more, tired_out) <= traits.help_probability(less, fresh) <= most
    assert traits.help_probability(0.0, 0.0) == most
    assert traits.help_probability(1.0, 0.0) == pytest.approx(traits.least_help)


@given(st.lists(st.floats(0.0, 1e4), min_size=2, max_size=9), st.floats(1.0, 1e4))
def test_who_leads_longer_is_never_less_tired(led: list[float], endurance: float) -> None:
    traits = Traits(reaction_delay=0.3, imprecision=0.1, endurance=endurance)
    tired = [traits.tiredness(time) for time in sorted(led)]
    assert tired == sorted(tired) and tired[0] >= 0.0 and tired[-1] <= 1.0
    delays = [traits.delay_steps(PERIOD, each) for each in tired]
    assert delays == sorted(delays) and delays[-1] <= 2 * math.ceil(0.3 / PERIOD)
    assert all(0.1 <= traits.deviation(each) <= 0.2 for each in tired)
    assert traits.tiredness(endurance) == pytest.approx(0.632, abs=5e-4)
    assert Traits().tiredness(1e9) == 0.0


def test_the_share_of_helped_episodes_is_the_probability_that_the_successes_say() -> None:
    """The policy succeeds alone in every second episode, and stalls in the others."""
    human = ScriptedHuman(TASK, 5, traits=Traits(least_help=0.2))
    start = scenes(5, 1)[0]
    tools = [Pose(start[0].tcp.position - [0.0, 0.0, 0.01 * step], DOWN) for step in range(12)]
    approach = [(ArmSample(tool, np.zeros(6), 0.08, 0.08), {**start[1], "tcp": tool}) for tool in tools]
    helped, chances = [], []
    for number in range(400):
        if number % 2:
            assert not any(episode(human, approach, number))
            human.succeeded(number)
            continue
        chances.append(1.0 - 0.8 * min(number // 2, RECENT // 2) / RECENT)
        helped.append(any(action is not None for action in episode(human, [start] * 30, number)))
        assert human.alone == min(number // 2, RECENT // 2) / RECENT
    deviation = math.sqrt(sum(chance * (1.0 - chance) for chance in chances))
    assert abs(sum(helped) - sum(chances)) < 4.0 * deviation
    assert chances[-1] == pytest.approx(0.6)


def test_an_episode_that_a_person_led_did_not_succeed_alone() -> None:
    human = ScriptedHuman(TASK, 0, traits=Traits(least_help=0.5))
    assert any(episode(human, scenes(0, 1) * 30, 1))
    human.succeeded(1)
    human.begin(2, 0, demonstrating=False)
    assert human.alone == 0.0


def test_a_success_that_is_heard_of_late_is_of_its_own_episode() -> None:
    human, seen = ScriptedHuman(TASK, 0, interventions=False), scenes(0, 3)
    episode(human, seen, 7)
    human.begin(8, 0, demonstrating=False)
    human.succeeded(7)
    human.succeeded(3)  # of an episode that the person has not seen
    assert human.alone == 1 / RECENT
    episode(human, seen, 9, demonstrating=True)
    assert human.alone == 1 / RECENT, "a demonstration is none of them"


@given(st.integers(1, 8), st.integers(0, 6), st.integers(0, 50))
@settings(max_examples=30, deadline=None)
def test_a_hand_lets_go_in_time_and_rests(longest: int, rest: int, seed: int) -> None:
    traits = Traits(longest_help=longest * PERIOD, rest=rest * PERIOD)
    acts = episode(ScriptedHuman(TASK, seed, traits=traits), scenes(seed, 1) * 120)
    led = "".join("." if action is None else "L" for action in acts)
    turns = [turn for turn in led.split(".") if turn]
    assert turns and max(map(len, turns)) == longest
    inner = led.strip(".")
    for begin in range(len(inner)):
        if inner[begin : begin + longest] == "L" * longest:
            pause = inner[begin + longest : begin + longest + max(1, rest)]
            assert set(pause) <= {"."}
    assert "." not in "".join(
        "L" if a else "." for a in episode(ScriptedHuman(TASK, 0, traits=traits), scenes(0, 60), demonstrating=True)
    )


def test_a_session_tires() -> None:
    human = ScriptedHuman(TASK, 0, traits=Traits(reaction_delay=2 * PERIOD, endurance=30 * PERIOD))
    delays = []
    for number in range(8):
        acts = episode(human, scenes(number, 40), number, demonstrating=True)
        delays.append(sum(action is None for action in acts))
    led = np.cumsum([0] + [40 - delay for delay in delays[:-1]])
    assert delays == [round(2.0 * (2.0 - math.exp(-steps / 30.0))) for steps in led]
    assert delays[0] == 2 and delays[-1] == 4


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"reaction_delay": -0.1}, "reaction_delay: expected a number from 0, found -0.1"),
        ({"imprecision": math.nan}, "imprecision: expected a number from 0, found nan"),
        ({"endurance": math.inf}, "endurance: expected a number from 0"),
        ({"least_help": 0.9, "most_help": 0.5}, "least_help <= most_help <= 1, found 0.9 and 0.5"),
        ({"most_help": 1.5}, "least_help <= most_help <= 1"),
        ({"rest": 1.0}, "longest_help above 0"),
    ],
)
def test_a_person_that_nobody_is_is_refused(values: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Traits(**values)


def test_the_files_of_people_are_people_and_the_fresh_one_has_no_traits() -> None:
    files = listing("config/people", ".yaml")
    values = {name: read_yaml(file)[0]["/**"]["ros__parameters"] for name, file in files.items()}
    people = {name: Traits(**value) for name, value in values.items()}
    assert people["fresh"] == Traits()
    assert set(values["fresh"]) == {field.name for field in dataclasses.fields(Traits)}
    assert people["tired"].eases_off and people["tired"].endurance > 0.0


def test_who_demonstrates_is_as_unsteady_as_the_task_says() -> None:
    seen = scenes(3, 30)

    def demonstrated(noise: float, **more: float) -> list[tuple[float, ...] | None]:
        task = dataclasses.replace(TASK, demonstration_noise=noise)
        return episode(ScriptedHuman(task, 5, **more), seen, demonstrating=True)

    assert demonstrated(0.1) == demonstrated(0.3, demonstration_noise=0.1)
    assert demonstrated(0.1) != demonstrated(0.3)
