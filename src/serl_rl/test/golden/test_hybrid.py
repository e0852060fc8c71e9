# SPDX-License-Identifier: Apache-2.0
"""Updates of the hybrid agent agree with an independent one: double DQN beside soft actor-critic."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import jax
import numpy as np
import pytest
from numpy.typing import NDArray
from serl_rl.config import Gripper, HybridConfig, SACConfig, VisionConfig
from serl_rl.jax.hybrid import HybridAgent, grasp_loss
from serl_rl.replay.buffer import empty_batch, map_batch
from serl_rl.spec import TransitionSpec

from .networks import Params, State, below, mlp
from .reference import (
    AFTER_ONE,
    AFTER_TWENTY,
    Batch,
    Info,
    descend,
    expect_same,
    expect_same_info,
    follow,
    make_agent,
    parameters,
    state_of,
    stirred,
    update,
)
from .sac_reference import SACReference
from .sight import Sight
from .tape import Value

pytestmark = pytest.mark.usefixtures("cheap_compilation")

SAC = SACConfig(hidden_sizes=(8,), discount=0.9, target_rate=0.05, actor_lr=1e-3, critic_lr=2e-3, temperature_lr=3e-3)
LEFT, RIGHT = Gripper(action=1, entry="state", index=2), Gripper(action=-1, entry="state", index=0)
SPEC = TransitionSpec({"arm": ((2,), "float32"), "state": ((3,), "float32")}, 4)
SEEING = TransitionSpec({"arm": ((1, 3, 2, 4), "float16"), "state": ((3,), "float32")}, 4, encoder="hash")
CONFIG = HybridConfig(grippers=(LEFT,), grasp_hidden_sizes=(8, 6), grasp_lr=4e-3, grasp_penalty=0.3)


class HybridReference:
    """HIL-SERL (Luo et al., arXiv 2410.21845): the grippers' actions by double DQN (van Hasselt, arXiv 1509.06461)."""

    def __init__(self, state: State, key: NDArray, config: HybridConfig, sac: SACConfig, sight: Sight) -> None:
        self.config, self.sac_config = config, sac
        self.own = {name: array for name, array in state.items() if not name.startswith("sac/")}
        self.arm = SACReference(below(state, "sac"), key, sac, sight)
        size = sight.spec.action_dim
        self.places = [gripper.action % size for gripper in config.grippers]
        self.arm_places = [place for place in range(size) if place not in self.places]

    @property
    def state(self) -> State:
        return self.own | {f"sac/{name}": array for name, array in self.arm.state.items()}

    def prepare(self, batch: Batch) -> Batch:
        return batch

    def critic_step(self, batch: Batch) -> Info:
        state, params = (
            parameters(self.arm.state, "critic", "target_critic"),
            parameters(self.own, "grasp", "target_grasp"),
        )
        chosen = self.values(params, "grasp", self.arm.seen(state, "critic", batch["next_observation"]))
        behind = self.values(params, "target_grasp", self.arm.seen(state, "target_critic", batch["next_observation"]))
        seen = Value(self.arm.seen(state, "critic", batch["observation"]).array)
        executed = batch["action"][..., self.places]
        held = np.stack([batch["observation"][each.entry][:, each.index] for each in self.config.grippers], axis=1)
        size = len(executed)
        taught, targets, changed = [], np.empty(size), np.empty(size)
        for row in range(size):
            steps = executed[row][None] if executed.ndim == 2 else executed[row][batch["valid"][row] > 0]
            sent = [[grasps_that_send(*pair) for pair in zip(step, held[row], strict=True)] for step in steps]
            options = [set.intersection(*choices) for choices in zip(*sent, strict=True)]
            taught.append([index for index, grasp in enumerate(product((-1, 0, 1), repeat=len(options))) if all(
                choice in option for choice, option in zip(grasp, options, strict=True)
            )])  # fmt: skip
            changed[row] = sum(0 not in option for option in sent[0])
            value = behind.array[row, chosen.array[row].argmax()]
            reward = batch["reward"][row] - self.config.grasp_penalty * changed[row]
            discount = batch["discount"][row] if "discount" in batch else self.sac_config.discount
            targets[row] = reward + discount * batch["mask"][row] * value

        def loss(params: dict[str, Value]) -> Value:
            values = self.values(params, "grasp", seen)
            errors = [((values[row][taught[row]] - targets[row]) ** 2.0).mean() for row in range(size) if taught[row]]
            return sum(errors, Value(0.0)) / size

        found = descend(self.own, "grasp", loss, self.config.grasp_lr)
        follow(self.own, "target_grasp", "grasp", self.sac_config.target_rate)
        info = {"grasp_loss": found, "grasp_changes": float(changed.mean())}
        return info | self.arm.critic_step(self.of_arm(batch))

    def actor_step(self, batch: Batch) -> Info:
        return self.arm.actor_step(self.of_arm(batch))

    def of_arm(self, batch: Batch) -> Batch:
        return batch | {"action": batch["action"][..., self.arm_places]}

    def values(self, params: Params, critic: str, seen: Value) -> Value:
        """(B, M) of all grasps."""
        network = below(params, f"{critic}/params")
        return mlp(network, seen, self.sac_config.activation, self.sac_config.layer_norm)


def grasps_that_send(executed: float, held: float) -> set[int]:
    """Close (-1), stay (0) or open (1): those whose command is what was executed, or nearly as near to it as any."""
    distances = {grasp: abs(executed - command) for grasp, command in ((-1, -1.0), (0, held), (1, 1.0))}
    return {grasp for grasp, distance in distances.items() if distance <= min(distances.values()) + 0.1}


def make_batch(spec: TransitionSpec, seed: int, size: int = 12) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    batch = empty_batch(spec, (1, 2, size))
    for side in ("observation", "next_observation"):
        for rows in batch[side].values():
            rows[...] = rng.standard_normal(rows.shape)
        batch[side]["state"][..., [0, 2]] = rng.choice([-1.0, 0.2, 1.0], (1, 2, size, 2))
    batch["action"][...] = rng.uniform(-1, 1, batch["action"].shape)
    batch["action"][..., [1, 3]] = rng.choice([-1.0, -0.97, 0.2, 0.8, 1.0], (1, 2, size, 2))
    batch["reward"][...] = rng.standard_normal(batch["reward"].shape)
    batch["mask"][...] = rng.random(batch["mask"].shape) < 0.7
    return batch


@pytest.mark.parametrize(
    ("spec", "changes", "sac_changes", "updates"),
    [
        (SPEC, {}, {"backup_entropy": True}, 20),
        (SPEC, {"grippers": (LEFT, RIGHT)}, {"activation": "tanh", "layer_norm": False}, 20),
        (SEEING, {}, {}, 1),
    ],
    ids=["one gripper", "two grippers", "feature maps"],
)
def test_one_update_and_twenty(backend, spec, changes, sac_changes, updates):
    config, sac = replace(CONFIG, **changes), replace(SAC, **sac_changes)
    sight = Sight(spec, VisionConfig(embeddings=2, width=5))
    agent = make_agent(backend, spec, agent="hybrid", hybrid=config, sac=sac, vision=sight.vision)
    reference = HybridReference(state_of(agent), agent.arrays()["sac/key"], config, sac, sight)
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


def test_no_gradient_of_the_grasp_critic_reaches_the_eyes():
    agent = stirred(HybridAgent.create(0, SEEING, CONFIG, SAC, VisionConfig(embeddings=2, width=5)))
    batch = map_batch(lambda rows: rows[0, 0], make_batch(SEEING, 0))

    def loss(vision: Any) -> jax.Array:
        arm = agent.sac.replace(critic=agent.sac.critic | {"vision": vision})
        return grasp_loss(agent.replace(sac=arm), agent.grasp, batch)[0]

    slopes = jax.tree.leaves(jax.jit(jax.grad(loss))(agent.sac.critic["vision"]))
    assert slopes
    assert not any(np.any(slope) for slope in slopes)
