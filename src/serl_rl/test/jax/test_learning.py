# SPDX-License-Identifier: Apache-2.0
"""The agent learns: a point in the plane has to come to a target, and is rewarded only there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from episode_chunk import episode_chunk
from numpy.typing import NDArray
from serl_rl.backends import make_policy
from serl_rl.config import SACConfig
from serl_rl.jax.sac import SACAgent
from serl_rl.policy.numpy_policy import NumpyPolicy
from serl_rl.replay.buffer import ReplayBuffer
from serl_rl.replay.sampler import SymmetricSampler
from serl_rl.storage.chunk import Chunk, TransitionSpec

SPEC = TransitionSpec({"state": ((4,), "float32")}, 2)
HORIZON = 25
REACHED = 0.1
STEP = 0.15


class Point:
    """Position and target in [-1, 1]^2; an action moves the point by up to 0.15."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def reset(self) -> dict[str, NDArray[np.float32]]:
        self.position, self.target = self._rng.uniform(-1, 1, (2, 2))
        self.steps = 0
        return self._observation()

    def step(self, action: NDArray[np.float32]) -> tuple[dict[str, NDArray[np.float32]], float, bool, bool]:
        self.position = np.clip(self.position + STEP * action, -1, 1)
        self.steps += 1
        reached = bool(np.linalg.norm(self.target - self.position) < REACHED)
        return self._observation(), float(reached), reached, self.steps >= HORIZON and not reached

    def _observation(self) -> dict[str, NDArray[np.float32]]:
        return {"state": np.concatenate([self.position, self.target - self.position]).astype(np.float32)}


def run_episode(env: Point, act, *, demonstration: bool) -> Chunk:
    observations, actions, rewards = [env.reset()], [], []
    terminated = truncated = False
    while not (terminated or truncated):
        action = act(observations[-1])
        observation, reward, terminated, truncated = env.step(action)
        observations.append(observation)
        actions.append(action)
        rewards.append(reward)
    return episode_chunk(
        observations,
        actions,
        rewards,
        terminated=terminated,
        success=terminated,
        demonstration=demonstration,
    )


def train(config: SACConfig, seed: int, env_steps: int) -> float:
    """Success rate of the greedy policy after that many steps with five demonstrations."""
    rng = np.random.default_rng(seed)
    env = Point(rng)
    online, shown = ReplayBuffer(SPEC, 10_000), ReplayBuffer(SPEC, 1_000)
    sampler = SymmetricSampler(online, shown, 64, seed)

    def expert(observation: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.clip(observation["state"][2:] / STEP + rng.normal(0, 0.3, 2), -1, 1).astype(np.float32)

    for _ in range(5):
        shown.insert(run_episode(env, expert, demonstration=True))
    agent = SACAgent.create(seed, SPEC, config)
    policy, trained = make_policy(agent.policy_snapshot()), 0

    def explore(observation: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        return policy.act(observation, deterministic=False, rng=rng)

    while online.inserted < env_steps:
        online.insert(run_episode(env, explore, demonstration=False))
        while online.inserted - trained >= 8:
            agent, _ = agent.update(sampler.sample(8, 2))
            trained += 8
        policy = make_policy(agent.policy_snapshot())
    return success_rate(policy, episodes=100)


def success_rate(policy: NumpyPolicy, episodes: int) -> float:
    env = Point(np.random.default_rng(1234))
    chunks = [
        run_episode(env, lambda seen: policy.act(seen, deterministic=True), demonstration=False)
        for _ in range(episodes)
    ]
    return sum(chunk.success for chunk in chunks) / episodes


CONFIG = SACConfig(hidden_sizes=(32, 32), initial_temperature=0.03)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_sparse_task_is_learned_from_five_demonstrations(seed):
    assert train(CONFIG, seed, env_steps=4000) >= 0.9


def test_without_a_moving_target_network_it_is_not_learned():
    assert train(replace(CONFIG, target_rate=1e-6), seed=0, env_steps=4000) < 0.5


def test_without_learning_the_task_is_not_solved():
    policy = make_policy(SACAgent.create(0, SPEC, CONFIG).policy_snapshot())
    assert success_rate(policy, episodes=100) < 0.4
