# SPDX-License-Identifier: Apache-2.0
"""Our ACT policies act as LeRobot's own class does, from a directory that we wrote."""

import dataclasses
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serl_lerobot.act import LeRobotAct
from serl_lerobot.compat import is_installed
from serl_rl.backends import make_act_policy
from serl_rl.benchmarks.act import drawn_checkpoint, drawn_observation
from serl_rl.foreign.act.config import ActConfig, ActFeature
from serl_rl.foreign.act.directory import read_act
from serl_rl.foreign.act.writing import write_act

# LeRobot imports much, and everything compiles here: much more than the usual time on a machine that is busy.
pytestmark = [
    pytest.mark.skipif(not is_installed(), reason="./serl setup lerobot"),
    pytest.mark.slow,
    pytest.mark.timeout(480),
]

CAMERAS = (("wrist", 64, 32), ("front", 32, 64))


def small_config(cameras: tuple[tuple[str, int, int], ...] = (), **settings: Any) -> ActConfig:
    """A narrow network; without cameras it observes the environment's state."""
    inputs = {f"observation.images.{name}": ActFeature("VISUAL", (3, h, w)) for name, h, w in cameras}
    inputs["observation.state"] = ActFeature("STATE", (3,))
    if not cameras:
        inputs["observation.environment_state"] = ActFeature("ENV", (5,))
    sizes = {"chunk_size": 6, "n_action_steps": 6, "dim_model": 32, "n_heads": 2, "dim_feedforward": 24}
    outputs = {"action": ActFeature("ACTION", (2,))}
    return ActConfig(input_features=inputs, output_features=outputs, **{**sizes, **settings})


ARCHITECTURES: dict[str, ActConfig] = {
    "as by default": small_config(CAMERAS, dim_model=64, n_encoder_layers=4, n_action_steps=2),
    "normalised before": small_config(
        CAMERAS,
        pre_norm=True,
        feedforward_activation="gelu",
        n_decoder_layers=2,
        temporal_ensemble_coeff=0.01,
        n_action_steps=1,
        normalization_mapping={"VISUAL": "MIN_MAX", "STATE": "MIN_MAX", "ACTION": "MIN_MAX"},
    ),
    "dilated bottlenecks": small_config(
        (("only", 64, 96),),
        vision_backbone="resnet50",
        replace_final_stride_with_dilation=True,
        use_vae=False,
        n_decoder_layers=3,
        dim_model=32,
        normalization_mapping={"VISUAL": "IDENTITY", "STATE": "MIN_MAX", "ACTION": "MEAN_STD"},
    ),
    "without pictures": small_config(n_action_steps=3),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_it_acts_as_lerobot_does(name: str, tmp_path: Path) -> None:
    """A directory that we wrote, loaded by both."""
    write_act(tmp_path / "policy", drawn_checkpoint(ARCHITECTURES[name]))
    theirs, ours = LeRobotAct(tmp_path / "policy"), make_act_policy(read_act(tmp_path / "policy"))
    rng = np.random.default_rng(0)
    for step in range(8):
        if step == 5:
            theirs.reset()
            ours.reset()
        seen = drawn_observation(ours.inputs, rng)
        np.testing.assert_allclose(ours.act(seen), theirs.act(seen), atol=1e-5)


def error_scale(padding: np.ndarray) -> float:
    """By how much the error that LeRobot's version means is larger than ours.

    It is summed over what is not behind the end in both. LeRobot 0.4 and we divide by all places of the chunks, LeRobot
    0.6 by those that are not behind the end.
    """
    counts_all = tuple(int(part) for part in version("lerobot").split(".")[:2]) < (0, 5)
    return 1.0 if counts_all else padding.size / (~padding).sum()


@pytest.mark.parametrize("name", ["as by default", "normalised before", "without pictures"])
def test_loss_and_gradients_are_those_of_lerobot(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One batch, with the same noise in the latent, and a function of each number where dropout is."""
    import jax
    import jax.numpy as jnp
    import torch
    from serl_rl.foreign.act.parameters import is_trained
    from serl_rl.jax.act import training
    from serl_rl.jax.act.network import Inputs
    from serl_rl.jax.act.training import ActBatch, act_loss

    config = dataclasses.replace(ARCHITECTURES[name], dropout=0.25)
    checkpoint = drawn_checkpoint(config)
    write_act(tmp_path / "policy", checkpoint)
    theirs = LeRobotAct(tmp_path / "policy").policy
    rng = np.random.default_rng(1)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    pictures = {camera: draw(3, *config.input_features[camera].shape) for camera in config.cameras}
    state, env, actions, noise = draw(3, 3), draw(3, 5), draw(3, 6, 2), draw(3, config.latent_dim)
    padding = np.arange(6) >= np.array([[6], [4], [1]])

    batch = {name: torch.from_numpy(values) for name, values in pictures.items()}
    batch |= {"observation.state": torch.from_numpy(state), "observation.environment_state": torch.from_numpy(env)}
    batch |= {"action": torch.from_numpy(actions), "action_is_pad": torch.from_numpy(padding)}
    monkeypatch.setattr(torch, "randn_like", lambda _: torch.from_numpy(noise))
    rates: set[float] = set()

    def their_dropout(x: torch.Tensor, p: float, training: bool = True, inplace: bool = False) -> torch.Tensor:
        assert training
        assert not inplace
        rates.add(p)
        return torch.tanh(x)

    def our_dropout(rate: float, _key: jax.Array) -> Callable[[jax.Array], jax.Array]:
        assert rate == 0.25
        return jnp.tanh

    monkeypatch.setattr(torch.nn.functional, "dropout", their_dropout)
    monkeypatch.setattr(training, "make_drop", our_dropout)
    theirs.train()
    loss, parts = theirs.forward(batch)
    loss.backward()
    assert rates == {0.25}
    expected = {
        key.removeprefix("model."): each.grad.numpy()
        for key, each in theirs.named_parameters()
        if each.grad is not None
    }

    inputs = Inputs(
        [jnp.asarray(each.transpose(0, 2, 3, 1)) for each in pictures.values()],
        jnp.asarray(state),
        None if config.cameras else jnp.asarray(env),
    )
    ours = ActBatch(inputs, jnp.asarray(actions), jnp.asarray(padding))
    trained = {key: jnp.asarray(values) for key, values in checkpoint.parameters.items() if is_trained(key)}
    frozen = {key: jnp.asarray(values) for key, values in checkpoint.parameters.items() if not is_trained(key)}

    def as_theirs(t: dict[str, jax.Array]) -> tuple[jax.Array, dict[str, jax.Array]]:
        loss, parts = act_loss(t, frozen, config, ours, jnp.asarray(noise), jax.random.key(0))
        error = parts["l1_loss"] * error_scale(padding)
        return loss - parts["l1_loss"] + error, {**parts, "l1_loss": error}

    (found, found_parts), gradients = jax.jit(jax.value_and_grad(as_theirs, has_aux=True))(trained)
    np.testing.assert_allclose(float(found), float(loss), rtol=1e-5)
    for key, value in parts.items():
        np.testing.assert_allclose(float(found_parts[key]), value, rtol=1e-5)
    assert gradients.keys() == expected.keys()
    for key, gradient in expected.items():
        assert np.abs(np.asarray(gradients[key]) - gradient).max() <= 1e-4 * max(np.abs(gradient).max(), 1e-2), key


def test_updates_are_those_of_lerobot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten updates with LeRobot's own optimizer, its rates and its clipping, from the same weights and noise."""
    import jax
    import jax.numpy as jnp
    import torch
    from serl_rl.jax.act.network import Inputs
    from serl_rl.jax.act.training import MAX_GRADIENT_NORM, ActBatch, ActTraining

    config = small_config(dropout=0.0, optimizer_lr=1e-3, optimizer_weight_decay=0.1)
    checkpoint = drawn_checkpoint(config)
    write_act(tmp_path / "policy", checkpoint)
    theirs = LeRobotAct(tmp_path / "policy").policy
    theirs.train()
    preset = theirs.config.get_optimizer_preset()
    assert preset.grad_clip_norm == MAX_GRADIENT_NORM
    optimizer = preset.build(theirs.get_optim_params())
    training, key = ActTraining(config, checkpoint.parameters, 5), jax.random.key(5)
    rng = np.random.default_rng(1)
    padding = np.zeros((3, 6), bool)
    for _ in range(10):
        state, env, actions = (
            rng.standard_normal(shape).astype(np.float32) * 4 for shape in ((3, 3), (3, 5), (3, 6, 2))
        )
        key, of_update = jax.random.split(key)
        noise = np.array(jax.random.normal(jax.random.split(of_update)[0], (3, config.latent_dim)))
        monkeypatch.setattr(torch, "randn_like", lambda _, noise=noise: torch.from_numpy(noise))
        batch = {"observation.state": state, "observation.environment_state": env, "action": actions}
        batch |= {"action_is_pad": padding}
        loss, _ = theirs.forward({name: torch.from_numpy(values) for name, values in batch.items()})
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), preset.grad_clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        ours = ActBatch(Inputs([], jnp.asarray(state), jnp.asarray(env)), jnp.asarray(actions), jnp.asarray(padding))
        np.testing.assert_allclose(training.update(ours)["loss"], float(loss), rtol=1e-4)
    found = training.parameters()
    for name, each in theirs.named_parameters():
        ours, expected = found[name.removeprefix("model.")], each.detach().numpy()
        if name.endswith("in_proj_bias"):
            # A bias of keys changes no attention: its gradient is rounding, of which Adam makes steps of full length.
            ours, expected = (np.delete(each, np.s_[32:64]) for each in (ours, expected))
        np.testing.assert_allclose(ours, expected, atol=1e-4, err_msg=name)
