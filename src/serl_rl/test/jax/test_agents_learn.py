# SPDX-License-Identifier: Apache-2.0
"""Each further agent learns a small task of the kind that it is made for, and its essential part is what does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from episode_chunk import episode_chunk
from numpy.typing import NDArray
from serl_rl.agent import Agent
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
from serl_rl.policy.numpy_policy import NumpyPolicy
from serl_rl.replay.buffer import ReplayBuffer
from serl_rl.replay.sampler import make_sampler
from serl_rl.storage.chunk import Chunk, TransitionSpec

Observation = dict[str, NDArray[Any]]

HORIZON = 25
STEP = 0.15
REACHED = 0.1


class Reach:
    """A point in [-1, 1]^2 has to come to a target, and is rewarded only there."""

    spec = TransitionSpec({"state": ((4,), "float32")}, 2)

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def reset(self) -> Observation:
        self.position, self.target = self.rng.uniform(-1, 1, (2, 2))
        self.steps = 0
        return self.observation()

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, float, bool, bool]:
        """Next observation, reward, whether the episode terminated, whether the task is done."""
        self.position = np.clip(self.position + STEP * action[:2], -1, 1)
        self.steps += 1
        reached = bool(np.linalg.norm(self.way) < REACHED)
        return self.observation(), float(reached), reached, reached

    @property
    def way(self) -> NDArray[np.float64]:
        return self.target - self.position

    def observation(self) -> Observation:
        return {"state": np.concatenate([self.position, self.way]).astype(np.float32)}

    def expert(self) -> NDArray[np.float32]:
        return np.clip(self.way / STEP + self.rng.normal(0, 0.3, 2), -1, 1).astype(np.float32)


class SeenReach(Reach):
    """The way to the target is only seen: as a bump on a feature map, twice with a little noise for two views."""

    spec = TransitionSpec({"camera": ((2, 5, 5, 2), "float16"), "state": ((2,), "float32")}, 2, encoder="a bump")

    def observation(self) -> Observation:
        grid = np.stack(np.meshgrid(np.linspace(-2, 2, 5), np.linspace(-2, 2, 5), indexing="ij"), axis=-1)
        bumps = np.stack([np.exp(-np.sum((grid - self.way) ** 2, axis=-1) / width) for width in (1.0, 0.3)], axis=-1)
        views = bumps + self.rng.normal(0.0, [[[[0.0]]], [[[0.05]]]], (2, 5, 5, 2))
        return {"camera": views.astype(np.float16), "state": self.position.astype(np.float32)}


class Grasp(Reach):
    """The point is a gripper: it has to close at the target. If it closes elsewhere it has to open again first."""

    spec = TransitionSpec({"state": ((5,), "float32")}, 3)

    def reset(self) -> Observation:
        self.width = 1.0
        return super().reset()

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, float, bool, bool]:
        closes = self.width > 0.0 and action[2] < 0.0
        self.width = float(action[2])
        observation, _, reached, _ = super().step(action)
        done = closes and reached
        return observation, float(done), done, done

    def observation(self) -> Observation:
        return {"state": np.append(super().observation()["state"], np.float32(self.width))}

    def expert(self) -> NDArray[np.float32]:
        close = np.linalg.norm(self.way) < 0.8 * REACHED
        way = np.zeros(2) if close else super().expert()
        return np.append(way, -1.0 if close else 1.0).astype(np.float32)


class UnrewardedReach(Reach):
    """Nobody says what is good, and no episode ends before its time: only the demonstrations end at the target.

    The target is always the same, so the observation does not name it. It is scaled as wide as encoded pictures are.
    """

    spec = TransitionSpec({"state": ((2,), "float32")}, 2)

    def reset(self) -> Observation:
        super().reset()
        self.target = np.array([0.6, -0.4])
        return self.observation()

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, float, bool, bool]:
        observation, *_ = super().step(action)
        return observation, 0.0, False, bool(np.linalg.norm(self.way) < 2 * REACHED)

    def observation(self) -> Observation:
        return {"state": (5.0 * self.position).astype(np.float32)}


class MirroredReach(UnrewardedReach):
    """The same with its target on the other side."""

    def reset(self) -> Observation:
        super().reset()
        self.target = -self.target
        return self.observation()


Act = Callable[[Observation], NDArray[np.float32]]


def run_episode(env: Reach, act: Act, *, demonstration: bool = False) -> Chunk:
    """An episode of at most HORIZON steps; a demonstration ends when the task is done."""
    observations, actions, rewards = [env.reset()], [], []
    terminated = done = False
    while not (terminated or len(actions) == HORIZON or (demonstration and done)):
        action = act(observations[-1])
        observation, reward, terminated, done = env.step(action)
        observations.append(observation)
        actions.append(action)
        rewards.append(reward)
    return episode_chunk(
        observations,
        actions,
        rewards,
        terminated=terminated,
        success=done,
        demonstration=demonstration,
        encoder=env.spec.encoder,
        frame_stack=env.spec.frame_stack,
    )


def success_rate(task: type[Reach], policy: NumpyPolicy, episodes: int = 100) -> float:
    """Share of episodes that end with the task done, without exploration."""
    env = task(np.random.default_rng(1234))
    done = 0
    for _ in range(episodes):
        policy.reset()
        done += run_episode(env, lambda seen: policy.act(seen, deterministic=True)).success
    return done / episodes


def demonstrations(task: type[Reach], seed: int, episodes: int) -> list[Chunk]:
    env = task(np.random.default_rng([seed, 1]))
    return [run_episode(env, lambda _: env.expert(), demonstration=True) for _ in range(episodes)]


def learn(task: type[Reach], config: LearningConfig, seed: int, env_steps: int, shown: list[Chunk]) -> Agent:
    """Train on demonstrations, and on as many own steps."""
    rng = np.random.default_rng(seed)
    env = task(rng)
    online, demos, goals = (ReplayBuffer(task.spec, 10_000) for _ in range(3))
    for chunk in shown:
        demos.insert(chunk)
        goals.insert(chunk.skip(len(chunk) - 1))
    sampler = make_sampler(config, online, demos, goals if config.agent == "vice" else None, seed)
    agent, trained = create_agent(seed, task.spec, config), 0
    for _ in range(config.updates_before_acting // 8):
        agent, _ = agent.update(sampler.sample(8, 1))
    policy = make_policy(agent.policy_snapshot())

    def explore(observation: Observation) -> NDArray[np.float32]:
        if online.inserted < config.random_steps:
            return rng.uniform(-1, 1, task.spec.action_dim).astype(np.float32)
        return policy.act(observation, deterministic=False, rng=rng)

    while online.inserted < env_steps:
        online.insert(run_episode(env, explore))
        while online.inserted - trained >= 8:
            agent, _ = agent.update(sampler.sample(8, config.utd_ratio))
            trained += 8
        policy = make_policy(agent.policy_snapshot())
    return agent


def learned_rate(task: type[Reach], config: LearningConfig, seed: int, env_steps: int, shown: int) -> float:
    """Success rate after learning from so many demonstrations and own steps."""
    agent = learn(task, config, seed, env_steps, demonstrations(task, seed, shown))
    return success_rate(task, make_policy(agent.policy_snapshot()))


DRQV2 = LearningConfig(
    agent="drqv2",
    drqv2=DrQv2Config(hidden_sizes=(32, 32), actor_lr=2e-3, critic_lr=2e-3, noise_end=0.2, noise_steps=2000),
    batch_size=64,
)


@pytest.mark.slow
def test_drqv2_learns_a_sparse_task(typical):
    assert typical(lambda seed: learned_rate(Reach, DRQV2, seed, 3000, 5), 0.75) >= 0.75


@pytest.mark.slow
def test_drqv2_does_not_learn_it_without_a_moving_target():
    still = replace(DRQV2, drqv2=replace(DRQV2.drqv2, target_rate=1e-6, n_step=1))
    assert learned_rate(Reach, still, 0, 2000, 5) < 0.5


HYBRID = LearningConfig(
    agent="hybrid",
    sac=SACConfig(hidden_sizes=(32, 32), initial_temperature=0.03),
    hybrid=HybridConfig(grippers=(Gripper(index=4),), grasp_hidden_sizes=(32, 32), grasp_lr=2e-3),
    batch_size=64,
    random_steps=0,
)


@pytest.mark.slow
def test_hybrid_learns_when_to_close(typical):
    assert typical(lambda seed: learned_rate(Grasp, HYBRID, seed, 3000, 10), 0.7) >= 0.7


@pytest.mark.slow
def test_hybrid_does_not_learn_it_without_its_grasp_critic():
    deaf = replace(HYBRID, hybrid=replace(HYBRID.hybrid, grasp_lr=1e-9))
    assert learned_rate(Grasp, deaf, 0, 2000, 10) < 0.5


VICE = LearningConfig(
    agent="vice",
    sac=SACConfig(hidden_sizes=(32, 32), initial_temperature=0.03),
    vice=VICEConfig(hidden_sizes=(32,), learning_rate=2e-3),
    batch_size=64,
)


@pytest.mark.parametrize(("shown", "elsewhere"), [(UnrewardedReach, MirroredReach), (MirroredReach, UnrewardedReach)])
def test_vice_goes_to_what_it_was_shown_as_a_success_and_nowhere_else(shown, elsewhere, typical):
    # It learns where nothing is rewarded and no target named: only what was shown can make the difference.
    wrong = []

    def rate(seed: int) -> float:
        agent = learn(UnrewardedReach, VICE, seed, 3000, demonstrations(shown, seed, 20))
        policy = make_policy(agent.policy_snapshot())
        wrong.append(success_rate(elsewhere, policy))
        return success_rate(shown, policy)

    assert typical(rate, 0.8) >= 0.8
    assert max(wrong) < 0.2


BC = LearningConfig(
    agent="bc",
    bc=BCConfig(hidden_sizes=(64, 64), dropout=0.05, chunk=4, execute=2),
    vision=VisionConfig(width=16, embeddings=4),
    batch_size=64,
    updates_before_acting=1000,
    random_steps=0,
)


@pytest.mark.parametrize("task", [Reach, SeenReach])
def test_bc_imitates(task):
    shown = demonstrations(task, 0, 40)
    agent = learn(task, BC, 0, 0, shown)
    assert success_rate(task, make_policy(agent.policy_snapshot())) >= 0.8
    untrained = make_policy(create_agent(0, task.spec, BC).policy_snapshot())
    assert success_rate(task, untrained) < 0.3
