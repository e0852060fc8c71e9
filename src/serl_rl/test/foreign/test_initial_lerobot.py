# SPDX-License-Identifier: Apache-2.0
"""LeRobot's `SACPolicy` as what our agent sac begins with: the same actions and values, in every backend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from serl_config.optional import is_installed, setup_line
from serl_config.schema import build
from serl_rl.backends import create_agent, make_policy
from serl_rl.config import Backend, LearningConfig
from serl_rl.foreign.errors import ForeignError
from serl_rl.foreign.lerobot_sac.policy import SacPolicy
from serl_rl.imported.initial import read_initial, with_initial, write_initial
from serl_rl.policy.reference import read_reference
from serl_rl.spec import TransitionSpec

STATE, ACTIONS, LATENT, HIDDEN = 5, 3, 8, (16, 12)
SPEC = TransitionSpec({"state": ((STATE,), "float32")}, ACTIONS)
CONFIG: dict[str, Any] = {
    "type": "sac",
    "input_features": {"observation.state": {"type": "STATE", "shape": [STATE]}},
    "num_discrete_actions": None,
    "discount": 0.97,
    "num_subsample_critics": None,
}
LOW, HIGH = np.linspace(-2.0, 0.0, STATE, dtype=np.float32), np.linspace(1.0, 3.0, STATE, dtype=np.float32)
MIN_MAX = {f"normalize_inputs.buffer_observation_state.{name}": each for name, each in (("min", LOW), ("max", HIGH))}
MEAN_STD = {f"normalize_inputs.buffer_observation_state.{name}": each for name, each in (("mean", LOW), ("std", HIGH))}

needs_torch = pytest.mark.skipif(not is_installed("torch"), reason=setup_line("torch"))
BACKENDS = ["jax", pytest.param("torch", marks=needs_torch)]
Tensors = dict[str, Any]


def drawn(seed: int = 0, *, shared: bool = True) -> Tensors:
    rng = np.random.default_rng(seed)
    found: Tensors = {}

    def layer(name: str, *shape: int, norm: bool = False) -> None:
        # Small numbers: what is added to the variance of a hidden layer shows then.
        found[f"{name}.weight"] = (norm + rng.normal(0.0, 0.05, shape)).astype(np.float32)
        found[f"{name}.bias"] = rng.normal(0.0, 0.05, shape[0]).astype(np.float32)

    for owner in ("actor",) if shared else ("actor", "critic_ensemble"):
        layer(f"{owner}.encoder.state_encoder.0", LATENT, STATE)
        layer(f"{owner}.encoder.state_encoder.1", LATENT, norm=True)
    networks = {"actor.network.net": LATENT}
    for critics in ("critic_ensemble", "critic_target"):
        networks |= {f"{critics}.critics.{each}.net.net": LATENT + ACTIONS for each in range(2)}
    for name, inputs in networks.items():
        for index, (before, width) in enumerate(zip((inputs, HIDDEN[0]), HIDDEN, strict=True)):
            layer(f"{name}.{3 * index}", width, before)
            layer(f"{name}.{3 * index + 1}", width, norm=True)
        if name.startswith("critic"):
            layer(f"{name.removesuffix('.net.net')}.output_layer", 1, HIDDEN[-1])
    for name in ("actor.mean_layer", "actor.std_layer"):
        layer(name, ACTIONS, HIDDEN[-1])
    return found | {"log_alpha": np.float32([-2.5])}


def write(folder: Path, tensors: Tensors, **changes: Any) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    safetensors.numpy.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def linear(tensors: Tensors, name: str, x: Any) -> Any:
    return tensors[f"{name}.weight"].astype(np.float64) @ x + tensors[f"{name}.bias"]


def norm(tensors: Tensors, name: str, x: Any) -> Any:
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]


def encoded(tensors: Tensors, owner: str, x: Any) -> Any:
    name = f"{owner}.encoder.state_encoder"
    return np.tanh(norm(tensors, f"{name}.1", linear(tensors, f"{name}.0", x)))


def hidden(tensors: Tensors, name: str, x: Any) -> Any:
    for index in (0, 3):
        x = norm(tensors, f"{name}.{index + 1}", linear(tensors, f"{name}.{index}", x))
        x = x / (1.0 + np.exp(-x))
    return x


def agent_of(path: Path, run: Path, backend: Backend) -> Any:
    weights = read_initial(read_reference(f"lerobot_sac:{path}"))
    write_initial(run, weights)
    settings = {"backend": backend, "sac": {**weights.defaults, **weights.network}}
    return with_initial(run, create_agent(7, SPEC, build(LearningConfig, settings, "test")))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("shared", "statistics"), [(True, {}), (False, MIN_MAX), (True, MEAN_STD)])
def test_an_agent_of_a_directory_acts_and_values_as_the_description_says(
    tmp_path: Path, backend: Backend, shared: bool, statistics: Tensors
) -> None:
    tensors = drawn(shared=shared)
    path = write(tmp_path / "policy", tensors | statistics, shared_encoder=shared)
    agent, imported = agent_of(path, tmp_path, backend), SacPolicy(path)
    policy = make_policy(agent.policy_snapshot())
    if backend == "torch":
        import torch as numpy_like
        from serl_rl.torch import sac
    else:
        import jax.numpy as numpy_like  # type: ignore[no-redef]
        from serl_rl.jax import sac  # type: ignore[no-redef]
    size = () if backend == "torch" else (2,)
    rng = np.random.default_rng(2)
    for _ in range(10):
        state = rng.normal(size=STATE).astype(np.float32)
        x = state.astype(np.float64)
        if statistics is MIN_MAX:
            x = 2.0 * (x - LOW) / (HIGH - LOW) - 1.0
        if statistics is MEAN_STD:
            x = (x - LOW) / HIGH
        y = hidden(tensors, "actor.network.net", encoded(tensors, "actor", x))
        expected = np.tanh(linear(tensors, "actor.mean_layer", y))
        np.testing.assert_allclose(policy.act({"state": state}, deterministic=True), expected, rtol=0, atol=1e-5)
        np.testing.assert_allclose(imported.act({"observation.state": state}), expected, rtol=0, atol=1e-5)
        batch = [numpy_like.asarray(each[None]) for each in (state, expected.astype(np.float32))]
        mean, deviation = sac.policy(agent, agent.actor, batch[0])
        np.testing.assert_allclose(np.tanh(np.asarray(mean)[0]), expected, rtol=0, atol=1e-5)
        np.testing.assert_allclose(np.asarray(deviation)[0], linear(tensors, "actor.std_layer", y), rtol=0, atol=1e-5)
        z = np.append(encoded(tensors, "actor" if shared else "critic_ensemble", x), expected)
        for ours, owner in ((agent.critic, "critic_ensemble"), (agent.target_critic, "critic_target")):
            found = np.asarray(sac.q_values(agent, ours, *size, *batch))[:, 0]
            critics = [f"{owner}.critics.{each}" for each in range(2)]
            wanted = [linear(tensors, f"{c}.output_layer", hidden(tensors, f"{c}.net.net", z))[0] for c in critics]
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    np.testing.assert_allclose(agent.arrays()["log_temperature"], -2.5)


@needs_torch
def test_both_backends_take_the_same_step(tmp_path: Path) -> None:
    path = write(tmp_path / "policy", drawn())
    agents = [agent_of(path, tmp_path, backend) for backend in ("jax", "torch")]
    rng = np.random.default_rng(2)
    rows = {
        "observation": {"state": rng.normal(size=(1, 1, 8, STATE)).astype(np.float32)},
        "next_observation": {"state": rng.normal(size=(1, 1, 8, STATE)).astype(np.float32)},
        "action": rng.uniform(-1, 1, (1, 1, 8, ACTIONS)).astype(np.float32),
        "reward": rng.normal(size=(1, 1, 8)).astype(np.float32),
        "mask": np.ones((1, 1, 8), np.float32),
    }
    before = [agent.arrays() for agent in agents]
    after = [agents[0].update(rows)[0].arrays(), agents[1].with_arrays(before[0]).update(rows)[0].arrays()]
    for name in after[0]:
        np.testing.assert_allclose(after[0][name], after[1][name], rtol=0, atol=1e-5, err_msg=name)
    moved = [n for n in before[0] if n.startswith(("actor/", "critic/")) and (before[0][n] != after[0][n]).any()]
    assert len(moved) == sum(name.startswith(("actor/", "critic/")) for name in before[0])


def test_the_settings_beside_the_weights_are_those_of_the_directory(tmp_path: Path) -> None:
    path = write(tmp_path / "policy", drawn(), use_backup_entropy=False, num_subsample_critics=1, target_entropy=-2.0)
    weights = read_initial(read_reference(f"lerobot_sac:{path}"))
    network = {"hidden_sizes": list(HIDDEN), "activation": "silu", "layer_norm": True, "bottleneck": LATENT}
    assert (weights.agent, weights.network) == ("sac", network | {"critics": 2})
    values = {"discount": 0.97, "backup_entropy": False, "critic_subset": 1, "target_entropy": -2.0}
    assert (weights.defaults, weights.history) == (values, 1)
    assert (weights.state, weights.actions) == (STATE, ACTIONS)
    names = {name for name in agent_of(path, tmp_path, "jax").arrays() if "optimizer" not in name}
    assert names - set(weights.arrays) == {"key", "updates"}


ACTION_STATISTICS = {
    f"unnormalize_outputs.buffer_action.{name}": np.ones(ACTIONS, np.float32) for name in ("min", "max")
}


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        (ACTION_STATISTICS, "--from-policy.*found one with statistics of actions"),
        ({"log_alpha": None}, "log_alpha"),
        ({"actor.std_layer.weight": None, "actor.std_layer.bias": None}, r"actor\.std_layer"),
        ({"critic_target.critics.1.output_layer.bias": None}, r"critic_target\.critics\.1"),
        ({"critic_ensemble.critics.1.net.net.3.weight": np.zeros((9, 16), np.float32)}, r"critics\.1\.net\.net"),
        ({"critic_target.critics.1.net.net.1.weight": np.full(16, np.nan, np.float32)}, "finite"),
    ],
)
def test_what_the_agent_does_not_have_is_refused_by_name(tmp_path: Path, tensors: Tensors, says: str) -> None:
    kept = {name: values for name, values in (drawn() | tensors).items() if values is not None}
    with pytest.raises(ForeignError, match=says):
        read_initial(read_reference(f"lerobot_sac:{write(tmp_path / 'policy', kept)}"))
