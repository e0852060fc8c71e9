# SPDX-License-Identifier: Apache-2.0
"""Updates of behaviour cloning agree with an independent one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from serl_rl.config import BCConfig, VisionConfig
from serl_rl.replay.buffer import Sampling, empty_batch
from serl_rl.spec import TransitionSpec

from . import tape
from .networks import State, below, mlp
from .reference import (
    AFTER_ONE,
    AFTER_TWENTY,
    Batch,
    Info,
    descend,
    expect_same,
    expect_same_info,
    make_agent,
    state_of,
    update,
)
from .sight import Sight
from .tape import Value

pytestmark = pytest.mark.usefixtures("cheap_compilation")

CHUNK = 3
SPEC = TransitionSpec({"state": ((3,), "float32"), "wrist": ((1, 3, 2, 4), "float16")}, 2, encoder="hash")
CONFIG = BCConfig(hidden_sizes=(8,), dropout=0.0, chunk=CHUNK, execute=2, learning_rate=2e-3)
VISION = VisionConfig(embeddings=2, width=5)


class BCReference:
    """The mean squared error of the actions of chunks (Zhao et al., arXiv 2304.13705), those in the episode alone."""

    def __init__(self, state: State, config: BCConfig, sight: Sight) -> None:
        self.state, self.config, self.sight = state, config, sight

    def prepare(self, batch: Batch) -> Batch:
        return batch

    def critic_step(self, batch: Batch) -> Info:
        """The only step there is."""
        inside = [tuple(place) for place in np.argwhere(batch["valid"] == 1.0)]

        def loss(params: dict[str, Value]) -> Value:
            seen = self.sight.look(below(params, "actor/vision/params"), batch["observation"])
            network = below(params, "actor/params")
            actions = tape.tanh(mlp(network, seen, self.config.activation, self.config.layer_norm))
            errors = (actions.reshape(*batch["action"].shape) - batch["action"]) ** 2.0
            rows, steps = zip(*inside, strict=True)
            return errors[list(rows), list(steps)].mean()

        found = descend(self.state, "actor", loss, self.config.learning_rate)
        self.state["updates"] = self.state["updates"] + 1
        return {"actor_loss": found}

    def actor_step(self, batch: Batch) -> Info:
        return {}


def make_batch(seed: int, size: int = 12) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    batch = empty_batch(SPEC, (1, 2, size), Sampling(action_chunk=CHUNK))
    for rows in batch["observation"].values():
        rows[...] = rng.standard_normal(rows.shape)
    batch["action"][...] = rng.uniform(-1, 1, batch["action"].shape)
    left: NDArray = rng.integers(1, CHUNK + 1, (1, 2, size, 1))  # actions until the episode ends
    batch["valid"][...] = np.arange(CHUNK) < left
    return batch


@pytest.mark.parametrize("changes", [{}, {"hidden_sizes": (8, 6), "activation": "tanh", "layer_norm": False}])
def test_one_update_and_twenty(backend, changes):
    config = replace(CONFIG, **changes)
    agent = make_agent(backend, SPEC, agent="bc", bc=config, vision=VISION)
    reference = BCReference(state_of(agent), config, Sight(SPEC, VISION))
    start = dict(reference.state)
    for number in range(20):
        batch = make_batch(number)
        agent, info = agent.update(batch)
        expected = update(reference, batch)
        if number == 0:
            expect_same(agent, reference.state, start, AFTER_ONE)
            expect_same_info(info, expected, AFTER_ONE)
    expect_same(agent, reference.state, start, AFTER_TWENTY)
    expect_same_info(info, expected, AFTER_TWENTY)
