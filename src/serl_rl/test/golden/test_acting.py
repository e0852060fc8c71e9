# SPDX-License-Identifier: Apache-2.0
"""Actors do what an independent reading of the learner's arrays says, for every algorithm and way to look."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from serl_rl.backends import create_agent, make_policy
from serl_rl.config import (
    BCConfig,
    DrQv2Config,
    Gripper,
    HybridConfig,
    LearningConfig,
    SACConfig,
    VICEConfig,
    VisionConfig,
)
from serl_rl.jax.networks import LOG_STD_MAX, LOG_STD_MIN
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.spec import DataError, TransitionSpec

from .networks import below, mlp
from .reference import parameters, state_of, stirred
from .sight import Sight

pytestmark = pytest.mark.usefixtures("cheap_compilation")

MAPS = ((1, 3, 2, 4), "float16")
SPEC = TransitionSpec({"front": MAPS, "state": ((3,), "float32"), "wrist": MAPS}, 3, encoder="hash")
ACTORS = {
    "sac": ("acting_average/actor", "acting_average"),
    "drqv2": ("actor", "critic"),
    "bc": ("actor", "actor"),
    "hybrid": ("sac/acting_average/actor", "sac/acting_average"),
    "vice": ("sac/acting_average/actor", "sac/acting_average"),
}
"""Where the network and the eyes of the policy are in the arrays."""


@pytest.mark.parametrize(
    ("algorithm", "pooling", "activation", "layer_norm"),
    [
        ("sac", "spatial_embeddings", "relu", True),
        ("sac", "spatial_softmax", "tanh", False),
        ("drqv2", "average", "tanh", True),
        ("bc", "spatial_embeddings", "relu", False),
        ("hybrid", "spatial_softmax", "relu", True),
        ("vice", "average", "tanh", True),
    ],
)
def test_the_best_action(backend, algorithm, pooling, activation, layer_norm):
    network: dict[str, Any] = {"hidden_sizes": (8, 6), "activation": activation, "layer_norm": layer_norm}
    config = LearningConfig(
        agent=algorithm,
        sac=SACConfig(**network),
        drqv2=DrQv2Config(**network),
        bc=BCConfig(**network, chunk=3, execute=2),
        hybrid=HybridConfig(grippers=(Gripper(action=1, index=2),), grasp_hidden_sizes=(8,)),
        vice=VICEConfig(hidden_sizes=(8,)),
        vision=VisionConfig(pooling=pooling, embeddings=2, width=5),
    )
    agent: Any = stirred(create_agent(0, SPEC, replace(config, backend=backend)))
    policy = make_policy(PolicySnapshot.from_bytes(agent.policy_snapshot().to_bytes()))
    state, sight = state_of(agent), Sight(SPEC, config.vision)
    actor, eyes = ACTORS[algorithm]
    params = parameters(state, actor, eyes, "grasp")
    rng = np.random.default_rng(0)
    for _ in range(5):
        one = {
            name: rng.standard_normal(SPEC.drawn_shape(name)).astype(entry.dtype)
            for name, entry in SPEC.observation.items()
        }
        batch = {name: rows[None] for name, rows in one.items()}
        seen = sight.look(below(params, f"{eyes}/vision/params"), batch)
        outputs = mlp(below(params, f"{actor}/params"), seen, activation, layer_norm).array[0]
        expected: NDArray = np.tanh(outputs[: 2 if algorithm == "hybrid" else 3])
        if algorithm == "hybrid":
            grasp = int(mlp(below(params, "grasp/params"), seen, activation, layer_norm).array[0].argmax())
            expected = np.insert(expected, 1, [-1.0, np.clip(one["state"][2], -1.0, 1.0), 1.0][grasp])
        policy.reset()
        np.testing.assert_allclose(policy.act(one, deterministic=True), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("algorithm", ["sac", "hybrid", "vice"])
def test_what_explores_is_the_actor_of_the_last_update_behind_its_own_eyes(backend, algorithm):
    config = LearningConfig(
        agent=algorithm,
        sac=SACConfig(hidden_sizes=(8, 6), acting_rate=0.1),
        hybrid=HybridConfig(grippers=(Gripper(action=1, index=2),), grasp_hidden_sizes=(8,), epsilon=0.0),
        vice=VICEConfig(hidden_sizes=(8,)),
        vision=VisionConfig(pooling="spatial_embeddings", embeddings=2, width=5),
    )
    agent: Any = stirred(create_agent(0, SPEC, replace(config, backend=backend)))
    policy = make_policy(PolicySnapshot.from_bytes(agent.policy_snapshot().to_bytes()))
    state, sight = state_of(agent), Sight(SPEC, config.vision)
    actor, eyes = (part.replace("acting_average/actor", "actor") for part in ACTORS[algorithm])
    eyes = eyes.replace("acting_average", "critic")
    params = parameters(state, actor, eyes)
    rng = np.random.default_rng(0)
    one = {name: rng.standard_normal(SPEC.drawn_shape(name)).astype(e.dtype) for name, e in SPEC.observation.items()}
    batch = {name: rows[None] for name, rows in one.items()}
    seen = sight.look(below(params, f"{eyes}/vision/params"), batch)
    mean, log_std = np.split(mlp(below(params, f"{actor}/params"), seen, "relu", True).array[0], 2)
    noise = np.random.default_rng(3).standard_normal(len(mean), dtype=np.float32)
    expected = np.tanh(mean + np.exp(np.clip(log_std, LOG_STD_MIN, LOG_STD_MAX)) * noise)
    found = policy.act(one, deterministic=False, rng=np.random.default_rng(3))
    np.testing.assert_allclose(np.delete(found, 1) if algorithm == "hybrid" else found, expected, rtol=1e-4, atol=1e-5)
    best = policy.act(one, deterministic=True)
    assert np.abs(np.tanh(mean) - (np.delete(best, 1) if algorithm == "hybrid" else best)).max() > 1e-3


@pytest.mark.parametrize("algorithm", ["sac", "hybrid", "vice"])
def test_agents_of_checkpoints_without_an_average_act_as_they_were_trained_last(algorithm):
    config = LearningConfig(
        agent=algorithm,
        sac=SACConfig(hidden_sizes=(8,), acting_rate=0.1),
        hybrid=HybridConfig(grippers=(Gripper(action=1, index=2),), grasp_hidden_sizes=(8,)),
        vice=VICEConfig(hidden_sizes=(8,)),
        vision=VisionConfig(embeddings=2, width=5),
    )
    agent: Any = stirred(create_agent(0, SPEC, config))
    older = {name: array for name, array in agent.arrays().items() if "acting_average" not in name}
    restored = create_agent(1, SPEC, config).with_arrays(older).arrays()
    assert restored.keys() == agent.arrays().keys()
    for name, array in restored.items():
        source = name.replace("acting_average/actor", "actor").replace("acting_average/vision", "critic/vision")
        np.testing.assert_array_equal(array, older[source])
    del older[f"{ACTORS[algorithm][0].replace('acting_average/', '')}/params/head/bias"]
    with pytest.raises(DataError, match="missing"):
        agent.with_arrays(older)
