# SPDX-License-Identifier: Apache-2.0
"""Policies that plan several actions, and what ends a plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from serl_rl.backends import make_policy
from serl_rl.policy.acting import ActionChunk, NoisyMean
from serl_rl.policy.numpy_policy import NumpyPolicy
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.spec import TransitionSpec
from serl_training.actor.behaviours import Exploring, Greedy
from serl_training.actor.perception import FrameStacker
from serl_training.link.learner_link import LearnerTotals

SPEC = TransitionSpec({"state": ((1,), "float32")}, 1)


def planning(offset: float, chunk: int = 3) -> NumpyPolicy:
    """Plans offset + state + 0, 1, 2 ... tenths, before the squashing, and executes all of it."""
    arrays = {
        "trunk/dense_0/kernel": np.array([[1.0, -1.0]], np.float32),
        "trunk/dense_0/bias": np.zeros(2, np.float32),
        "head/kernel": np.repeat(np.array([[1.0], [-1.0]], np.float32), chunk, axis=1),
        "head/bias": offset + 0.1 * np.arange(chunk, dtype=np.float32),
    }
    actor = ActionChunk(chunk, chunk) if chunk > 1 else NoisyMean(0.0)
    return make_policy(PolicySnapshot(arrays, {"state": 1}, "relu", actor))


@dataclass
class Learner:
    """Has a policy, which somebody changes."""

    policy: NumpyPolicy
    policy_version: int = 1
    totals: LearnerTotals = field(default_factory=lambda: LearnerTotals(env_steps=100))


def act(behaviour: Any, state: float, **info: Any) -> tuple[float, int]:
    """What is chosen, before the squashing, and by which version."""
    action, version = behaviour.act({"state": np.array([state], np.float32)}, info)
    return round(float(np.arctanh(action[0])), 4), version


def exploring(learner: Learner) -> Exploring:
    return Exploring(learner, FrameStacker(SPEC), np.random.default_rng(0), 10)  # type: ignore[arg-type]


def test_a_plan_is_executed_to_its_end_though_newer_policies_arrive():
    learner = Learner(planning(0.0))
    behaviour = exploring(learner)
    behaviour.reset()
    assert act(behaviour, 0.5) == (0.5, 1)
    learner.policy, learner.policy_version = planning(-0.3), 2
    assert [act(behaviour, 0.9) for _ in range(2)] == [(0.6, 1), (0.7, 1)]
    assert act(behaviour, 0.9) == (0.6, 2)


@pytest.mark.parametrize("info", [{"intervention": True}, {"intervention": False, "interrupted": True}])
@pytest.mark.parametrize("make", [exploring, lambda learner: Greedy(learner.policy, 1, FrameStacker(SPEC))])
def test_who_takes_over_ends_the_plan(make, info):
    behaviour = make(Learner(planning(0.0)))
    behaviour.reset()
    assert act(behaviour, 0.5)[0] == 0.5
    assert act(behaviour, 0.2, **info)[0] == 0.2
    assert act(behaviour, 0.9, intervention=False, interrupted=False)[0] == 0.3


@pytest.mark.parametrize("make", [exploring, lambda learner: Greedy(learner.policy, 1, FrameStacker(SPEC))])
def test_an_episode_begins_with_a_look(make):
    behaviour = make(Learner(planning(0.0)))
    for state in (0.1, 0.4):  # the first one is left: the e-stop, a camera that is silent
        behaviour.reset()
        assert act(behaviour, state)[0] == pytest.approx(state)


def test_single_actions_come_from_the_newest_policy():
    learner = Learner(planning(0.0, chunk=1))
    behaviour = exploring(learner)
    behaviour.reset()
    assert act(behaviour, 0.5) == (0.5, 1)
    learner.policy, learner.policy_version = planning(-0.3, chunk=1), 2
    assert act(behaviour, 0.5) == (0.2, 2)
