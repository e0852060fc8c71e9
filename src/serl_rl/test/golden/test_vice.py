# SPDX-License-Identifier: Apache-2.0
"""Updates of VICE agree with an independent one: the classifier's losses, and the rewards that it gives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest
from numpy.typing import NDArray
from serl_rl.config import SACConfig, VICEConfig, VisionConfig
from serl_rl.replay.buffer import empty_batch
from serl_rl.spec import TransitionSpec

from . import tape
from .networks import Params, State, below, mlp
from .reference import (
    AFTER_ONE,
    AFTER_TWENTY,
    Batch,
    Info,
    Keys,
    chunk_length,
    descend,
    expect_same,
    expect_same_info,
    make_agent,
    parameters,
    state_of,
    update,
)
from .sac_reference import SACReference
from .sight import Sight
from .tape import Value, gradients

pytestmark = pytest.mark.usefixtures("cheap_compilation")

SAC = SACConfig(hidden_sizes=(8,), discount=0.9, target_rate=0.05, actor_lr=1e-3, critic_lr=2e-3, temperature_lr=3e-3)
SPEC = TransitionSpec({"state": ((5,), "float32")}, 2)
SEEING = TransitionSpec({"state": ((3,), "float32"), "wrist": ((1, 3, 2, 4), "float16")}, 2, encoder="hash")
CONFIG = VICEConfig(hidden_sizes=(8, 6), learning_rate=4e-3, interval=1)


class VICEReference:
    """Fu et al., arXiv 1805.11686, with mixup, smoothed labels and a gradient penalty as in SERL, arXiv 2401.16013."""

    def __init__(self, arrays: State, keys: tuple[NDArray, NDArray], config: VICEConfig, sac: SACConfig, sight: Sight):
        own_key, sac_key = keys
        self.keys, self.config, self.sight = Keys(own_key), config, sight
        self.own = {name: array for name, array in arrays.items() if not name.startswith("sac/")}
        self.policy = SACReference(below(arrays, "sac"), sac_key, sac, sight)

    @property
    def state(self) -> State:
        return self.own | {f"sac/{name}": array for name, array in self.policy.state.items()}

    def prepare(self, batch: Batch) -> Batch:
        return batch

    def critic_step(self, batch: Batch) -> Info:
        """The reward is what the classifier says of the next observation."""
        if "visited" in batch:  # a chunk: the sum over its steps
            reward = np.zeros(len(batch["reward"]))
            for step in range(chunk_length(batch)):
                arrived = {name: rows[:, step] for name, rows in batch["visited"].items()}
                reward += self.policy.config.discount**step * batch["valid"][:, step] * self.reward(arrived)
        else:
            reward = self.reward(batch["next_observation"])
        return self.policy.critic_step(batch | {"reward": reward}) | {"reward": float(reward.mean())}

    def reward(self, observation: Batch) -> NDArray:
        params = parameters(self.own, "classifier")
        odds = self.log_odds(params, self.seen(params, observation)).array
        return (odds >= 0.0).astype(float) if self.config.reward == "binary" else odds.clip(-10.0, 10.0)

    def actor_step(self, batch: Batch) -> Info:
        info = self.policy.actor_step(batch)
        step_key = self.keys.step()
        self.own["env_steps"] = self.own["env_steps"] + 1
        before = dict(self.own)
        found: Info = {}
        descend(
            self.own, "classifier", lambda params: self.loss(params, batch, step_key, found), self.config.learning_rate
        )
        if self.own["env_steps"] % self.config.interval != 0:
            self.own = before
        return info | found

    def loss(self, params: dict[str, Value], batch: Batch, key: jax.Array, found: Info) -> Value:
        """Cross-entropy of blended rows with blended labels, and the penalty on the slope between the classes."""
        config = self.config
        mixup_key, penalty_key = jax.random.split(key)
        goals = batch["goal"]
        count = len(next(iter(goals.values())))
        own = {name: rows[-count:] for name, rows in batch["next_observation"].items()}
        success, failure = self.seen(params, goals), self.seen(params, own)
        low = config.label_smoothing / 2.0
        vectors = tape.concatenate([success, failure])
        labels = np.repeat([1.0 - low, low], count)
        odds = self.log_odds(params, vectors).array
        accuracy = ((odds[:count] >= 0.0).sum() + (odds[count:] < 0.0).sum()) / (2.0 * count)
        if config.mixup:
            share_key, order_key = jax.random.split(mixup_key)
            share = np.asarray(jax.random.uniform(share_key, (2 * count,)), np.float64)
            other = np.asarray(jax.random.permutation(order_key, 2 * count))
            vectors = share[:, None] * vectors + (1.0 - share[:, None]) * vectors[other]
            labels = share * labels + (1.0 - share) * labels[other]
        x = self.log_odds(params, vectors)
        entropy = (labels * tape.softplus(-x) + (1.0 - labels) * tape.softplus(x)).mean()
        share = np.asarray(jax.random.uniform(penalty_key, (count, 1)), np.float64)
        between = share * success + (1.0 - share) * failure
        (slopes,) = gradients(self.log_odds(params, between).sum(), [between])
        lengths = ((slopes**2.0).sum(1) + 1e-30) ** 0.5  # the root of 0, where no unit is active, has no slope
        penalty = ((lengths - 1.0) ** 2.0).mean()
        found |= {"classifier_loss": float(entropy.array), "gradient_penalty": float(penalty.array)}
        found["classifier_accuracy"] = float(accuracy)
        return entropy + config.gradient_penalty * penalty

    def seen(self, params: Params, observation: dict[str, NDArray]) -> Value:
        return self.sight.look(below(params, "classifier/vision/params"), observation)

    def log_odds(self, params: Params, seen: Value) -> Value:
        return mlp(below(params, "classifier/params"), seen, "relu", False)[:, 0]


def make_batch(spec: TransitionSpec, seed: int, size: int = 12) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    batch = empty_batch(spec, (1, 2, size))
    batch["goal"] = empty_batch(spec, (1, 2, size // 3))["observation"]
    for side in ("observation", "next_observation", "goal"):
        for rows in batch[side].values():
            rows[...] = rng.standard_normal(rows.shape)
    batch["action"][...] = rng.uniform(-1, 1, batch["action"].shape)
    batch["reward"][...] = np.nan  # nobody may look at it
    batch["mask"][...] = rng.random(batch["mask"].shape) < 0.7
    return batch


@pytest.mark.parametrize(
    ("spec", "changes", "updates"),
    [
        (SPEC, {}, 20),
        (SPEC, {"reward": "log_odds", "interval": 3, "label_smoothing": 0.0}, 20),
        (SPEC, {"mixup": False, "gradient_penalty": 1.0, "hidden_sizes": (8,)}, 20),
        (SEEING, {"reward": "log_odds"}, 1),
    ],
    ids=["as it comes", "log odds", "without mixup", "feature maps"],
)
def test_one_update_and_twenty(backend, spec, changes, updates):
    config = replace(CONFIG, **changes)
    sight = Sight(spec, VisionConfig(embeddings=2, width=5))
    agent = make_agent(backend, spec, agent="vice", vice=config, sac=SAC, vision=sight.vision)
    arrays = agent.arrays()
    reference = VICEReference(state_of(agent), (arrays["key"], arrays["sac/key"]), config, SAC, sight)
    start = reference.state
    for number in range(updates):
        batch = make_batch(spec, number)
        agent, info = agent.update(batch)
        expected = update(reference, batch)
        if number == 0:
            expect_same(agent, reference.state, start, AFTER_ONE)
            expect_same_info(info, expected, AFTER_ONE)
    expect_same(agent, reference.state, start, AFTER_TWENTY)
    expect_same_info(info, expected, AFTER_TWENTY)
