# SPDX-License-Identifier: Apache-2.0
"""Encoders: their structure, where their weights come from, and what they make of frames."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import linen
from flax.traverse_util import flatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_rl.config import EncoderConfig, EncoderKind
from serl_rl.encoders.architecture import feature_shape, parameter_shapes
from serl_rl.encoders.encoder import Encoder
from serl_rl.encoders.file import EncoderDescription, EncoderError, weights_hash, write_encoder
from serl_rl.encoders.frame_views import _shift_into
from serl_rl.encoders.loading import ANY_WORLD, load_encoder, load_same
from serl_rl.jax.encoders.frames import FrameEncoder
from serl_rl.jax.encoders.networks import DepthwiseConv, ResNetBlock, encoder_params, make_encoder

pytestmark = pytest.mark.usefixtures("cheap_compilation")

CHECKOUT = Path(__file__).parents[5]
SMALL = Encoder.random("small", 0)
SHIPPED = weights_hash("small", {name: values.astype(np.float16) for name, values in SMALL.weights.items()})
"""Of what `write` writes."""


def find(name: str) -> Path:
    path = CHECKOUT / name
    if not path.is_file():
        raise FileNotFoundError(f"{name} not found")
    return path


def pictures(*names: str, height: int = 32, width: int = 48, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for name in names}


# Structure


@pytest.mark.parametrize(
    ("kind", "parameters", "features"),
    [
        ("small", 61_280, (4, 4, 64)),
        ("resnet10", 4_905_792, (4, 4, 512)),
        ("resnet18", 11_176_512, (4, 4, 512)),
        ("resnet34", 21_284_672, (4, 4, 512)),
        ("mobilenet", 122_704, (4, 4, 64)),
        ("efficientnet_lite0_3", 54_048, (4, 4, 40)),
        ("efficientnet_lite0_6", 2_336_304, (4, 4, 192)),
    ],
)
def test_every_kind_has_its_number_of_parameters_and_features(
    kind: str, parameters: int, features: tuple[int, int, int]
) -> None:
    assert sum(int(np.prod(shape)) for shape in parameter_shapes(kind).values()) == parameters
    encoder = Encoder.random(kind, 0)
    assert encoder.feature_shape(128, 128) == features
    module = make_encoder(kind)
    for dtype in (np.uint8, np.float32):
        result = jax.eval_shape(module.apply, encoder_params(encoder), jax.ShapeDtypeStruct((3, 96, 128, 3), dtype))
        assert result.shape == (3, 3, 4, features[2])
        assert result.dtype == np.float32


@pytest.mark.parametrize("kind", get_args(EncoderKind))
def test_what_is_known_without_a_backend_is_what_the_network_has(kind: str) -> None:
    module = make_encoder(kind)
    for size in ((1, 1), (2, 3), (7, 200), (33, 65), (128, 128)):
        picture = jax.ShapeDtypeStruct((1, *size, 3), np.uint8)
        features, params = jax.eval_shape(module.init_with_output, jax.random.key(0), picture)
        assert feature_shape(kind, *size) == features.shape[1:]
        found = {name: leaf.shape for name, leaf in flatten_dict(params["params"], sep="/").items()}
        assert dict(parameter_shapes(kind)) == found
        assert list(parameter_shapes(kind)) == sorted(found), "the order in which random weights are drawn"


def test_resnet10_has_the_parameter_names_of_the_published_weights() -> None:
    names = parameter_shapes("resnet10")
    blocks = {name.partition("/")[0] for name in names}
    assert blocks == {"conv_init", "norm_init", *(f"ResNetBlock_{index}" for index in range(4))}
    assert names["conv_init/kernel"] == (7, 7, 3, 64)
    assert names["ResNetBlock_0/MyGroupNorm_1/scale"] == (64,)
    assert names["ResNetBlock_3/conv_proj/kernel"] == (1, 1, 256, 512)
    assert "ResNetBlock_0/conv_proj/kernel" not in names


def test_floats_and_bytes_of_the_same_values_are_the_same_picture() -> None:
    picture = np.stack(list(pictures("a").values()))
    apply, params = jax.jit(make_encoder("small").apply), encoder_params(SMALL)
    np.testing.assert_array_equal(apply(params, picture), apply(params, picture.astype(np.float32)))


def test_a_block_that_adds_nothing_is_bypassed() -> None:
    x = np.random.default_rng(0).standard_normal((2, 5, 4, 8)).astype(np.float32)
    block = ResNetBlock(8, 1)
    params = jax.jit(block.init)(jax.random.key(0), x)
    params["params"]["MyGroupNorm_1"] = jax.tree.map(np.zeros_like, params["params"]["MyGroupNorm_1"])
    np.testing.assert_array_equal(block.apply(params, x), np.maximum(x, 0.0))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(8, 9), (7, 6)])
def test_the_depthwise_convolution_is_the_usual_one(stride: int, size: tuple[int, int]) -> None:
    x = np.random.default_rng(0).standard_normal((2, *size, 6)).astype(np.float32)
    own = DepthwiseConv(stride)
    usual = linen.Conv(6, (3, 3), stride, feature_group_count=6, use_bias=False)
    params = own.init(jax.random.key(0), x)
    np.testing.assert_allclose(own.apply(params, x), usual.apply(params, x), atol=1e-5)


def test_an_unknown_kind_is_refused_with_those_there_are() -> None:
    with pytest.raises(EncoderError, match=r"small or resnet10 .* found 'vgg'"):
        make_encoder("vgg")


# Weights


def test_random_weights_are_told_apart_by_kind_and_seed_alone() -> None:
    assert Encoder.random("small", 0).hash == SMALL.hash
    assert len({SMALL.hash, Encoder.random("small", 1).hash, Encoder.random("mobilenet", 0).hash}) == 3


def test_the_hash_of_random_weights_stays_as_it_is() -> None:
    assert SMALL.hash == "eb7e7b4514ed6008"  # features stored with it are still good


def test_one_changed_weight_changes_the_hash() -> None:
    weights = {name: values.copy() for name, values in SMALL.weights.items()}
    weights["conv_3/bias"][-1] += 1e-4
    assert Encoder.from_weights("small", weights, "changed").hash != SMALL.hash


def write(path: Path, **changes: object) -> Path:
    description = {"kind": "small", "name": "mine", "cameras": ("front", "wrist")} | changes
    write_encoder(path, SMALL.weights, EncoderDescription(**description))  # type: ignore[arg-type]
    return path


def test_weights_are_loaded_from_a_path_with_and_without_description(tmp_path: Path) -> None:
    rounded = {name: values.astype(np.float16) for name, values in SMALL.weights.items()}
    expected = Encoder.from_weights("small", rounded, "").hash
    safetensors.numpy.save_file(rounded, tmp_path / "own.safetensors")
    for path in (write(tmp_path / "described.safetensors"), tmp_path / "own.safetensors"):
        assert load_encoder(EncoderConfig(weights=str(path)), ["side"], find, world=None).hash == expected


@pytest.fixture
def shipped(tmp_path: Path) -> Callable[..., Callable[[str], Path]]:
    """Return what ships a file of these worlds and cameras: how it is found, and nothing else."""

    def ship(**changes: object) -> Callable[[str], Path]:
        path = write(tmp_path / "small.safetensors", **changes)

        def find_it(name: str) -> Path:
            if name != "config/encoders/small.safetensors":
                raise FileNotFoundError(f"{name} not found")
            return path

        return find_it

    return ship


@pytest.mark.parametrize(
    ("worlds", "world", "cameras"),
    [
        (("table",), "table", ["wrist"]),
        (("table",), "table", ["wrist", "front"]),
        (("table", "shelf"), "shelf", ["front"]),
        ((), None, ["front"]),
        (("table",), ANY_WORLD, ["front"]),
    ],
)
def test_auto_takes_shipped_weights_only_for_the_world_and_cameras_they_were_trained_for(
    shipped: Any, caplog: pytest.LogCaptureFixture, worlds: tuple[str, ...], world: str | None, cameras: list[str]
) -> None:
    with caplog.at_level(logging.INFO):
        assert load_encoder(EncoderConfig(), cameras, shipped(worlds=worlds), world=world).hash == SHIPPED
    assert not caplog.records


@pytest.mark.parametrize(
    ("worlds", "world", "cameras", "message"),
    [
        (("table",), "table", ["wrist", "side"], "the world table and the cameras wrist, side, found some trained for"),
        (("table",), "shelf", ["wrist"], "for the world shelf and .* for the world table and the cameras front, wrist"),
        (("table",), None, ["front"], r"for real cameras \(the cameras front\), found .* for the world table and"),
        ((), "table", ["front"], r"the world table .* for real cameras \(the cameras front, wrist\);"),
        (("table",), ANY_WORLD, ["side"], "for any world and the cameras side, found some trained for the world table"),
    ],
)
def test_auto_refuses_what_was_trained_for_another_world_or_camera_and_names_the_ways_out(
    shipped: Any, worlds: tuple[str, ...], world: str | None, cameras: list[str], message: str
) -> None:
    with pytest.raises(EncoderError, match=message) as caught:
        load_encoder(EncoderConfig(), cameras, shipped(worlds=worlds), world=world)
    for way_out in ("vision.encoder.weights", "may be small,", "random", "./serl encoder train"):
        assert way_out in str(caught.value)


def test_auto_refuses_a_shipped_file_that_does_not_say_what_it_was_trained_for(tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    safetensors.numpy.save_file(dict(SMALL.weights), path)
    with pytest.raises(EncoderError, match="does not say what it was trained for"):
        load_encoder(EncoderConfig(), ["front"], lambda name: path, world="table")


def test_weights_by_name_and_random_ones_are_taken_for_whatever_is_seen(shipped: Any) -> None:
    for world in ("shelf", None):
        assert load_encoder(EncoderConfig(weights="small"), ["side"], shipped(), world=world).hash == SHIPPED
        random = load_encoder(EncoderConfig(weights="random", seed=7), ["side"], shipped(), world=world)
        assert random.hash == Encoder.random("small", 7).hash


def test_what_auto_once_meant_is_told_by_its_hash(shipped: Any) -> None:
    drawn = Encoder.random("small", 0).hash
    ship = shipped()
    assert load_same("small", SHIPPED, ship).hash == SHIPPED
    assert load_same("small", drawn, ship).hash == drawn
    assert load_same("small", "neither", ship).hash == SHIPPED
    assert load_same("mobilenet", "neither", ship).hash == Encoder.random("mobilenet", 0).hash


def test_auto_is_random_where_nothing_is_shipped(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert load_encoder(EncoderConfig(kind="mobilenet"), ["front"], find, world="table").name.startswith(
            "random mobilenet"
        )
    assert "random" in caplog.text


def test_weights_of_another_kind_or_structure_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "e.safetensors")
    with pytest.raises(EncoderError, match=r"e\.safetensors: expected weights of a mobilenet encoder, found .* small"):
        load_encoder(EncoderConfig(kind="mobilenet", weights=str(path)), [], find, world=None)
    safetensors.numpy.save_file(dict(list(SMALL.weights.items())[:-1]), tmp_path / "part.safetensors")
    with pytest.raises(EncoderError, match=r"part\.safetensors: expected a parameter conv_"):
        load_encoder(EncoderConfig(weights=str(tmp_path / "part.safetensors")), [], find, world=None)


def test_an_unknown_name_says_what_there_may_be() -> None:
    with pytest.raises(EncoderError, match=r"auto, random, a name in config/encoders .*nonsense\.safetensors"):
        load_encoder(EncoderConfig(weights="nonsense"), [], find, world=None)


def test_the_shipped_weights_are_small_and_for_both_cameras() -> None:
    from serl_rl.encoders.file import read_encoder

    path = find("config/encoders/small.safetensors")
    assert path.stat().st_size <= 150_000
    _, description = read_encoder(path)
    assert description is not None
    assert description.cameras == ("front", "wrist")
    assert description.worlds == ("table",)
    assert description.recipe["frames"] >= 1000
    assert description.metrics["plain/front/cube_position_mm"] < 18.0
    assert description.metrics["plain/wrist/cube_from_tcp_mm"] < 10.0
    encoder = load_encoder(EncoderConfig(), ["front", "wrist"], find, world="table")
    assert encoder.hash == description.hash


# Frames


def test_view_0_is_the_picture_as_it_is() -> None:
    frames = FrameEncoder(SMALL, views=3, shift=4, seed=1)
    taken = pictures("front", "wrist")
    features = frames.encode(taken)
    expected = make_encoder("small").apply(encoder_params(SMALL), np.stack(list(taken.values())))
    for name, alone in zip(taken, np.asarray(expected), strict=True):
        assert features[name].shape == frames.feature_shape(32, 48) == (3, 1, 2, 64)
        assert features[name].dtype == np.float16
        np.testing.assert_allclose(features[name][0], alone, rtol=2e-3, atol=1e-3)


def test_without_shift_all_views_are_equal() -> None:
    features = FrameEncoder(SMALL, views=3, shift=0).encode(pictures("front"))["front"]
    np.testing.assert_array_equal(features, np.broadcast_to(features[:1], features.shape))


def test_shifts_are_within_bounds_and_each_camera_and_view_has_its_own() -> None:
    frames = FrameEncoder(SMALL, views=3, shift=2, seed=0)
    ramp = np.zeros((24, 24, 3), np.uint8)
    ramp[..., 0] = np.arange(24) * 10
    ramp[..., 1] = np.arange(24)[:, None] * 10
    seen = []
    for _ in range(100):
        middle = frames._stack([ramp, ramp]).reshape(2, 3, 24, 24, 3)[:, :, 12, 12, :2].astype(int)
        assert (middle[:, 0] == 120).all()
        seen.append((120 - middle[:, 1:]) // 10)
    shifts = np.array(seen)
    assert set(np.unique(shifts)) == {-2, -1, 0, 1, 2}
    columns = shifts.reshape(100, 8).T
    assert np.abs(np.corrcoef(columns) - np.eye(8)).max() < 0.5


@settings(max_examples=100, deadline=None)
@given(st.integers(3, 20), st.integers(3, 20), st.data())
def test_a_shifted_picture_repeats_its_edge(height: int, width: int, data: st.DataObject) -> None:
    down = data.draw(st.integers(1 - height, height - 1))
    right = data.draw(st.integers(1 - width, width - 1))
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    view = np.empty_like(picture)
    _shift_into(view, picture, down, right)
    padded = np.pad(picture, ((height, height), (width, width), (0, 0)), mode="edge")
    top, left = height - down, width - right
    np.testing.assert_array_equal(view, padded[top : top + height, left : left + width])


def test_cameras_of_different_sizes_are_encoded_together() -> None:
    taken = pictures("front") | pictures("wrist", height=64, width=64)
    features = FrameEncoder(SMALL).encode(taken)
    assert {name: maps.shape for name, maps in features.items()} == {"front": (2, 1, 2, 64), "wrist": (2, 2, 2, 64)}
    alone = FrameEncoder(SMALL).encode({"wrist": taken["wrist"]})
    np.testing.assert_array_equal(features["wrist"][0], alone["wrist"][0])


def test_the_same_seed_gives_the_same_features() -> None:
    taken = pictures("front")
    first, again, other = (FrameEncoder(SMALL, views=2, seed=seed).encode(taken)["front"] for seed in (0, 0, 5))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert FrameEncoder(SMALL, views=4, shift=1, seed=9).hash == SMALL.hash


@pytest.mark.parametrize("count", [1, 16, 37])
def test_many_pictures_are_encoded_as_they_are_one_by_one(count: int) -> None:
    frames = FrameEncoder(SMALL, views=3, shift=4, seed=1)
    rng = np.random.default_rng(count)
    rows = {name: rng.integers(0, 256, (count, 32, 48, 3), dtype=np.uint8) for name in ("front", "wrist")}
    features = frames.encode_rows(rows)
    for name in rows:
        assert features[name].shape == (count, 3, 1, 2, 64) and features[name].dtype == np.float16
        for picture, views in zip(rows[name], features[name], strict=True):
            alone = frames.encode({name: picture})[name]
            np.testing.assert_allclose(views[0], alone[0], rtol=2e-3, atol=1e-3)
        shifted = (features[name][:, 1:] != features[name][:, :1]).any((2, 3, 4))
        assert shifted.mean() > 0.8 or count == 1, "one of 81 shifts is none"
        assert (features[name][:, 1] != features[name][:, 2]).any() or count == 1
    again = FrameEncoder(SMALL, views=3, shift=4, seed=1).encode_rows(rows)
    assert all((again[name] == features[name]).all() for name in rows), "the seed decides about the shifts"


@pytest.mark.parametrize(
    "picture",
    [np.zeros((32, 32, 3), np.float32), np.zeros((32, 32), np.uint8), np.zeros((32, 32, 4), np.uint8)],
    ids=["float", "grey", "alpha"],
)
def test_other_than_rgb_bytes_is_refused(picture: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"front: expected a picture uint8 \(H, W, 3\), found"):
        FrameEncoder(SMALL).encode({"front": picture})
    with pytest.raises(ValueError, match=r"front: expected pictures uint8 \(n, H, W, 3\), found"):
        FrameEncoder(SMALL).encode_rows({"front": picture[None]})


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="found 0 and 4"):
        FrameEncoder(SMALL, views=0)
    with pytest.raises(ValueError, match="larger than the shift"):
        FrameEncoder(SMALL, shift=8).encode(pictures("front", height=8, width=8))
