# SPDX-License-Identifier: Apache-2.0
"""Weights of other stacks as those that our agents begin with: the same actions and values, in every backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_files import Settings, drqv2_tensors, write_archive
from serl_config.optional import is_installed, setup_line
from serl_config.schema import build
from serl_rl.backends import create_agent, make_policy
from serl_rl.config import Backend, LearningConfig
from serl_rl.foreign.errors import ForeignError
from serl_rl.foreign.robobase.files import read_drqv2, write_drqv2
from serl_rl.foreign.robobase.policy import open_policy
from serl_rl.imported.initial import FILE, read_initial, with_initial, write_initial
from serl_rl.policy.reference import read_reference
from serl_rl.spec import DataError, TransitionSpec

STATE, ACTIONS, STACK = 5, 3, 2
SPEC = TransitionSpec({"state": ((STACK * STATE,), "float32")}, ACTIONS)

needs_torch = pytest.mark.skipif(not is_installed("torch"), reason=setup_line("torch"))
BACKENDS = ["jax", pytest.param("torch", marks=needs_torch)]


@pytest.fixture
def tensors() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return drqv2_tensors(rng, views=0, stack=STACK, side=31, state=STATE, actions=ACTIONS, hidden=(16, 20))


def snapshot(path: Path, tensors: dict[str, Any], **settings: Any) -> Path:
    values = {"pixels": False, "frame_stack": STACK, "replay": Settings(gamma=0.97, nstep=4)} | settings
    write_archive(path, {"agent": tensors, "cfg": Settings(values)})
    return path


def by_the_description(tensors: dict[str, Any], prefix: str, state: Any, action: Any) -> Any:
    def linear(name: str, x: Any) -> Any:
        return tensors[f"{prefix}.{name}.weight"].astype(np.float64) @ x + tensors[f"{prefix}.{name}.bias"]

    y = linear("input_preprocess_modules.low_dim_obs.0", state)
    scale, shift = (tensors[f"{prefix}.input_preprocess_modules.low_dim_obs.1.{name}"] for name in ("weight", "bias"))
    x = np.append(np.tanh((y - y.mean()) / np.sqrt(y.var() + 1e-5) * scale + shift), action)
    for layer in (0, 3):
        x = np.maximum(linear(f"main_mlp.{layer}", x), 0.0)
    return linear("out_mlp.0", x)


def agent_of(path: Path, run: Path, backend: Backend, **changes: Any) -> Any:
    """An agent as a run begins with it."""
    weights = read_initial(read_reference(f"drqv2:{path}"))
    write_initial(run, weights)
    settings = {"agent": "drqv2", "backend": backend, "drqv2": {**weights.defaults, **weights.network, **changes}}
    return with_initial(run, create_agent(7, SPEC, build(LearningConfig, settings, "test")))


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_agent_of_a_snapshot_acts_and_values_as_the_description_says(
    tmp_path: Path, tensors: dict[str, Any], backend: Backend
) -> None:
    agent = agent_of(snapshot(tmp_path / "7_snapshot.pt", tensors), tmp_path, backend)
    policy, theirs = make_policy(agent.policy_snapshot()), open_policy(tmp_path)
    if backend == "torch":
        import torch as numpy_like
        from serl_rl.torch import drqv2
    else:
        import jax.numpy as numpy_like  # type: ignore[no-redef]
        from serl_rl.jax import drqv2  # type: ignore[no-redef]
    rng = np.random.default_rng(1)
    for _ in range(20):
        moments = rng.normal(size=(STACK, STATE)).astype(np.float32)  # the oldest first
        newest_first = moments[::-1].ravel().copy()
        expected = np.tanh(by_the_description(tensors, "actor_model", moments.ravel(), []))
        np.testing.assert_allclose(policy.act({"state": newest_first}, deterministic=True), expected, rtol=0, atol=1e-5)
        theirs.reset()
        for moment in moments:
            action = theirs.act({"low_dim_state": moment})
        np.testing.assert_allclose(action, expected, rtol=0, atol=1e-5)
        batch = [numpy_like.asarray(each[None]) for each in (newest_first, expected.astype(np.float32))]
        for ours, prefix in ((agent.critic, "critic"), (agent.target_critic, "critic_target")):
            found = np.asarray(drqv2.q_values(agent, ours, *batch))[:, 0]
            values = [by_the_description(tensors, f"{prefix}.qs.{i}", moments.ravel(), expected)[0] for i in range(2)]
            np.testing.assert_allclose(found, values, rtol=0, atol=1e-5)


@needs_torch
def test_both_backends_begin_with_the_same_arrays_and_take_the_same_step(
    tmp_path: Path, tensors: dict[str, Any]
) -> None:
    path = snapshot(tmp_path / "7_snapshot.pt", tensors)
    agents = [agent_of(path, tmp_path, backend, noise_clip=0.0) for backend in ("jax", "torch")]
    rng = np.random.default_rng(2)
    rows = {
        "observation": {"state": rng.normal(size=(1, 1, 8, STACK * STATE)).astype(np.float32)},
        "next_observation": {"state": rng.normal(size=(1, 1, 8, STACK * STATE)).astype(np.float32)},
        "action": rng.uniform(-1, 1, (1, 1, 8, ACTIONS)).astype(np.float32),
        "reward": rng.normal(size=(1, 1, 8)).astype(np.float32),
        "mask": np.ones((1, 1, 8), np.float32),
        "discount": np.full((1, 1, 8), 0.9, np.float32),
    }
    before = [agent.arrays() for agent in agents]
    after = [agent.update(rows)[0].arrays() for agent in agents]
    for first, second in (before, after):
        assert first.keys() == second.keys()
        for name in first:
            if name != "key":
                np.testing.assert_allclose(first[name], second[name], rtol=0, atol=2e-6, err_msg=name)
    moved = [n for n in before[0] if n.startswith(("actor/", "critic/")) and (before[0][n] != after[0][n]).any()]
    assert len(moved) == sum(name.startswith(("actor/", "critic/")) for name in before[0])


def test_the_settings_beside_the_weights_are_those_of_the_run(tmp_path: Path, tensors: dict[str, Any]) -> None:
    weights = read_initial(read_reference(f"drqv2:{snapshot(tmp_path / '7_snapshot.pt', tensors)}"))
    assert weights.network == {"hidden_sizes": [16, 20], "activation": "relu", "layer_norm": False, "bottleneck": 12}
    assert weights.defaults == {"noise_start": 0.2, "noise_end": 0.1, "discount": 0.97, "n_step": 4}
    assert (weights.history, weights.state, weights.actions) == (STACK, STATE, ACTIONS)


def test_a_directory_of_a_policy_without_pictures_is_the_same(tmp_path: Path, tensors: dict[str, Any]) -> None:
    checkpoint = read_drqv2(snapshot(tmp_path / "7_snapshot.pt", tensors))
    write_drqv2(tmp_path / "out", checkpoint)
    again = read_drqv2(tmp_path / "out").network
    assert again.architecture == checkpoint.network.architecture
    for name, values in checkpoint.network.tensors.items():
        np.testing.assert_array_equal(again.tensors[name], values)


def test_what_no_agent_has_is_refused_by_name(tmp_path: Path, tensors: dict[str, Any]) -> None:
    seeing = drqv2_tensors(
        np.random.default_rng(0), views=1, stack=1, side=31, state=STATE, actions=ACTIONS, hidden=(8,)
    )
    path = snapshot(tmp_path / "1_snapshot.pt", seeing, pixels=True, frame_stack=1, visual_observation_shape=[31, 31])
    with pytest.raises(ForeignError, match=r"looks at vectors alone.*--from-policy.*found one that looks at rgb_0"):
        read_initial(read_reference(f"drqv2:{path}"))
    third = tensors | {n.replace("qs.1", "qs.2"): v for n, v in tensors.items() if "qs.1" in n}
    with pytest.raises(ForeignError, match="2 critics of one output, as the agent drqv2 has, found 3"):
        read_initial(read_reference(f"drqv2:{snapshot(tmp_path / '2_snapshot.pt', third)}"))
    with pytest.raises(DataError, match="drqv2:PATH"):
        read_initial(read_reference(f"act:{tmp_path}"))
    for name, value in (("activation", "elu"), ("norm", "layer")):
        changed = Settings(actor_model=Settings({name: value}))
        with pytest.raises(ForeignError, match=f"method.actor_model.{name}"):
            read_initial(read_reference(f"drqv2:{snapshot(tmp_path / '3_snapshot.pt', tensors, method=changed)}"))


def test_weights_of_another_run_are_refused(tmp_path: Path, tensors: dict[str, Any]) -> None:
    write_initial(tmp_path, read_initial(read_reference(f"drqv2:{snapshot(tmp_path / '7_snapshot.pt', tensors)}")))
    agent = create_agent(0, SPEC, build(LearningConfig, {"agent": "drqv2"}, "test"))
    with pytest.raises(DataError, match=r"initial.safetensors: actor/params/bottleneck.*no array of that name"):
        with_initial(tmp_path, agent)
    data = bytearray((tmp_path / FILE).read_bytes())
    data[-5] ^= 1
    (tmp_path / FILE).write_bytes(data)
    with pytest.raises(DataError, match=r"initial\.safetensors"):
        with_initial(tmp_path, agent)
    assert with_initial(tmp_path / "elsewhere", agent) is agent


def test_frames_beside_the_vectors_go_through_the_bottleneck_too() -> None:
    spec = TransitionSpec({"state": ((4,), "float32"), "front": ((1, 4, 4, 8), "float16")}, 2, encoder="x")
    config = build(LearningConfig, {"agent": "drqv2", "drqv2": {"bottleneck": 6}, "batch_size": 4}, "test")
    agent = create_agent(0, spec, config)
    assert agent.arrays()["actor/params/bottleneck/dense/kernel"].shape == (4 + config.vision.width, 6)
    policy = make_policy(agent.policy_snapshot())
    seen = {"state": np.zeros(4, np.float32), "front": np.ones((1, 4, 4, 8), np.float16)}
    assert policy.act(seen, deterministic=True).shape == (2,)
