# SPDX-License-Identifier: Apache-2.0
"""Improving an imported policy agrees with an independent one: every array of an update, and every action."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from serl_rl.backends import create_agent, make_policy
from serl_rl.base_action import BASE_ACTION, with_base_action
from serl_rl.config import LearningConfig, SACConfig, VisionConfig
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.spec import DataError, TransitionSpec

from .networks import below, mlp
from .reference import AFTER_ONE, AFTER_TWENTY, expect_same, expect_same_info, make_agent, parameters, state_of, update
from .sac_reference import SACReference
from .sight import Sight
from .tape import Value
from .test_sac import CONFIG, make_batch

pytestmark = pytest.mark.usefixtures("cheap_compilation")

MAPS = ((1, 3, 2, 4), "float16")
SPEC = with_base_action(TransitionSpec({"cube": ((3,), "float32")}, 2))
SEEN = with_base_action(TransitionSpec({"cube": ((3,), "float32"), "front": MAPS}, 2, encoder="hash"))
VISION = VisionConfig(embeddings=2, width=5)
WAYS: dict[str, dict[str, Any]] = {
    "residual": {"improve": "residual", "residual_scale": 0.7, "backup_entropy": True},
    "proposals": {"improve": "proposals", "critics": 3, "critic_subset": 2},
}


@pytest.mark.parametrize("way", WAYS)
def test_one_update_and_twenty(way, backend):
    config, sight = replace(CONFIG, **WAYS[way]), Sight(SPEC)
    agent = make_agent(backend, SPEC, sac=config)
    reference = SACReference(state_of(agent), agent.arrays()["key"], config, sight)
    start = dict(reference.state)
    for number in range(20):
        batch = make_batch(SPEC, number)
        agent, info = agent.update(batch)
        expected = update(reference, batch)
        if number == 0:
            expect_same(agent, reference.state, start, AFTER_ONE)
            expect_same_info(info, expected, AFTER_ONE)
    expect_same(agent, reference.state, start, AFTER_TWENTY)
    expect_same_info(info, expected, AFTER_TWENTY)


@pytest.mark.parametrize("way", WAYS)
def test_the_best_action_is_corrected_or_chosen(way, backend):
    config = replace(CONFIG, **WAYS[way])
    agent = make_agent(backend, SEEN, sac=config, vision=VISION)
    policy = make_policy(PolicySnapshot.from_bytes(agent.policy_snapshot().to_bytes()))
    policy.check(SEEN)
    params = parameters(state_of(agent), "acting_average", "target_critic")
    reference, sight = SACReference({}, np.zeros(2, np.uint32), config, Sight(SEEN, VISION)), Sight(SEEN, VISION)
    rng, taken = np.random.default_rng(3), set()
    for _ in range(20):
        one = {
            name: rng.standard_normal(SEEN.drawn_shape(name)).astype(entry.dtype)
            for name, entry in SEEN.observation.items()
        }
        one[BASE_ACTION] = rng.uniform(-1.0, 1.0, 2).astype(np.float32)
        batch = {name: rows[None] for name, rows in one.items()}
        seen = sight.look(below(params, "acting_average/vision/params"), batch)
        own = np.tanh(mlp(below(params, "acting_average/actor/params"), seen, "relu", True).array[0][:2])
        if way == "residual":
            expected = np.clip(one[BASE_ACTION] + 0.7 * own, -1.0, 1.0)
        else:
            following = reference.seen(params, "target_critic", batch)
            values = [
                reference.q(params, "target_critic", following, Value(each[None])).array.min()
                for each in (own, one[BASE_ACTION])
            ]
            taken.add(bool(values[0] > values[1]))
            expected = own if values[0] > values[1] else one[BASE_ACTION]
        np.testing.assert_allclose(policy.act(one, deterministic=True), expected, atol=1e-5)
    assert way == "residual" or taken == {True, False}


def test_a_new_correction_is_none(backend):
    config = SACConfig(hidden_sizes=(8,), improve="residual")
    policy = make_policy(create_agent(0, SPEC, LearningConfig(backend=backend, sac=config)).policy_snapshot())
    rng = np.random.default_rng(0)
    for _ in range(5):
        base = rng.uniform(-1.0, 1.0, 2).astype(np.float32)
        observation = {"cube": rng.standard_normal(3).astype(np.float32), BASE_ACTION: base}
        np.testing.assert_array_equal(policy.act(observation, deterministic=True), base)
        explored = policy.act(observation, deterministic=False, rng=rng)
        assert 0.0 < np.abs(explored - base).max() <= config.residual_scale


def test_without_a_base_action_there_is_nothing_to_improve(backend):
    spec = TransitionSpec({"cube": ((3,), "float32")}, 2)
    with pytest.raises(DataError, match="base_action"):
        create_agent(0, spec, LearningConfig(backend=backend, sac=SACConfig(improve="residual")))
    config = LearningConfig(backend=backend, sac=SACConfig(improve="proposals"))
    snapshot = create_agent(0, SPEC, config).policy_snapshot()
    with pytest.raises(DataError, match="observation"):
        make_policy(snapshot).check(spec)


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"agent": "hybrid"}, "agent"),
        ({"policies": "per_arm"}, "policies"),
        ({"acting": {"chunk": 2}}, r"acting\.chunk"),
        ({"vision": {"encoder": {"frozen": False}}}, r"vision\.encoder\.frozen"),
        ({"sac": {"improve": "proposals", "backup_entropy": True}}, "backup_entropy"),
    ],
)
def test_what_cannot_be_improved_is_refused(settings, where):
    with pytest.raises(ValueError, match=where):
        LearningConfig(**{"sac": {"improve": "proposals"}, **settings})
