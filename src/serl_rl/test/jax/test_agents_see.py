# SPDX-License-Identifier: Apache-2.0
"""Agents learn from cached features and from pictures, and act on what they learned. (Vectors are everywhere else.)"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from serl_rl.backends import create_agent, make_policy
from serl_rl.config import EncoderConfig, Gripper, HybridConfig, LearningConfig, SACConfig, VICEConfig, VisionConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.replay.buffer import ReplayBuffer
from serl_rl.replay.sampler import make_sampler
from serl_rl.storage.chunk import TransitionSpec

pytestmark = pytest.mark.usefixtures("cheap_compilation")

STATE = {"state": ((3,), "float32")}
FEATURES = TransitionSpec(STATE | {"wrist": ((2, 2, 2, 4), "float16")}, 2, encoder="0123456789abcdef", frame_stack=2)
PICTURES = TransitionSpec(STATE | {"wrist": ((32, 32, 3), "uint8")}, 2)
ENCODER = Encoder.random("small", 0)


def settings(agent: str, spec: TransitionSpec, *, frozen: bool = True, cached: bool = True) -> LearningConfig:
    encoder = EncoderConfig(frozen=frozen, cached=cached, shift=2)
    return LearningConfig(
        agent=agent,
        sac=SACConfig(hidden_sizes=(8,)),
        hybrid=HybridConfig(grippers=(Gripper(index=2),), grasp_hidden_sizes=(8,)),
        vice=VICEConfig(hidden_sizes=(8,)),
        vision=VisionConfig(encoder=encoder, width=8, embeddings=2, frame_stack=spec.frame_stack),
        batch_size=4,
    )


def batch_of(config: LearningConfig, spec: TransitionSpec, make_chunk: Any) -> dict[str, Any]:
    buffers = [ReplayBuffer(spec, 50) for _ in range(3)]
    for seed, buffer in enumerate(buffers):
        buffer.insert(make_chunk(spec, 10, seed=seed, last=True))
    sampler = make_sampler(config, *buffers[:2], buffers[2] if config.agent == "vice" else None, seed=0)
    expected, found = sampler.empty(1, 2), sampler.sample(1, 2)
    assert set(expected) == set(found)
    return found


@pytest.mark.parametrize(
    ("agent", "spec", "frozen", "cached"),
    [
        ("drqv2", FEATURES, True, True),
        ("hybrid", FEATURES, True, True),
        ("vice", FEATURES, True, True),
        ("bc", FEATURES, True, True),
        pytest.param("hybrid", PICTURES, False, False, marks=pytest.mark.slow),
        pytest.param("vice", PICTURES, True, False, marks=pytest.mark.slow),
    ],
)
def test_an_update_moves_the_policy_that_is_acted_with(agent, spec, frozen, cached, make_chunk):
    config = settings(agent, spec, frozen=frozen, cached=cached)
    encoder = ENCODER if spec is PICTURES else None
    old = create_agent(0, spec, config, encoder)
    before = old.arrays()
    new, info = old.update(batch_of(config, spec, make_chunk))
    assert all(np.isfinite(value) for value in info.values())
    after = new.arrays()
    moved = {name for name in after if after[name].tobytes() != before[name].tobytes()}
    assert any("vision" in name for name in moved)
    assert any("encoder" in name for name in moved) == (spec is PICTURES and not frozen)
    assert not any("frozen_encoder" in name for name in after)

    policy = make_policy(PolicySnapshot.from_bytes(new.policy_snapshot().to_bytes()), encoder)
    policy.check(spec)
    observation = {name: np.zeros(spec.drawn_shape(name), entry.dtype) for name, entry in spec.observation.items()}
    action = policy.act(observation, deterministic=True)
    assert action.shape == (2,)
    assert np.abs(action).max() <= 1.0
    again = create_agent(1, spec, config, encoder).with_arrays(after)
    same = make_policy(again.policy_snapshot(), encoder)
    np.testing.assert_array_equal(same.act(observation, deterministic=True), action)
