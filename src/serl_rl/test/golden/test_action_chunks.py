# SPDX-License-Identifier: Apache-2.0
"""Updates that learn from chunks of actions agree with independent ones, and so do the policies that plan them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from serl_rl.backends import create_agent, make_policy
from serl_rl.config import ActingConfig, DrQv2Config, LearningConfig, TorchConfig, VisionConfig
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.replay.buffer import Sampling, empty_batch
from serl_rl.spec import TransitionSpec

from . import test_drqv2, test_hybrid, test_sac, test_vice
from .networks import below, mlp
from .reference import (
    AFTER_ONE,
    AFTER_TWENTY,
    Reference,
    expect_same,
    expect_same_info,
    parameters,
    state_of,
    stirred,
    update,
)
from .sac_reference import SACReference
from .sight import Sight

pytestmark = pytest.mark.usefixtures("cheap_compilation")

ACTING = ActingConfig(chunk=3, execute=2)
VISION = VisionConfig(embeddings=2, width=5)
SEEING = TransitionSpec({"front": ((1, 3, 2, 4), "float16"), "state": ((3,), "float32")}, 2, encoder="hash")


def make_batch(
    spec: TransitionSpec, seed: int, utd_ratio: int = 2, size: int = 12, *, goals: bool = False
) -> dict[str, Any]:
    """Chunks of which some are cut short, with values for grippers and for their commands that hold, and goals."""
    rng = np.random.default_rng(seed)
    batch = empty_batch(spec, (1, utd_ratio, size), Sampling(n_step=3, discount=0.9, action_chunk=3, visited=goals))
    sides = ["observation", "next_observation"]
    if goals:
        batch["goal"] = empty_batch(spec, (1, utd_ratio, size // 3))["observation"]
        sides += ["visited", "goal"]
    for side in sides:
        for name, rows in batch[side].items():
            rows[...] = rng.standard_normal(rows.shape)
            if name == "state":
                rows[..., [0, 2]] = rng.choice([-1.0, 0.2, 1.0], (*rows.shape[:-1], 2))
    batch["action"][...] = rng.uniform(-1, 1, batch["action"].shape)
    if spec.action_dim == 4:
        grippers = rng.choice([-1.0, 0.2, 1.0], (1, utd_ratio, size, 1, 2))
        batch["action"][..., [1, 3]] = np.where(rng.random((1, utd_ratio, size, 3, 2)) < 0.2, 0.8, grippers)
    batch["reward"][...] = rng.standard_normal(batch["reward"].shape)
    batch["mask"][...] = rng.random(batch["mask"].shape) < 0.7
    length = rng.integers(1, 4, batch["reward"].shape)
    batch["valid"][...] = np.arange(3) < length[..., None]
    batch["discount"][...] = 0.9**length
    return batch


def both(backend: str, agent_name: str, spec: TransitionSpec, **changes: Any) -> tuple[Any, Reference]:
    """An agent that plans three actions, and what it shall do."""
    config = LearningConfig(
        backend=backend,  # type: ignore[arg-type]
        torch=TorchConfig(device="cpu", compile=False),
        agent=agent_name,  # type: ignore[arg-type]
        sac=replace(test_sac.CONFIG, **changes) if agent_name == "sac" else test_hybrid.SAC,
        drqv2=test_drqv2.CONFIG,
        hybrid=replace(test_hybrid.CONFIG, **changes) if agent_name == "hybrid" else test_hybrid.CONFIG,
        vice=test_vice.CONFIG,
        vision=VISION,
        acting=ACTING,
    )
    agent: Any = stirred(create_agent(0, spec, config))
    state, sight = state_of(agent), Sight(spec, VISION)
    match agent_name:
        case "sac":
            return agent, SACReference(state, agent.arrays()["key"], config.sac, sight)
        case "drqv2":
            return agent, test_drqv2.DrQv2Reference(state, agent.arrays()["key"], config.drqv2, sight)
        case "vice":
            keys = (agent.arrays()["key"], agent.arrays()["sac/key"])
            return agent, test_vice.VICEReference(state, keys, config.vice, config.sac, sight)
        case _:
            key = agent.arrays()["sac/key"]
            return agent, test_hybrid.HybridReference(state, key, config.hybrid, config.sac, sight)


@pytest.mark.parametrize(
    ("agent_name", "spec", "changes"),
    [
        ("sac", test_sac.SPEC, {"backup_entropy": True}),
        ("sac", test_sac.SPEC, {"target_entropy": -0.4, "critics": 4, "critic_subset": 2}),
        ("sac", SEEING, {}),
        ("drqv2", test_drqv2.SPEC, {}),
        ("vice", test_sac.SPEC, {}),
        ("vice", SEEING, {}),
        ("hybrid", test_hybrid.SPEC, {}),
        ("hybrid", test_hybrid.SPEC, {"grippers": (test_hybrid.LEFT, test_hybrid.RIGHT)}),
    ],
    ids=[
        "sac",
        "sac with a target entropy",
        "sac that looks",
        "drqv2",
        "vice",
        "vice that looks",
        "hybrid",
        "hybrid with two grippers",
    ],
)
def test_updates_from_chunks(backend, agent_name, spec, changes):
    agent, reference = both(backend, agent_name, spec, **changes)
    start = dict(reference.state)
    for number in range(8):
        batch = make_batch(spec, number, goals=agent_name == "vice")
        agent, info = agent.update(batch)
        expected = update(reference, batch)
        if number == 0:
            expect_same(agent, reference.state, start, AFTER_TWENTY if spec is SEEING else AFTER_ONE)
            expect_same_info(info, expected, AFTER_ONE)
    expect_same(agent, reference.state, start, AFTER_TWENTY)
    expect_same_info(info, expected, AFTER_TWENTY)


@pytest.mark.parametrize(
    ("algorithm", "actor"),
    [("sac", "acting_average/actor"), ("drqv2", "actor"), ("hybrid", "sac/acting_average/actor")],
)
def test_policies_execute_what_they_plan_and_then_look_again(backend, algorithm, actor):
    spec = test_hybrid.SPEC if algorithm == "hybrid" else test_sac.SPEC
    agent, reference = both(backend, algorithm, spec)
    policy = make_policy(PolicySnapshot.from_bytes(agent.policy_snapshot().to_bytes()))
    policy.check(spec)
    network = below(parameters(reference.state, actor, "grasp"), f"{actor}/params")
    activation = DrQv2Config().activation
    rng, found, expected = np.random.default_rng(0), [], []
    for step in range(5):
        one = {name: rng.standard_normal(entry.shape).astype(np.float32) for name, entry in spec.observation.items()}
        found.append(policy.act(one, deterministic=True))
        if step % 2 == 0:
            vector = np.concatenate([one[name] for name in spec.vector_names])[None]
            size = 9 if algorithm == "hybrid" else 6
            outputs = mlp(network, reference_input(vector), activation, True).array[0][:size]
            plan = np.tanh(outputs).reshape(3, -1)
        expected.append(plan[step % 2])
    assert policy.planned == 1
    arm = [0, 2, 3] if algorithm == "hybrid" else [0, 1]
    np.testing.assert_allclose(np.stack(found)[:, arm], expected, rtol=1e-4, atol=1e-5)
    if algorithm == "hybrid":  # the grasp holds as long as the plan
        assert found[0][1] == found[1][1]
        assert found[2][1] == found[3][1]


def reference_input(vector: Any) -> Any:
    from .tape import Value

    return Value(vector)
