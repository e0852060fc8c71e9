# SPDX-License-Identifier: Apache-2.0
"""Updates of DrQ-v2 agree with an independent one, from the transitions of episodes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from serl_rl.config import DrQv2Config, VisionConfig
from serl_rl.replay.buffer import ReplayBuffer, Sampling, empty_batch
from serl_rl.spec import TransitionSpec
from serl_rl.storage.chunk import Chunk

from . import tape
from .networks import Params, State, below, mlp, q_values
from .reference import (
    AFTER_ONE,
    AFTER_TWENTY,
    Batch,
    Info,
    Keys,
    components,
    descend,
    expect_same,
    expect_same_info,
    follow,
    make_agent,
    normal,
    parameters,
    state_of,
    update,
    valued,
)
from .sight import Sight
from .tape import Value

pytestmark = pytest.mark.usefixtures("cheap_compilation")

SPEC = TransitionSpec({"arm": ((3,), "float32"), "cube": ((2,), "float32")}, 2)
CONFIG = DrQv2Config(
    hidden_sizes=(8,),
    target_rate=0.05,
    actor_lr=1e-3,
    critic_lr=2e-3,
    noise_start=0.9,
    noise_end=0.1,
    noise_steps=12,  # the schedule ends within twenty updates
    noise_clip=0.4,
)


class DrQv2Reference:
    """Yarats et al., arXiv 2107.09645, equations 1 to 3."""

    def __init__(self, state: State, key: NDArray, config: DrQv2Config, sight: Sight) -> None:
        self.state, self.keys, self.config, self.sight = state, Keys(key), config, sight

    def prepare(self, batch: Batch) -> Batch:
        return self.sight.prepare(self.keys, batch)

    def critic_step(self, batch: Batch) -> Info:
        """Both critics near the n-step return and the smaller target value of a noisy action behind it."""
        noise = self.noise(batch)
        state = parameters(self.state, "actor", "critic", "target_critic")
        action = self.act(state, self.seen(state, "critic", batch["next_observation"]), noise)
        q_next = self.q(state, "target_critic", self.seen(state, "target_critic", batch["next_observation"]), action)
        target = batch["reward"] + batch["discount"] * batch["mask"] * q_next.array.min(axis=0)
        valued_actions = Value(valued(batch, action.array))
        values: list[NDArray] = []

        def loss(params: dict[str, Value]) -> Value:
            q = self.q(params, "critic", self.seen(params, "critic", batch["observation"]), valued_actions)
            values.append(q.array)
            return ((q - target) ** 2.0).mean()

        found = descend(self.state, "critic", loss, self.config.critic_lr)
        follow(self.state, "target_critic", "critic", self.config.target_rate)
        self.state["updates"] = self.state["updates"] + 1
        return {"critic_loss": found, "q": float(values[0].mean())}

    def actor_step(self, batch: Batch) -> Info:
        """The actor climbs the smaller value of its noisy actions; a step of the schedule is over."""
        scale, noise = self.scale, self.noise(batch)
        critic = parameters(self.state, "critic")
        seen = tape.constant(self.seen(critic, "critic", batch["observation"]))

        def loss(params: dict[str, Value]) -> Value:
            return -self.q(critic, "critic", seen, self.act(params, seen, noise)).min(0).mean()

        found = descend(self.state, "actor", loss, self.config.actor_lr)
        self.state["env_steps"] = self.state["env_steps"] + 1
        return {"actor_loss": found, "noise": scale}

    @property
    def scale(self) -> float:
        """Of the noise: from start to end on a line."""
        done = min(float(self.state["env_steps"]) / self.config.noise_steps, 1.0)
        return (1.0 - done) * self.config.noise_start + done * self.config.noise_end

    def noise(self, batch: Batch) -> NDArray:
        clip = self.config.noise_clip
        return np.clip(self.scale * normal(self.keys.step(), components(batch)), -clip, clip)

    def act(self, params: Params, seen: Value, noise: NDArray) -> Value:
        """Noisy actions inside the bounds; their slope is that of the policy, also where a bound cuts them."""
        config = self.config
        mean = tape.tanh(mlp(below(params, "actor/params"), seen, config.activation, config.layer_norm))
        return mean + (np.clip(mean.array + noise, -1.0, 1.0) - mean.array)

    def seen(self, params: Params, critic: str, observation: Mapping[str, NDArray]) -> Value:
        return self.sight.look(below(params, f"{critic}/vision/params"), observation)

    def q(self, params: Params, critic: str, seen: Value, action: Value) -> Value:
        network = below(params, f"{critic}/params")
        return q_values(network, seen, action, self.config.activation, self.config.layer_norm)


def make_batch(spec: TransitionSpec, seed: int, utd_ratio: int = 1, size: int = 16) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    batch = empty_batch(spec, (1, utd_ratio, size), Sampling(n_step=3, discount=0.9))
    for side in ("observation", "next_observation"):
        for rows in batch[side].values():
            rows[...] = rng.standard_normal(rows.shape)
    batch["action"][...] = rng.uniform(-1, 1, batch["action"].shape)
    batch["reward"][...] = rng.standard_normal(batch["reward"].shape)
    batch["mask"][...] = rng.random(batch["mask"].shape) < 0.7
    batch["discount"][...] = rng.choice([0.9, 0.81, 0.729], batch["discount"].shape)
    return batch


def both(backend: str, config: DrQv2Config, sight: Sight) -> tuple[Any, DrQv2Reference]:
    agent = make_agent(backend, sight.spec, agent="drqv2", drqv2=config, vision=sight.vision)
    return agent, DrQv2Reference(state_of(agent), agent.arrays()["key"], config, sight)


@pytest.mark.parametrize("changes", [{}, {"hidden_sizes": (8, 6), "activation": "tanh", "layer_norm": False}])
def test_one_update_and_twenty(backend, changes):
    agent, reference = both(backend, replace(CONFIG, **changes), Sight(SPEC))
    start = dict(reference.state)
    for number in range(20):
        batch = make_batch(SPEC, number, utd_ratio=2)
        agent, info = agent.update(batch)
        expected = update(reference, batch)
        if number == 0:
            expect_same(agent, reference.state, start, AFTER_ONE)
            expect_same_info(info, expected, AFTER_ONE)
    expect_same(agent, reference.state, start, AFTER_TWENTY)
    expect_same_info(info, expected, AFTER_TWENTY)


def test_updates_that_look(backend):
    entries = {"front": ((1, 3, 2, 4), "float16"), "state": ((3,), "float32")}
    sight = Sight(TransitionSpec(entries, 2, encoder="hash"), VisionConfig(embeddings=2, width=5))
    agent, reference = both(backend, CONFIG, sight)
    start, batch = dict(reference.state), make_batch(sight.spec, 0, size=6)
    agent, info = agent.update(batch)
    expect_same_info(info, update(reference, batch), AFTER_ONE)
    expect_same(agent, reference.state, start, AFTER_ONE)


N_STEP, DISCOUNT = 3, 0.9


def returns(rewards: NDArray, terminated: bool, start: int) -> tuple[float, float, float, int]:
    """What n steps of an episode say from one step on.

    Returns the discounted rewards, the discount of the value behind them, whether there is one, and the step at whose
    end it is.
    """
    total, discount, step = 0.0, 1.0, start
    while step < len(rewards) and step < start + N_STEP:
        total += discount * rewards[step]
        discount *= DISCOUNT
        step += 1
    return total, discount, 0.0 if terminated and step == len(rewards) else 1.0, step


def test_an_update_on_episodes_that_ended_or_were_cut_off(backend, make_chunk):
    buffer = ReplayBuffer(SPEC, 100)
    batch = make_batch(SPEC, 0, size=16)
    row = 0
    for number, (length, terminated) in enumerate([(5, True), (1, True), (4, False), (6, False)]):
        chunk: Chunk = make_chunk(SPEC, length, seed=number, last=True, episode=number)
        cut = np.arange(length) == length - 1
        mask = 1.0 - cut * terminated
        buffer.insert(replace(chunk, mask=mask.astype(np.float32), truncated=cut & (not terminated)))
        for start in range(length):
            total, discount, goes_on, end = returns(chunk.reward, terminated, start)
            at = (0, 0, row)
            batch["reward"][at], batch["discount"][at], batch["mask"][at] = total, discount, goes_on
            batch["action"][at] = chunk.action[start]
            for name in SPEC.observation:
                batch["observation"][name][at] = chunk.observation[name][start]
                batch["next_observation"][name][at] = chunk.observation[name][end]
            row += 1
    assert row == 16
    stored = buffer.transitions(Sampling(n_step=N_STEP, discount=DISCOUNT))
    agent, reference = both(backend, CONFIG, Sight(SPEC))
    start_state = dict(reference.state)
    agent, info = agent.update(
        {
            name: {key: rows[None, None] for key, rows in entry.items()}
            if isinstance(entry, dict)
            else entry[None, None]
            for name, entry in stored.items()
        }
    )
    expect_same_info(info, update(reference, batch), AFTER_ONE)
    expect_same(agent, reference.state, start_state, AFTER_ONE)
