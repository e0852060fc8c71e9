# SPDX-License-Identifier: Apache-2.0
"""Updates of soft actor-critic agree with an independent one, in every array of the state."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from serl_rl.agent import Agent
from serl_rl.backends import create_agent
from serl_rl.config import EncoderConfig, LearningConfig, SACConfig, VisionConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.replay.buffer import empty_batch
from serl_rl.spec import TransitionSpec

from .reference import AFTER_ONE, AFTER_TWENTY, expect_same, expect_same_info, make_agent, state_of, update
from .sac_reference import SACReference
from .sight import Sight

pytestmark = pytest.mark.usefixtures("cheap_compilation")

SPEC = TransitionSpec({"arm": ((3,), "float32"), "cube": ((2,), "float32")}, 2)
CONFIG = SACConfig(
    hidden_sizes=(8,),
    discount=0.9,
    target_rate=0.05,
    acting_rate=0.2,
    actor_lr=1e-3,
    critic_lr=2e-3,
    temperature_lr=3e-3,
    initial_temperature=0.5,
)


def make_batch(spec: TransitionSpec, seed: int, n_steps: int = 1, utd_ratio: int = 1, size: int = 16) -> dict[str, Any]:
    """Random transitions, of which some terminate; where an episode was only cut off, the mask is 1."""
    rng = np.random.default_rng(seed)
    batch = empty_batch(spec, (n_steps, utd_ratio, size))
    for side in ("observation", "next_observation"):
        for rows in batch[side].values():
            rows[...] = rng.integers(0, 256, rows.shape) if rows.dtype == np.uint8 else rng.standard_normal(rows.shape)
    batch["action"][...] = rng.uniform(-1, 1, batch["action"].shape)
    batch["reward"][...] = rng.standard_normal(batch["reward"].shape)
    batch["mask"][...] = rng.random(batch["mask"].shape) < 0.7
    return batch


def both(backend: str, config: SACConfig, sight: Sight, encoder: Encoder | None = None) -> tuple[Agent, SACReference]:
    """An agent, and what it shall do."""
    agent = make_agent(backend, sight.spec, encoder, sac=config, vision=sight.vision)
    return agent, SACReference(state_of(agent), agent.arrays()["key"], config, sight)


CASES: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "entropy in the backup": {"backup_entropy": True},
    "tanh": {"activation": "tanh"},
    "nothing normalized, a target entropy": {"layer_norm": False, "target_entropy": -0.4},
    "ten critics of which two": {"critics": 10, "critic_subset": 2, "backup_entropy": True},
    "two layers, one critic, tanh, nothing normalized": {
        "hidden_sizes": (8, 6), "critics": 1, "activation": "tanh", "layer_norm": False, "backup_entropy": True
    },
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_one_update_and_twenty(backend, case):
    agent, reference = both(backend, replace(CONFIG, **CASES[case]), Sight(SPEC))
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


def test_deviations_beyond_their_bounds_get_no_slope(backend):
    agent, _ = both(backend, CONFIG, Sight(SPEC))
    arrays = agent.arrays()
    bias = arrays["actor/params/head/bias"]
    agent = agent.with_arrays(arrays | {"actor/params/head/bias": bias + np.float32([0.0, 0.0, 3.0, -11.0])})
    reference = SACReference(state_of(agent), arrays["key"], CONFIG, Sight(SPEC))
    start, batch = dict(reference.state), make_batch(SPEC, 0)
    agent, info = agent.update(batch)
    expect_same_info(info, update(reference, batch), AFTER_ONE)
    expect_same(agent, reference.state, start, AFTER_ONE)


def test_a_new_agent_has_learned_nothing(backend):
    arrays = create_agent(0, SPEC, LearningConfig(backend=backend, sac=CONFIG)).arrays()
    assert np.exp(arrays["log_temperature"]) == pytest.approx(CONFIG.initial_temperature)
    for name, array in arrays.items():
        if name.startswith("target_critic/"):
            np.testing.assert_array_equal(array, arrays[name.removeprefix("target_")])
        if name.startswith("acting_average/actor/"):
            np.testing.assert_array_equal(array, arrays[name.removeprefix("acting_average/")])
        if name.startswith("acting_average/vision/"):
            np.testing.assert_array_equal(array, arrays[name.replace("acting_average", "critic")])
        if "optimizer" in name or name == "updates":
            assert not array.any(), name


def test_two_environment_steps_of_three_updates(backend):
    agent, reference = both(backend, replace(CONFIG, backup_entropy=True), Sight(SPEC))
    start, batch = dict(reference.state), make_batch(SPEC, 0, n_steps=2, utd_ratio=3)
    agent, info = agent.update(batch)
    expect_same_info(info, update(reference, batch), AFTER_ONE)
    expect_same(agent, reference.state, start, AFTER_ONE)


STATE, MAPS, PICTURES = ((3,), "float32"), ((1, 3, 2, 4), "float16"), ((16, 12, 3), "uint8")


@pytest.mark.parametrize(
    ("camera", "pooling", "frozen", "frame_stack"),
    [
        (MAPS, "spatial_embeddings", True, 1),
        (MAPS, "spatial_softmax", True, 2),
        (MAPS, "average", True, 1),
        (PICTURES, "spatial_embeddings", True, 2),
        (PICTURES, "spatial_embeddings", False, 2),
    ],
    ids=["embeddings", "softmax", "average", "frozen encoder", "trained encoder"],
)
def test_updates_that_look(backend, camera, pooling, frozen, frame_stack):
    pictures = camera is PICTURES
    entries = {"front": camera, "state": STATE, "wrist": camera}
    spec = TransitionSpec(entries, 2, encoder="" if pictures else "hash", frame_stack=frame_stack)
    eyes = EncoderConfig(frozen=frozen, cached=not pictures, shift=3)
    vision = VisionConfig(encoder=eyes, pooling=pooling, embeddings=2, width=5, frame_stack=frame_stack)
    encoder = Encoder.random("small", 0) if pictures else None
    sight = Sight(spec, vision, encoder.weights if encoder and frozen else None)
    agent, reference = both(backend, replace(CONFIG, backup_entropy=True), sight, encoder)
    start = dict(reference.state)
    for number in range(2):
        batch = make_batch(spec, number, n_steps=1, utd_ratio=2, size=6)
        agent, info = agent.update(batch)
        expect_same_info(info, update(reference, batch), AFTER_TWENTY)
        expect_same(agent, reference.state, start, AFTER_TWENTY)
