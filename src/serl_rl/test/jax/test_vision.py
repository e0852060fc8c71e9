# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from serl_rl.config import EncoderConfig, VisionConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.jax import vision
from serl_rl.jax.encoders import shift as shifts
from serl_rl.jax.encoders.networks import encoder_params
from serl_rl.jax.vision import SpatialEmbeddings, SpatialSoftmax, encode_stack
from serl_rl.spec import DataError, TransitionSpec
from serl_rl.vision_inputs import check_vision, encoded_width

pytestmark = pytest.mark.usefixtures("cheap_compilation")

SHIFT = 3

# Without jit every single operation is compiled for itself, which takes far longer.
init_vision = jax.jit(vision.init_vision, static_argnums=(1, 2))
encode_observation = jax.jit(vision.encode_observation, static_argnums=(0, 1))
random_shift = jax.jit(shifts.random_shift, static_argnums=2)
shift_pictures = jax.jit(vision.shift_pictures, static_argnums=2)


def pictures(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def crops(picture: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
    """The picture moved by all shifts, by the definition: padded with its edge and cropped."""
    height, width, _ = picture.shape
    padded = np.pad(picture, ((SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), mode="edge")
    span = range(2 * SHIFT + 1)
    return {(y, x): padded[y : y + height, x : x + width] for y in span for x in span}


def test_each_picture_gets_a_random_crop_of_its_own():
    batch = np.repeat(pictures(1, 12, 10, 3), 200, axis=0)
    shifted = np.asarray(random_shift(jax.random.key(0), batch, SHIFT))
    assert shifted.dtype == np.uint8
    found = []
    for picture in shifted:
        found.append([shift for shift, crop in crops(batch[0]).items() if np.array_equal(picture, crop)])
    assert all(len(matches) == 1 for matches in found)
    seen = np.array([matches[0] for matches in found])
    for axis in (0, 1):
        assert set(seen[:, axis]) == set(range(2 * SHIFT + 1))
    assert abs(np.corrcoef(seen.T)[0, 1]) < 0.3


def test_without_a_shift_pictures_stay_as_they_are():
    batch = pictures(5, 8, 8, 6)
    assert np.array_equal(random_shift(jax.random.key(0), batch, 0), batch)


def test_every_camera_is_shifted_by_shifts_of_its_own():
    same = pictures(50, 12, 12, 3)
    state = np.ones((50, 2), np.float32)
    config = VisionConfig(encoder=EncoderConfig(shift=SHIFT))
    shifted = shift_pictures(jax.random.key(0), {"front": same, "wrist": same, "state": state}, config)
    differ = [not np.array_equal(a, b) for a, b in zip(shifted["front"], shifted["wrist"], strict=True)]
    assert np.mean(differ) > 0.8
    assert np.array_equal(shifted["state"], state)


def test_all_frames_of_a_stack_are_shifted_alike():
    frame = pictures(20, 12, 12, 3)
    shifted = np.asarray(random_shift(jax.random.key(0), np.concatenate([frame, frame], axis=-1), SHIFT))
    assert np.array_equal(shifted[..., :3], shifted[..., 3:])


def test_spatial_softmax_finds_the_place_of_each_channel():
    features = np.zeros((1, 3, 5, 2), np.float32)
    features[0, 0, 4, 0] = features[0, 2, 1, 1] = 100.0
    positions, _ = jax.jit(SpatialSoftmax().init_with_output)(jax.random.key(0), features)
    np.testing.assert_allclose(positions, [[1.0, -0.5, -1.0, 1.0]], atol=1e-5)


def test_spatial_embeddings_are_weighted_sums_over_the_positions():
    features = np.random.default_rng(0).standard_normal((6, 3, 4, 5), dtype=np.float32)
    vectors, params = jax.jit(SpatialEmbeddings(2).init_with_output)(jax.random.key(0), features)
    expected = np.einsum("bhwc,hwce->bce", features, params["params"]["kernel"]).reshape(6, 10)
    np.testing.assert_allclose(vectors, expected, rtol=1e-4, atol=1e-5)


def test_frames_of_a_stack_are_encoded_each_for_itself_and_stay_in_order():
    first, second = (np.random.default_rng(seed).standard_normal((4, 6, 6, 3), np.float32) for seed in (0, 1))

    def encode(frames: jax.Array) -> jax.Array:
        return jnp.stack([frames[:, ::2, ::2, 0], frames[:, ::2, ::2, 2]], axis=-1)

    both = encode_stack(encode, jnp.concatenate([first, second], axis=-1))
    assert both.shape == (4, 3, 3, 4)
    np.testing.assert_array_equal(both[..., :2], encode(first))
    np.testing.assert_array_equal(both[..., 2:], encode(second))


def make_spec(shape: tuple[int, ...], dtype: str, **changes: Any) -> TransitionSpec:
    entries = {"wrist": (shape, dtype), "front": (shape, dtype), "state": ((3,), "float32")}
    return TransitionSpec(entries, 2, **({"encoder": "hash"} if dtype == "float16" else {}) | changes)


@pytest.mark.parametrize("pooling", ["spatial_embeddings", "spatial_softmax", "average"])
def test_an_observation_becomes_one_vector_with_heads_for_each_camera(pooling):
    spec, config = make_spec((2, 4, 4, 8), "float16"), VisionConfig(pooling=pooling, width=5, embeddings=2)
    params = init_vision(jax.random.key(0), spec, config, None)
    assert set(params["params"]) == {"heads_front", "heads_wrist"}
    features = np.random.default_rng(0).standard_normal((7, 4, 4, 8)).astype(np.float16)
    observation = {"front": features, "wrist": features, "state": np.full((7, 3), 9.0, np.float32)}
    vector = np.asarray(encode_observation(spec, config, params, observation))
    assert vector.shape == (7, encoded_width(spec, config)) == (7, 13)
    assert vector.dtype == np.float32
    assert (vector[:, 10:] == 9.0).all()
    assert not np.allclose(vector[:, :5], vector[:, 5:10])
    assert np.abs(vector[:, :10]).max() <= 1.0


def test_a_trained_encoder_starts_with_the_given_weights_and_serves_all_cameras():
    spec, encoder = make_spec((32, 32, 3), "uint8"), Encoder.random("small", 3)
    config = VisionConfig(encoder=EncoderConfig(frozen=False))
    params = init_vision(jax.random.key(0), spec, config, encoder_params(encoder))["params"]
    assert set(params) == {"encoder", "heads_front", "heads_wrist"}
    assert jax.tree.all(jax.tree.map(np.array_equal, params["encoder"], encoder_params(encoder)["params"]))


@pytest.mark.parametrize(
    ("spec", "config", "encoder", "message"),
    [
        (make_spec((32, 32, 3), "uint8"), VisionConfig(), None, "front: expected features, found image"),
        (make_spec((2, 4, 4, 8), "float16"), {"frozen": False}, "small", "front: expected image, found features"),
        (make_spec((32, 32, 4), "uint8"), {"cached": False}, "small", "3 channels"),
        (make_spec((32, 32, 3), "uint8"), {"cached": False}, None, "an encoder for the pictures, found none"),
        (make_spec((32, 32, 3), "uint8"), {"cached": False, "kind": "resnet10"}, "small", "expected resnet10"),
        (make_spec((2, 4, 4, 8), "float16", frame_stack=2), VisionConfig(), None, "frame_stack: expected 1, found 2"),
        (make_spec((32, 32), "uint8"), VisionConfig(), None, "front: expected features, found other"),
    ],
)
def test_what_does_not_fit_the_configuration_is_named(spec, config, encoder, message):
    if isinstance(config, dict):
        config = VisionConfig(encoder=EncoderConfig(**config))
    with pytest.raises(DataError, match=message):
        check_vision(spec, config, Encoder.random(encoder, 0) if encoder else None)
