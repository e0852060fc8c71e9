# SPDX-License-Identifier: Apache-2.0
"""A policy for each arm: its own networks, its own part of the action, the same transitions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from episode_chunk import episode_chunk
from numpy.typing import NDArray
from pydantic import ValidationError
from serl_rl.backends import create_agent, make_policy
from serl_rl.config import BCConfig, DrQv2Config, EncoderConfig, LearningConfig, SACConfig, VICEConfig, VisionConfig
from serl_rl.jax.sac import SACAgent
from serl_rl.policy.acting import PerArm
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.replay.buffer import ReplayBuffer
from serl_rl.replay.sampler import make_sampler
from serl_rl.spec import DataError, TransitionSpec
from serl_rl.storage.chunk import Chunk

pytestmark = pytest.mark.usefixtures("cheap_compilation")

NAMES = ["left/dx", "right/dx", "left/gripper", "right/gripper"]  # not in blocks: places are what counts
SPEC = TransitionSpec({"state": ((3,), "float32")}, 4, meaning={"action": [{"name": name} for name in NAMES]})
PLACES = {"left": [0, 2], "right": [1, 3]}
SEEN = replace(SPEC, observation=SPEC.observation | {"camera": ((2, 2, 2, 3), "float16")}, encoder="0123456789abcdef")


def settings(agent: str = "sac", **changes: Any) -> LearningConfig:
    return LearningConfig(
        **{
            "agent": agent,
            "policies": "per_arm",
            "sac": SACConfig(hidden_sizes=(8,), acting_rate=0.5),
            "drqv2": DrQv2Config(hidden_sizes=(8,)),
            "vice": VICEConfig(hidden_sizes=(8,)),
            "bc": BCConfig(hidden_sizes=(8,)),
            "vision": VisionConfig(width=8, embeddings=2),
            "batch_size": 4,
        }
        | changes
    )


def batch_of(config: LearningConfig, spec: TransitionSpec, make_chunk: Any) -> dict[str, Any]:
    buffers = [ReplayBuffer(spec, 50) for _ in range(3)]
    for seed, buffer in enumerate(buffers):
        buffer.insert(make_chunk(spec, 10, seed=seed, last=True))
    return make_sampler(config, *buffers[:2], buffers[2] if config.agent == "vice" else None, seed=0).sample(2, 2)


def layer(x: NDArray[Any], arrays: Any, name: str) -> NDArray[Any]:
    return x @ arrays[f"{name}/kernel"] + arrays[f"{name}/bias"]


def test_each_arm_acts_by_its_own_network():
    policy = create_agent(3, SPEC, settings()).policy_snapshot()
    arrays, state = policy.arrays, np.array([0.3, -0.7, 1.1], np.float32)
    action = make_policy(PolicySnapshot.from_bytes(policy.to_bytes())).act({"state": state}, deterministic=True)
    for arm, places in PLACES.items():
        hidden = layer(state, arrays, f"arms/{arm}/trunk/dense_0")
        hidden = (hidden - hidden.mean()) / np.sqrt(hidden.var() + 1e-6)
        norm = f"arms/{arm}/trunk/norm_0"
        hidden = np.maximum(hidden * arrays[f"{norm}/scale"] + arrays[f"{norm}/bias"], 0.0)
        expected = np.tanh(layer(hidden, arrays, f"arms/{arm}/head")[:2])
        np.testing.assert_allclose(action[places], expected, atol=1e-6)
    assert not np.allclose(action[PLACES["left"]], action[PLACES["right"]])  # they begin differently


@pytest.mark.parametrize("deterministic", [True, False])
def test_the_networks_of_one_arm_move_no_other(deterministic, make_chunk):
    config = settings()
    agent, _ = create_agent(3, SPEC, config).update(batch_of(config, SPEC, make_chunk))
    policy = agent.policy_snapshot()
    changed = {name: array + 0.05 if "/left/" in name else array for name, array in policy.arrays.items()}
    assert sum(name.startswith("exploring/arms/left/") for name in changed) == 6
    acts = [
        make_policy(each).act(
            {"state": np.ones(3, np.float32)}, deterministic=deterministic, rng=np.random.default_rng(0)
        )
        for each in (policy, replace(policy, arrays=changed))
    ]
    assert np.array_equal(acts[0][PLACES["right"]], acts[1][PLACES["right"]])
    assert np.abs(acts[0][PLACES["left"]] - acts[1][PLACES["left"]]).max() > 1e-5


def test_each_learns_as_if_the_action_were_its_own_alone(make_chunk):
    config = settings()
    batch = batch_of(config, SPEC, make_chunk)
    both = create_agent(5, SPEC, config)
    alone = {}
    for index, (arm, places) in enumerate(PLACES.items()):
        seed = int(np.random.SeedSequence([5, index]).generate_state(1)[0])
        agent = SACAgent.create(seed, replace(SPEC, action_dim=2), config.sac)
        alone[arm], _ = agent.update(batch | {"action": batch["action"][..., places]})
    both, info = both.update(batch)
    found = both.arrays()
    for arm, agent in alone.items():
        for name, expected in agent.arrays().items():
            np.testing.assert_allclose(found[f"arms/{arm}/{name}"], expected, rtol=2e-4, atol=2e-6, err_msg=name)
    assert info["critic_loss"] == pytest.approx((info["left/critic_loss"] + info["right/critic_loss"]) / 2)


@pytest.mark.parametrize(
    ("agent", "spec"),
    [
        ("sac", SEEN),
        ("bc", SPEC),
        pytest.param("drqv2", SPEC, marks=pytest.mark.slow),
        pytest.param("vice", SPEC, marks=pytest.mark.slow),
    ],
)
def test_state_and_policy_are_kept(agent, spec, make_chunk):
    config = settings(agent)
    trained, info = create_agent(0, spec, config).update(batch_of(config, spec, make_chunk))
    assert all(np.isfinite(value) for value in info.values())
    policy = make_policy(PolicySnapshot.from_bytes(trained.policy_snapshot().to_bytes()))
    policy.check(spec)
    again = create_agent(1, spec, config).with_arrays(trained.arrays())
    observation = {name: np.ones(spec.drawn_shape(name), entry.dtype) for name, entry in spec.observation.items()}
    action = policy.act(observation, deterministic=True)
    assert action.shape == (4,)
    np.testing.assert_array_equal(make_policy(again.policy_snapshot()).act(observation, deterministic=True), action)


@pytest.mark.parametrize(
    "names",
    [["dx", "dy", "dz", "gripper"], ["left/dx", "left/dy", "left/dz", "left/gripper"], ["left/dx", "right/dx"], []],
)
def test_actions_of_one_arm_are_refused(names):
    spec = replace(SPEC, meaning={"action": [{"name": name} for name in names]})
    with pytest.raises(DataError, match="policies: expected actions of several arms"):
        create_agent(0, spec, settings())


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"agent": "hybrid"}, "hybrid chooses for all grippers"),
        ({"vision": VisionConfig(encoder=EncoderConfig(frozen=False))}, "do not train one encoder"),
    ],
)
def test_what_two_policies_cannot_share_is_refused(changes, why):
    with pytest.raises(ValidationError, match=why):
        settings(**changes)


@pytest.mark.parametrize(
    ("places", "found"), [(((0, 1), (1, 3)), "each component of the action once"), (((0,), (1, 2)), "1 actions")]
)
def test_a_policy_whose_arms_do_not_fit_is_refused(places, found):
    policy = create_agent(0, SPEC, settings()).policy_snapshot()
    assert isinstance(policy.actor, PerArm)
    arms = tuple(replace(arm, components=own) for arm, own in zip(policy.actor.arms, places, strict=True))
    with pytest.raises(DataError, match=found):
        make_policy(replace(policy, actor=PerArm(arms)))


HORIZON, STEP, REACHED = 12, 0.4, 0.3


class Together:
    """Two points on a line: each has to be at its target at the same moment, and neither is rewarded alone."""

    spec = TransitionSpec(
        {"state": ((4,), "float32")}, 2, meaning={"action": [{"name": "left/dx"}, {"name": "right/dx"}]}
    )

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def reset(self) -> dict[str, NDArray[np.float32]]:
        self._at, self._target = self._rng.uniform(-1, 1, (2, 2))
        return self._seen()

    def step(self, action: NDArray[np.float32]) -> tuple[dict[str, NDArray[np.float32]], bool]:
        self._at = np.clip(self._at + STEP * action, -1, 1)
        return self._seen(), bool(np.all(np.abs(self._target - self._at) < REACHED))

    def expert(self) -> NDArray[np.float32]:
        way = (self._target - self._at) / STEP
        return np.clip(way + self._rng.normal(0, 0.3, 2), -1, 1).astype(np.float32)

    def _seen(self) -> dict[str, NDArray[np.float32]]:
        return {"state": np.concatenate([self._at, self._target - self._at]).astype(np.float32)}

    def episode(self, act: Any, *, demonstration: bool = False) -> Chunk:
        observations, actions, done = [self.reset()], [], False
        while not done and len(actions) < HORIZON:
            actions.append(act(observations[-1]))
            seen, done = self.step(actions[-1])
            observations.append(seen)
        return episode_chunk(
            observations,
            actions,
            [0.0] * (len(actions) - 1) + [float(done)],
            terminated=done,
            success=done,
            demonstration=demonstration,
        )


def reached(seed: int, config: LearningConfig, env_steps: int = 1500) -> float:
    """Success rate of both policies after learning from ten demonstrations and so many steps of their own."""
    rng = np.random.default_rng(seed)
    env = Together(rng)
    online, shown = ReplayBuffer(env.spec, 5000), ReplayBuffer(env.spec, 500)
    for _ in range(10):
        shown.insert(env.episode(lambda _: env.expert(), demonstration=True))
    sampler = make_sampler(config, online, shown, None, seed)
    agent, trained = create_agent(seed, env.spec, config), 0
    policy = make_policy(agent.policy_snapshot())

    def explore(seen: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        return policy.act(seen, deterministic=False, rng=rng)

    while online.inserted < env_steps:
        online.insert(env.episode(explore))
        while online.inserted - trained >= 8:
            agent, _ = agent.update(sampler.sample(8, config.utd_ratio))
            trained += 8
        policy = make_policy(agent.policy_snapshot())
    return float(np.mean([env.episode(lambda seen: policy.act(seen, deterministic=True)).success for _ in range(100)]))


LEARNER = settings(sac=SACConfig(hidden_sizes=(32, 32), initial_temperature=0.03), batch_size=64)


@pytest.mark.slow
def test_two_policies_learn_what_only_both_can_do(typical):
    assert typical(lambda seed: reached(seed, LEARNER), 0.85) >= 0.85
