# SPDX-License-Identifier: Apache-2.0
"""What agents see of an observation in PyTorch is what they see of it in JAX."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="./serl setup torch")

import jax  # noqa: E402
from serl_rl.config import EncoderConfig, Pooling, VisionConfig  # noqa: E402
from serl_rl.encoders.encoder import Encoder  # noqa: E402
from serl_rl.jax import vision as jax_vision  # noqa: E402
from serl_rl.jax.agent_state import named_arrays  # noqa: E402
from serl_rl.jax.encoders.networks import encoder_params as jax_encoder_params  # noqa: E402
from serl_rl.jax.pictures.picture_encoder import PictureEncoder as JaxPictureEncoder  # noqa: E402
from serl_rl.jax.update import prepared as jax_prepared  # noqa: E402
from serl_rl.spec import TransitionSpec  # noqa: E402
from serl_rl.torch import vision  # noqa: E402
from serl_rl.torch.computing import random  # noqa: E402
from serl_rl.torch.computing.tree import leaves, map_tree, named_leaves, with_leaves  # noqa: E402
from serl_rl.torch.encoders.networks import encoder_params  # noqa: E402
from serl_rl.torch.pictures.picture_encoder import PictureEncoder  # noqa: E402
from serl_rl.torch.prepare import prepared  # noqa: E402

pytestmark = pytest.mark.usefixtures("cheap_compilation")

SMALL = Encoder.random("small", 0)
PICTURES = TransitionSpec(
    {"front": ((20, 36, 3), "uint8"), "state": ((5,), "float32"), "wrist": ((16, 16, 3), "uint8")}, 2, frame_stack=2
)
FEATURES = TransitionSpec(
    {"front": ((2, 3, 4, 6), "float16"), "state": ((5,), "float32")}, 2, encoder="abc", frame_stack=2
)


def looking(pooling: str = "spatial_embeddings", **encoder: Any) -> VisionConfig:
    return VisionConfig(
        encoder=EncoderConfig(shift=3, **encoder), pooling=pooling, embeddings=3, width=7, frame_stack=2
    )


def observations(spec: TransitionSpec, count: int = 4, seed: int = 0) -> dict[str, np.ndarray]:
    rng, found = np.random.default_rng(seed), {}
    for name, entry in spec.observation.items():
        shape = (count, *spec.drawn_shape(name))
        picture = entry.dtype == "uint8"
        found[name] = rng.integers(0, 256, shape, dtype=np.uint8) if picture else rng.standard_normal(shape)
        found[name] = found[name].astype(entry.dtype)
    return found


def tensors(tree: Any) -> Any:
    return {
        name: tensors(entry) if isinstance(entry, dict) else torch.tensor(np.asarray(entry))
        for name, entry in tree.items()
    }


def close(found: Any, expected: Any, tolerance: float = 1e-5) -> None:
    expected = np.asarray(expected)
    atol = tolerance * max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=tolerance, atol=atol)


BEHIND_EACH = pytest.mark.parametrize(
    ("spec", "pooling"), [(PICTURES, "spatial_embeddings"), *((FEATURES, pooling) for pooling in get_args(Pooling))]
)


@BEHIND_EACH
def test_vectors_and_their_slopes_are_those_of_jax(pooling: str, spec: TransitionSpec) -> None:
    trained = spec is PICTURES
    config, seen = looking(pooling, frozen=not trained), observations(spec)
    first = jax_encoder_params(SMALL) if trained else None
    params = jax.jit(jax_vision.init_vision, static_argnums=(1, 2))(jax.random.key(0), spec, config, first)
    drawn = np.random.default_rng(2)
    params = jax.tree.map(lambda leaf: np.asarray(leaf + 0.1 * drawn.standard_normal(leaf.shape), np.float32), params)
    weights = drawn.standard_normal((4, 2 * 7 + 5 if trained else 7 + 5)).astype(np.float32)

    def loss(params: Any) -> Any:
        vectors = jax_vision.encode_observation(spec, config, params, seen)
        return (vectors * weights).sum(), vectors

    slopes, expected = jax.jit(jax.grad(loss, has_aux=True))(params)
    ours = tensors(params)
    at = [leaf.requires_grad_() for leaf in leaves(ours)]
    found = vision.encode_observation(spec, config, with_leaves(ours, at), tensors(seen))
    close(found, expected)
    found_slopes = torch.autograd.grad((found * torch.tensor(weights)).sum(), at)
    by_name = named_arrays(slopes)
    names = [name for name, _ in named_leaves(ours)]
    assert sorted(names) == sorted(by_name), "parameters have the same names"
    for name, slope in zip(names, found_slopes, strict=True):
        close(slope, by_name[name], 3e-5)


def test_expected_positions_are_those_of_a_softmax_over_the_map() -> None:
    features = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    found = vision.spatial_softmax(torch.tensor(0.7), torch.tensor(features, dtype=torch.float32))
    weights = np.exp(features / 0.7) / np.exp(features / 0.7).sum((1, 2), keepdims=True)
    x = (weights * np.linspace(-1, 1, 4)[:, None]).sum((1, 2))
    y = (weights * np.linspace(-1, 1, 3)[:, None, None]).sum((1, 2))
    close(found, np.concatenate([x, y], axis=1))


@BEHIND_EACH
def test_new_parameters_have_names_shapes_and_spread_as_in_jax(pooling: str, spec: TransitionSpec) -> None:
    config, trained = looking(pooling, frozen=spec is FEATURES), spec is PICTURES
    first = jax_encoder_params(SMALL) if trained else None
    expected = named_arrays(
        jax.jit(jax_vision.init_vision, static_argnums=(1, 2))(jax.random.key(0), spec, config, first)
    )
    ours = vision.init_vision(random.from_seed(0), spec, config, encoder_params(SMALL) if trained else None)
    found = dict(named_leaves(ours))
    assert {name: leaf.shape for name, leaf in found.items()} == {name: leaf.shape for name, leaf in expected.items()}
    for name, leaf in found.items():
        if leaf.numel() > 100:
            assert leaf.std().item() == pytest.approx(expected[name].std(), rel=0.2), name
        elif leaf.numel() < 10:
            close(leaf, expected[name])


def test_vectors_alone_are_passed_on() -> None:
    spec = TransitionSpec({"a": ((2,), "float32"), "b": ((3,), "float32")}, 2)
    assert vision.init_vision(random.from_seed(0), spec, VisionConfig(), None) == {}
    seen = observations(spec)
    found = vision.encode_observation(spec, VisionConfig(), {}, tensors(seen))
    close(found, np.concatenate([seen["a"], seen["b"]], axis=1))


@pytest.mark.parametrize("frozen", [False, True])
def test_minibatches_are_prepared_with_the_draws_of_jax(frozen: bool) -> None:
    config = looking()
    batch = {
        "action": np.zeros((3, 2), np.float32),
        "next_observation": observations(PICTURES, 3, seed=1),
        "observation": observations(PICTURES, 3, seed=2),
        "valid": np.ones((3, 2), np.float32),
        "visited": {name: rows.reshape(3, 2, *rows.shape[1:]) for name, rows in observations(PICTURES, 6).items()},
    }
    params = jax_encoder_params(SMALL) if frozen else None
    expected_key, expected = jax_prepared(jax.random.key(5), batch, vision=config, frozen=params)
    key, found = prepared(
        random.from_seed(5), tensors(batch), vision=config, frozen=encoder_params(SMALL) if frozen else None
    )
    assert (key.numpy() == np.asarray(jax.random.key_data(expected_key))).all()
    compared = map_tree(lambda leaf, other: close(leaf, other) or leaf, found, expected)
    assert set(compared) == set(batch)
    assert (found["observation"]["front"].shape[-1] == 128) == frozen


def test_pictures_in_front_of_a_policy_have_the_features_of_jax() -> None:
    picture = observations(PICTURES, 1)["front"][0]
    ours, theirs = PictureEncoder(SMALL), JaxPictureEncoder(SMALL)
    assert ours.feature_shape(20, 36) == theirs.feature_shape(20, 36) == (1, 2, 64)
    np.testing.assert_allclose(ours(picture), theirs(picture), rtol=1e-5, atol=1e-5)
