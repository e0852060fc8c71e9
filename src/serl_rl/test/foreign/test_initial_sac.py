# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of SERL as what our agent sac begins with: the same actions, values and temperature, in every backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flax.serialization
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict
from serl_config.optional import is_installed, setup_line
from serl_config.schema import build
from serl_rl.backends import create_agent, make_policy
from serl_rl.config import Backend, LearningConfig
from serl_rl.foreign.errors import ForeignError
from serl_rl.imported.initial import FILE, read_initial, with_initial, write_initial
from serl_rl.imported.published import published_policy
from serl_rl.policy.reference import read_reference
from serl_rl.spec import DataError, TransitionSpec

STATE, ACTIONS, HIDDEN, CRITICS = 5, 3, (16, 12), 4
SPEC = TransitionSpec({"state": ((STATE,), "float32")}, ACTIONS)

needs_torch = pytest.mark.skipif(not is_installed("torch"), reason=setup_line("torch"))
BACKENDS = ["jax", pytest.param("torch", marks=needs_torch)]
Parameters = dict[str, Any]


def drawn(seed: int, critic: str = "modules_critic/network") -> Parameters:
    rng = np.random.default_rng(seed)
    found: Parameters = {}

    def put(name: str, *shape: int, around: float = 0.0, scale: float = 0.3) -> None:
        found[name] = (around + rng.normal(0.0, scale, shape)).astype(np.float32)

    for prefix, outer, first in (("modules_actor/network", (), STATE), (critic, (CRITICS,), STATE + ACTIONS)):
        for layer, (before, width) in enumerate(zip((first, HIDDEN[0]), HIDDEN, strict=True)):
            put(f"{prefix}/Dense_{layer}/kernel", *outer, before, width)
            put(f"{prefix}/Dense_{layer}/bias", *outer, width)
            put(f"{prefix}/LayerNorm_{layer}/scale", *outer, width, around=1.0)
            put(f"{prefix}/LayerNorm_{layer}/bias", *outer, width)
    for name, outputs in (
        ("modules_actor/Dense_0", ACTIONS),
        ("modules_actor/Dense_1", ACTIONS),
        ("modules_critic/Dense_0", 1),
    ):
        put(f"{name}/kernel", HIDDEN[-1], outputs)
        put(f"{name}/bias", outputs)
    found["modules_temperature/lagrange"] = np.asarray(-1.5, np.float32)
    return found


def write(path: Path, parameters: Parameters, targets: Parameters | None = None) -> Path:
    trees = {"params": parameters, "target_params": parameters if targets is None else targets}
    tree = {"step": np.int64(7)} | {name: unflatten_dict(values, sep="/") for name, values in trees.items()}
    path.write_bytes(flax.serialization.msgpack_serialize(tree))
    return path


def by_the_description(parameters: Parameters, prefix: str, heads: tuple[str, ...], x: Any, member: Any = ...) -> Any:
    p = {name: values.astype(np.float64) for name, values in parameters.items()}
    for layer in range(len(HIDDEN)):
        y = x @ p[f"{prefix}/Dense_{layer}/kernel"][member] + p[f"{prefix}/Dense_{layer}/bias"][member]
        y = (y - y.mean()) / np.sqrt(y.var() + 1e-6)
        norm = f"{prefix}/LayerNorm_{layer}"
        x = np.tanh(y * p[f"{norm}/scale"][member] + p[f"{norm}/bias"][member])
    return [x @ p[f"{head}/kernel"] + p[f"{head}/bias"] for head in heads]


def agent_of(path: Path, run: Path, backend: Backend) -> Any:
    weights = read_initial(read_reference(f"flax:{path}"))
    write_initial(run, weights)
    settings = {"backend": backend, "sac": {**weights.defaults, **weights.network}}
    return with_initial(run, create_agent(7, SPEC, build(LearningConfig, settings, "test")))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("critic", ["modules_critic/network", "modules_critic/network/VmapMLP_0"])
def test_an_agent_of_a_checkpoint_acts_and_values_as_the_description_says(
    tmp_path: Path, backend: Backend, critic: str
) -> None:
    parameters, targets = drawn(0, critic), drawn(1, critic)
    agent = agent_of(write(tmp_path / "checkpoint_7", parameters, targets), tmp_path, backend)
    policy = make_policy(agent.policy_snapshot())
    if backend == "torch":
        import torch as numpy_like
        from serl_rl.torch import sac
    else:
        import jax.numpy as numpy_like  # type: ignore[no-redef]
        from serl_rl.jax import sac  # type: ignore[no-redef]
    size = () if backend == "torch" else (CRITICS,)
    rng = np.random.default_rng(2)
    for _ in range(10):
        state = rng.normal(size=STATE).astype(np.float32)
        heads = ("modules_actor/Dense_0", "modules_actor/Dense_1")
        mean, log_std = by_the_description(parameters, "modules_actor/network", heads, state.astype(np.float64))
        found = policy.act({"state": state}, deterministic=True)
        np.testing.assert_allclose(found, np.tanh(mean), rtol=0, atol=1e-5)
        action = found.astype(np.float32)
        batch = [numpy_like.asarray(each[None]) for each in (state, action)]
        _, deviation = sac.policy(agent, agent.actor, batch[0])
        # The bounds are those of our agent.
        np.testing.assert_allclose(np.asarray(deviation)[0], np.clip(log_std, -10.0, 2.0), rtol=0, atol=1e-5)
        x = np.append(state, action).astype(np.float64)
        for ours, theirs in ((agent.critic, parameters), (agent.target_critic, targets)):
            values = np.asarray(sac.q_values(agent, ours, *size, *batch))[:, 0]
            head = ("modules_critic/Dense_0",)
            wanted = [by_the_description(theirs, critic, head, x, each)[0][0] for each in range(CRITICS)]
            np.testing.assert_allclose(values, wanted, rtol=0, atol=1e-5)
    np.testing.assert_allclose(np.exp(agent.arrays()["log_temperature"]), np.log1p(np.exp(-1.5)), rtol=1e-6)


@needs_torch
def test_both_backends_begin_with_the_same_arrays(tmp_path: Path) -> None:
    path = write(tmp_path / "checkpoint_7", drawn(0))
    first, second = (agent_of(path, tmp_path, backend).arrays() for backend in ("jax", "torch"))
    for name in read_initial(read_reference(f"flax:{path}")).arrays:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_the_weights_are_all_that_the_agent_learns(tmp_path: Path) -> None:
    path = write(tmp_path / "checkpoint_7", drawn(0))
    weights = read_initial(read_reference(f"flax:{path}"))
    assert (weights.agent, weights.history, weights.state, weights.actions) == ("sac", 1, STATE, ACTIONS)
    network = {"hidden_sizes": list(HIDDEN), "activation": "tanh", "layer_norm": True, "critics": CRITICS}
    assert (weights.network, weights.defaults) == (network, {"critic_subset": 2})
    names = {name for name in agent_of(path, tmp_path, "jax").arrays() if "optimizer" not in name}
    assert names - set(weights.arrays) == {"key", "updates"}
    assert (tmp_path / FILE).is_file()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"modules_actor/encoder/Dense_0/bias": np.zeros(3, np.float32)}, "--from-policy.*found one with an encoder"),
        (
            {"modules_grasp_critic/Dense_0/bias": np.zeros(3, np.float32)},
            "--from-policy.*found one with a grasp critic",
        ),
        ({"modules_actor/LayerNorm_9/bias": np.zeros(3, np.float32)}, "LayerNorm_9"),
        ({"modules_actor/Dense_1/kernel": np.zeros((9, 9), np.float32)}, "modules_actor/Dense_1/kernel"),
        ({"modules_actor/Dense_1/bias": np.full(ACTIONS, np.nan, np.float32)}, "finite"),
        ({"modules_temperature/lagrange": None}, "modules_temperature/lagrange"),
        ({"modules_actor/network/LayerNorm_1/scale": None}, "LayerNorm_1/scale"),
    ],
)
def test_what_the_agent_does_not_have_is_refused_by_name(tmp_path: Path, change: Parameters, says: str) -> None:
    parameters = {name: values for name, values in (drawn(0) | change).items() if values is not None}
    with pytest.raises(ForeignError, match=says):
        read_initial(read_reference(f"flax:{write(tmp_path / 'checkpoint_7', parameters)}"))


def test_a_checkpoint_without_target_critics_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="target_params"):
        read_initial(read_reference(f"flax:{write(tmp_path / 'checkpoint_7', drawn(0), {})}"))


def test_published_parameters_of_states_explore_within_the_bounds_of_serl() -> None:
    parameters = drawn(0)
    parameters["modules_actor/Dense_1/bias"] = np.float32([-40.0, 0.0, 9.0])
    policy = published_policy(parameters, SPEC)
    state = np.linspace(-1.0, 1.0, STATE).astype(np.float32)
    x = state.astype(np.float64)
    for layer in range(2):
        p = {
            name.rpartition("/")[2]: v
            for name, v in parameters.items()
            if f"modules_actor/network/Dense_{layer}" in name
        }
        n = {name.rpartition("/")[2]: v for name, v in parameters.items() if f"actor/network/LayerNorm_{layer}" in name}
        x = x @ p["kernel"] + p["bias"]
        x = np.tanh((x - x.mean()) / np.sqrt(x.var() + 1e-6) * n["scale"] + n["bias"])
    mean, log = (
        x @ parameters[f"modules_actor/Dense_{i}/kernel"] + parameters[f"modules_actor/Dense_{i}/bias"] for i in (0, 1)
    )
    np.testing.assert_allclose(policy.act({"state": state}, deterministic=True), np.tanh(mean), rtol=0, atol=1e-5)
    noise = np.random.default_rng(3).standard_normal(ACTIONS, dtype=np.float32)
    found = policy.act({"state": state}, deterministic=False, rng=np.random.default_rng(3))
    expected = np.tanh(mean + np.clip(np.exp(log), 1e-5, 5.0) * noise)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    parameters["modules_actor/network/Dense_0/kernel"][0, 0] = np.nan
    with pytest.raises(DataError, match="expected finite values, found nan or inf"):
        published_policy(parameters, SPEC)
