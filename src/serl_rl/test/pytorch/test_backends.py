# SPDX-License-Identifier: Apache-2.0
"""Both backends are one: the same state, the same draws, the same updates, and one goes on where the other stopped."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from serl_rl.backends import BackendError, create_agent
from serl_rl.config import (
    BCConfig,
    DrQv2Config,
    EncoderConfig,
    Gripper,
    HybridConfig,
    LearningConfig,
    SACConfig,
    TorchConfig,
    VICEConfig,
    VisionConfig,
)
from serl_rl.encoders.encoder import Encoder
from serl_rl.replay.buffer import Sampling, empty_batch
from serl_rl.spec import DataError, TransitionSpec
from serl_rl.storage.journal import Position

from serl_rl import backends, checkpoint

torch = pytest.importorskip("torch", reason="./serl setup torch")

pytestmark = pytest.mark.usefixtures("cheap_compilation")

SPEC = TransitionSpec({"front": ((1, 3, 2, 4), "float16"), "state": ((4,), "float32")}, 3, encoder="hash")
PICTURES = TransitionSpec({"front": ((16, 24, 3), "uint8"), "state": ((4,), "float32")}, 3)
SMALL = Encoder.random("small", 5)
TWO_ARMS = replace(SPEC, meaning={"action": [{"name": name} for name in ("left/dx", "right/dx", "right/dy")]})
CONFIG = LearningConfig(
    sac=SACConfig(hidden_sizes=(16, 8), critics=4, critic_subset=2, backup_entropy=True, acting_rate=0.2),
    drqv2=DrQv2Config(hidden_sizes=(16, 8)),
    hybrid=HybridConfig(grippers=(Gripper(action=1, index=2),), grasp_hidden_sizes=(8,)),
    vice=VICEConfig(hidden_sizes=(8,)),
    bc=BCConfig(hidden_sizes=(16,), dropout=0.0, chunk=2, execute=1),
    vision=VisionConfig(embeddings=2, width=5),
    torch=TorchConfig(device="cpu", compile=False),
)


SEEING = ("trained encoder", "frozen encoder")
"""Agents that see pictures: by soft actor-critic."""


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # more only wait for each other with networks of this size


def settings(agent: str) -> LearningConfig:
    if agent == "per_arm":
        return replace(CONFIG, policies="per_arm")
    if agent in SEEING:
        encoder = EncoderConfig(weights="random", frozen=agent == "frozen encoder", cached=False, shift=2)
        return replace(CONFIG, vision=replace(CONFIG.vision, encoder=encoder))
    return replace(CONFIG, agent=agent)


def spec_of(agent: str) -> TransitionSpec:
    return TWO_ARMS if agent == "per_arm" else PICTURES if agent in SEEING else SPEC


def pair(agent: str) -> tuple[Any, Any]:
    """An agent of JAX, and one of PyTorch with the same state."""
    spec, encoder = spec_of(agent), SMALL if agent in SEEING else None
    first = create_agent(3, spec, settings(agent), encoder)
    second = create_agent(7, spec, replace(settings(agent), backend="torch"), encoder)
    return first, second.with_arrays(first.arrays())


def make_batch(agent: str, seed: int, size: int = 12) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    sampling = Sampling(action_chunk=2) if agent == "bc" else Sampling(n_step=3) if agent == "drqv2" else Sampling()
    batch = empty_batch(PICTURES if agent in SEEING else SPEC, (1, 1, size), sampling)
    if agent == "vice":
        batch["goal"] = empty_batch(SPEC, (1, 1, size // 3))["observation"]
    for entry in batch.values():
        for rows in entry.values() if isinstance(entry, dict) else [entry]:
            low, high = (0, 256) if rows.dtype == np.uint8 else (-1.0, 1.0)
            rows[...] = rng.uniform(low, high, rows.shape)
    batch["mask"][...] = rng.random(batch["mask"].shape) < 0.7
    if "valid" in batch:
        batch["valid"][...] = 1.0
    if "discount" in batch:
        batch["discount"][...] = 0.9
    return batch


def largest_difference(first: Any, second: Any) -> float:
    one, other = first.arrays(), second.arrays()
    assert {name: (array.shape, array.dtype) for name, array in one.items()} == {
        name: (array.shape, array.dtype) for name, array in other.items()
    }
    return max(float(np.abs(array.astype(float) - other[name].astype(float)).max()) for name, array in one.items())


@pytest.mark.parametrize("agent", ["sac", "drqv2", "hybrid", "vice", "bc", "per_arm", *SEEING])
def test_fifty_updates_are_the_same(agent):
    first, second = pair(agent)
    for number in range(50):
        batch = make_batch(agent, number)
        first, expected = first.update(batch)
        second, found = second.update(batch)
        if number == 0:
            numbers = {name: float(value) for name, value in found.items()}
            assert numbers == pytest.approx(
                {name: float(value) for name, value in expected.items()}, rel=1e-5, abs=1e-6
            )
            assert largest_difference(first, second) < 1e-4
    assert largest_difference(first, second) < 1e-4


def test_a_checkpoint_of_one_goes_on_in_the_other(tmp_path):
    first, second = pair("sac")
    second, _ = second.update(make_batch("sac", 0))
    path = checkpoint.save(
        tmp_path / "checkpoints", 1, second, counters={}, rng=np.random.default_rng(0), position=Position(0, 0)
    )
    goes_on = checkpoint.load(path, first).agent
    assert int(goes_on.updates) == 1
    assert largest_difference(goes_on, second) == 0.0
    policies = [agent.policy_snapshot().to_bytes() for agent in (goes_on, second)]
    assert policies[0] == policies[1]
    goes_on, _ = goes_on.update(make_batch("sac", 1))
    second, _ = second.update(make_batch("sac", 1))
    assert largest_difference(goes_on, second) < 1e-5, "another draw, or another step"


def test_noise_comes_down_with_environment_steps_however_many_updates_these_have():
    config = replace(CONFIG, agent="drqv2", backend="torch", drqv2=replace(CONFIG.drqv2, noise_steps=1000))
    agent = create_agent(0, SPEC, config).replace(env_steps=torch.tensor(500), updates=torch.tensor(1000))
    scale = agent.policy_snapshot().actor.scale
    assert scale == pytest.approx((config.drqv2.noise_start + config.drqv2.noise_end) / 2)


def test_a_command_as_near_to_staying_as_to_closing_is_no_change():
    from serl_rl.torch.hybrid import changes

    executed, held = torch.tensor([[0.55], [0.7], [-0.9]]), torch.tensor([[0.1], [0.1], [0.1]])
    assert changes(executed, held).tolist() == [0.0, 1.0, 1.0], "0.55 - 0.1 is 1 - 0.55, but for rounding"


def test_a_state_of_another_configuration_is_refused():
    first, second = pair("sac")
    arrays = first.arrays()
    with pytest.raises(DataError, match="missing"):
        second.with_arrays({name: array for name, array in arrays.items() if name != "log_temperature"})
    with pytest.raises(DataError, match="actor/params/head/bias"):
        second.with_arrays(arrays | {"actor/params/head/bias": np.zeros(5, np.float32)})


def test_both_draw_the_same():
    import jax
    from serl_rl.torch.computing import random

    key, own = jax.random.key(5), random.from_seed(5)
    np.testing.assert_array_equal(jax.random.key_data(jax.random.split(key, 5)), torch.stack(random.split(own, 5)))
    np.testing.assert_array_equal(jax.random.key_data(jax.random.fold_in(key, 3)), random.fold_in(own, 3))
    for count in (1, 10, 3000):
        np.testing.assert_array_equal(jax.random.permutation(key, count), random.permutation(own, count))
    for shape in ((3,), (64, 5)):
        np.testing.assert_array_equal(jax.random.uniform(key, shape), random.uniform(own, shape))
        np.testing.assert_array_equal(jax.random.randint(key, shape, -4, 5), random.randint(own, shape, -4, 5))
        np.testing.assert_allclose(jax.random.normal(key, shape), random.normal(own, shape), rtol=1e-6)
        cut = jax.random.truncated_normal(key, -2.0, 2.0, shape)
        np.testing.assert_allclose(cut, random.truncated_normal(own, shape), rtol=1e-5, atol=1e-6)


def test_where_torch_is_missing_the_error_offers_it(monkeypatch):
    monkeypatch.setattr(backends, "is_installed", lambda name: False)
    with pytest.raises(BackendError, match=r"\./serl setup torch"):
        create_agent(0, SPEC, replace(CONFIG, backend="torch"))


def test_adam_in_a_traced_step_is_the_one_that_is_taken_as_it_is_written():
    from serl_rl.torch.computing.optimizer import adam, init_adam
    from torch.fx.experimental.proxy_tensor import make_fx

    def moved(slope):
        params = {"a": torch.linspace(-1.0, 1.0, 6).reshape(2, 3)}
        state = init_adam(params)
        for share in (1.0, 0.3):
            params, state = adam(params, {"a": share * slope}, state, 0.1)
        return params["a"], state["0"]["nu"]["a"]

    slope = torch.linspace(-2.0, 3.0, 6).reshape(3, 2).T  # does not lie in memory as the parameters do
    for found, expected in zip(make_fx(moved)(slope)(slope), moved(slope), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
