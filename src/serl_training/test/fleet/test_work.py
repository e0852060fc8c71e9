# SPDX-License-Identifier: Apache-2.0
"""How the arms of a fleet divide what they do together, whoever comes, goes, fails or waits meanwhile."""

import random
from itertools import count
from types import SimpleNamespace

import pytest
from serl_rl.success_rate import wilson_interval
from serl_training.fleet.work import SharedCollection, SharedDemonstrations, SharedEvaluation, Span, Work

ARMS = ("arm_0", "arm_1", "arm_2")


def evaluated(part: Span, successes=None, version=7):
    """The result of an arm that has run a part; of each episode whose number is divisible by 3 a failure."""
    good = sum(number % 3 != 0 for number in range(part.first, part.first + part.count))
    good = good if successes is None else successes
    return SimpleNamespace(
        episodes=part.count, successes=good, mean_length=10.0 + part.first, policy_version=version, discarded=1
    )


def shares(work: Work, chance: random.Random):
    """Do a work by arms of which any may give its part back; yields who has done which part."""
    held = {}
    for _ in range(10_000):
        if work.is_over(set(held), set()):
            return
        arm = chance.choice(ARMS)
        if arm not in held:
            if (part := work.take(arm)) is not None:
                held[arm] = part
        elif chance.random() < 0.3:
            work.give_back(arm, held.pop(arm))
        else:
            part = held.pop(arm)
            yield arm, part
    raise AssertionError("it does not end")


@pytest.mark.parametrize("episodes", [1, 2, 7, 50])
@pytest.mark.parametrize("seed", range(5))
def test_each_episode_of_an_evaluation_is_run_once_whoever_dies(episodes, seed):
    work = SharedEvaluation(episodes, len(ARMS))
    run, lengths = [], 0.0
    for arm, part in shares(work, random.Random(seed)):
        result = evaluated(part, version=5 + (part.first == 0))
        work.done(arm, part, result)
        run += range(part.first, part.first + part.count)
        lengths += result.mean_length * result.successes
    assert sorted(run) == list(range(episodes))
    joined, good = work.joined(), sum(number % 3 != 0 for number in range(episodes))
    assert (joined.episodes, joined.successes, joined.complete) == (episodes, good, True)
    assert joined.interval == wilson_interval(good, episodes)
    assert joined.mean_length == pytest.approx(lengths / good if good else 0.0)


def test_an_evaluation_is_divided_among_all_arms_in_small_parts():
    work = SharedEvaluation(50, 4)
    parts = list(iter(lambda: work.take("arm_0"), None))
    assert max(part.count for part in parts) <= 50 / 4 / 3  # a slow arm does not keep the others waiting for long
    assert len(parts) <= 4 * 4


def test_an_evaluation_that_cannot_reach_its_rate_is_broken_off():
    work = SharedEvaluation(50, 2, stop_below=0.95)
    part = work.take("arm_0")
    work.done("arm_0", part, evaluated(part, successes=part.count - 2))
    assert not work.is_over(set(), set())  # 48 of 50 are 96 %
    part = work.take("arm_1")
    work.done("arm_1", part, evaluated(part, successes=part.count - 1))
    assert work.is_over(set(), set())
    assert not work.joined().complete


def test_another_arm_runs_the_episodes_of_one_that_waits_for_a_person():
    work = SharedEvaluation(1, 2)
    part = work.take("arm_0")
    assert work.take("arm_1") is None
    assert not work.is_over({"arm_0"}, {"arm_0"})
    assert work.take("arm_1") == part
    assert not work.is_over({"arm_0", "arm_1"}, {"arm_0"}) and work.take("arm_2") is None  # one is enough
    work.give_back("arm_1", part)
    assert not work.is_over({"arm_0"}, {"arm_0"})
    assert work.take("arm_1") == part
    work.done("arm_1", part, evaluated(part, successes=1))
    assert work.is_over({"arm_0"}, {"arm_0"})
    work.done("arm_0", part, evaluated(part, successes=0))  # late: it does not count
    assert work.joined().successes == 1


def test_arms_collect_until_the_run_has_its_env_steps_and_nobody_is_in_an_episode():
    work = SharedCollection(100)
    assert work.take("arm_0") == work.take("arm_1") == 100
    work.done("arm_0", 100, SimpleNamespace(env_steps=99))
    assert work.take("arm_0") == 100  # it was not enough
    work.give_back("arm_1", 100)
    work.done("arm_0", 100, SimpleNamespace(env_steps=104))
    assert work.take("arm_2") is None
    assert not work.is_over({"arm_1"}, set())
    assert work.is_over({"arm_1"}, {"arm_1"})  # a person is not waited for
    work.done("arm_1", 100, SimpleNamespace(env_steps=101))
    assert work.env_steps == 104


@pytest.mark.parametrize("seed", range(5))
def test_as_many_demonstrations_are_recorded_as_were_missing(seed):
    told, numbers = list[tuple[int, int]](), count()
    work = SharedDemonstrations(5, lambda *known: told.append(known))
    for arm, part in shares(work, random.Random(seed)):
        next(numbers)
        work.done(arm, part, SimpleNamespace(episodes=part, attempts=2, transitions=30))
    assert next(numbers) == 5
    assert (work.successes, work.attempts, work.transitions) == (5, 10, 150)
    assert told == [(1, 2), (2, 4), (3, 6), (4, 8), (5, 10)]


def test_no_more_arms_demonstrate_than_demonstrations_are_missing():
    work = SharedDemonstrations(2)
    assert [work.take(arm) for arm in ARMS] == [1, 1, None]
    work.give_back("arm_0", 1)
    assert work.take("arm_2") == 1
