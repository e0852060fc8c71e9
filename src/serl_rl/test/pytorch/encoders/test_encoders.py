# SPDX-License-Identifier: Apache-2.0
"""Encoders in PyTorch make of pictures what they make of them in JAX, and what the definitions say."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="./serl setup torch")

import jax  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from serl_rl.config import EncoderKind  # noqa: E402
from serl_rl.encoders.architecture import feature_shape, parameter_shapes  # noqa: E402
from serl_rl.encoders.encoder import Encoder  # noqa: E402
from serl_rl.encoders.file import EncoderError  # noqa: E402
from serl_rl.jax.encoders import frames as jax_frames  # noqa: E402
from serl_rl.jax.encoders import networks as jax_networks  # noqa: E402
from serl_rl.jax.encoders import shift as jax_shift  # noqa: E402
from serl_rl.torch.computing import random  # noqa: E402
from serl_rl.torch.encoders import networks  # noqa: E402
from serl_rl.torch.encoders.frames import FrameEncoder  # noqa: E402
from serl_rl.torch.encoders.maps import feature_maps  # noqa: E402
from serl_rl.torch.encoders.shift import random_shift  # noqa: E402

pytestmark = pytest.mark.usefixtures("cheap_compilation")


def pictures(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def with_all_parameters_drawn(kind: str) -> Encoder:
    """An encoder whose scales and biases matter, too."""
    rng, weights = np.random.default_rng(1), dict(Encoder.random(kind, 0).weights)
    for name, values in weights.items():
        if not name.endswith("/kernel"):
            weights[name] = values + 0.2 * rng.standard_normal(values.shape).astype(np.float32)
    return Encoder.from_weights(kind, weights, "drawn")


@pytest.mark.parametrize("kind", get_args(EncoderKind))
def test_every_kind_makes_the_features_that_it_makes_in_jax(kind: str) -> None:
    encoder, shown = with_all_parameters_drawn(kind), pictures(2, 40, 66, 3)
    expected = np.asarray(jax.jit(jax_networks.make_encoder(kind).apply)(jax_networks.encoder_params(encoder), shown))
    found = networks.encode(kind, networks.encoder_params(encoder), torch.tensor(shown))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("kind", get_args(EncoderKind))
def test_maps_of_all_sizes_of_pictures_have_the_size_that_is_known_without_a_backend(kind: str) -> None:
    nothing_is_computed = torch.device("meta")
    weights = {name: np.zeros(shape, np.float32) for name, shape in parameter_shapes(kind).items()}
    params = networks.encoder_params(Encoder.from_weights(kind, weights, "zeros"), nothing_is_computed)
    for size in ((1, 1), (2, 3), (7, 200), (33, 65), (128, 128)):
        picture = torch.zeros(1, *size, 3, device=nothing_is_computed)
        assert networks.encode(kind, params, picture).shape[1:] == feature_shape(kind, *size)


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize(("size", "edge"), [((8, 9), 3), ((7, 6), 5), ((9, 4), 1)])
@pytest.mark.parametrize("each", [False, True])
def test_a_convolution_is_the_sum_of_products_over_its_window(
    stride: int, size: tuple[int, int], edge: int, each: bool
) -> None:
    rng, channels = np.random.default_rng(0), 4
    x = rng.standard_normal((2, *size, channels)).astype(np.float32)
    kernel = rng.standard_normal((edge, edge, 1 if each else channels, channels)).astype(np.float32)
    bias = rng.standard_normal(channels).astype(np.float32)
    h, w = (-(-length // stride) for length in size)
    first = [max((n - 1) * stride + edge - length, 0) // 2 for n, length in zip((h, w), size, strict=True)]
    expected = np.zeros((2, h, w, channels))
    for i, j, k, m in np.ndindex(h, w, edge, edge):
        row, column = i * stride + k - first[0], j * stride + m - first[1]
        if 0 <= row < size[0] and 0 <= column < size[1]:
            expected[:, i, j] += x[:, row, column] * kernel[k, m, 0] if each else x[:, row, column] @ kernel[k, m]
    layer = {"kernel": torch.tensor(kernel), "bias": torch.tensor(bias)}
    found = networks._convolution(layer, torch.tensor(x).permute(0, 3, 1, 2), stride, each=each)
    np.testing.assert_allclose(found.permute(0, 2, 3, 1).numpy(), expected + bias, rtol=1e-5, atol=1e-5)


def test_pooling_counts_only_what_is_inside() -> None:
    x = np.random.default_rng(0).standard_normal((1, 2, 5, 7)).astype(np.float32)
    found = networks._mean_pool(torch.tensor(x), 4).numpy()
    # 5 rows make 2 windows of 4: one padded before, two behind. 7 columns: none before, one behind.
    rows, columns = (slice(0, 3), slice(3, 5)), (slice(0, 4), slice(4, 7))
    expected = [[x[0, :, row, column].mean((1, 2)) for column in columns] for row in rows]
    np.testing.assert_allclose(found[0], np.moveaxis(np.array(expected), 2, 0), rtol=1e-5, atol=1e-6)


def test_weights_come_back_as_they_were_and_no_memory_is_shared() -> None:
    encoder = Encoder.random("mobilenet", 3)
    params = networks.encoder_params(encoder)
    back = Encoder.from_weights("mobilenet", networks.named_weights(params), "back")
    assert back.hash == encoder.hash
    params["params"]["conv_init"]["kernel"].zero_()
    assert (encoder.weights["conv_init/kernel"] == back.weights["conv_init/kernel"]).all()


def test_an_unknown_kind_is_refused_with_those_there_are() -> None:
    with pytest.raises(EncoderError, match=r"small or resnet10 .* found 'vgg'"):
        networks.encode("vgg", {"params": {}}, torch.zeros(1, 8, 8, 3))


def test_a_key_shifts_pictures_as_it_does_in_jax() -> None:
    shown = pictures(64, 12, 10, 6)
    found = random_shift(random.from_seed(3), torch.tensor(shown), 3).numpy()
    np.testing.assert_array_equal(found, jax_shift.random_shift(jax.random.key(3), shown, 3))
    assert (found != shown).any((1, 2, 3)).mean() > 0.9


def test_frames_have_the_features_that_they_have_in_jax() -> None:
    encoder, shown = Encoder.random("small", 0), pictures(20, 32, 48, 3)
    ours, theirs = FrameEncoder(encoder, 3, 4, seed=1), jax_frames.FrameEncoder(encoder, 3, 4, seed=1)
    assert ours.hash == theirs.hash and ours.feature_shape(32, 48) == theirs.feature_shape(32, 48)
    for found, expected in (
        (ours.encode({"a": shown[0]})["a"], theirs.encode({"a": shown[0]})["a"]),
        (ours.encode_rows({"a": shown})["a"], theirs.encode_rows({"a": shown})["a"]),
    ):
        assert found.dtype == expected.dtype == np.float16 and found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-3)
    # The first view is the picture as it is; what is encoded many at a time is what is encoded at once.
    np.testing.assert_allclose(found[:, 0], feature_maps(encoder, shown), rtol=2e-3, atol=1e-3)
