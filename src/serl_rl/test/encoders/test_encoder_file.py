# SPDX-License-Identifier: Apache-2.0
"""Files of encoder weights: what was written is read, and what is damaged or foreign is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from serl_rl.encoders.file import (
    EncoderDescription,
    EncoderError,
    check_weights,
    read_encoder,
    weights_hash,
    write_encoder,
)

DESCRIPTION = EncoderDescription(
    kind="small",
    name="test",
    cameras=("front", "wrist"),
    worlds=("table",),
    seed=3,
    recipe={"frames": 10, "scenes": {"noise": 0.5}},
    metrics={"plain/front/cube_mm": 7.5},
)


def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "conv_0/kernel": rng.standard_normal((3, 3, 2, 4)).astype(np.float32),
        "conv_0/bias": np.arange(4, dtype=np.float32),
    }


def test_weights_come_back_in_half_precision_with_all_that_is_known(tmp_path: Path) -> None:
    path = tmp_path / "e.safetensors"
    written = write_encoder(path, weights(), DESCRIPTION)
    found, description = read_encoder(path)
    assert description == written
    assert description is not None
    assert (description.recipe, description.metrics) == (DESCRIPTION.recipe, DESCRIPTION.metrics)
    assert description.hash == weights_hash("small", found)
    for name, values in weights().items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], values.astype(np.float16))


def test_a_file_without_our_metadata_is_read(tmp_path: Path) -> None:
    safetensors.numpy.save_file(weights(), tmp_path / "own.safetensors")
    found, description = read_encoder(tmp_path / "own.safetensors")
    assert description is None
    np.testing.assert_array_equal(found["conv_0/kernel"], weights()["conv_0/kernel"])


def test_the_hash_depends_on_kind_names_shapes_and_values_and_on_nothing_else() -> None:
    first = weights_hash("small", weights())
    assert len(first) == 16
    assert weights_hash("small", dict(reversed(weights().items()))) == first
    changed = weights()
    changed["conv_0/bias"][0] = 1e-3
    renamed = {name.replace("0", "1"): values for name, values in weights().items()}
    reshaped = weights() | {"conv_0/bias": weights()["conv_0/bias"].reshape(2, 2)}
    others = [("resnet10", weights()), ("small", changed), ("small", renamed), ("small", reshaped)]
    assert len({first, *(weights_hash(kind, values) for kind, values in others)}) == 5


def test_every_cut_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "e.safetensors"
    write_encoder(path, weights(), DESCRIPTION)
    data = path.read_bytes()
    for size in (*range(40), *range(40, len(data), 37), len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(EncoderError, match=r"e\.safetensors: expected a safetensors file, found"):
            read_encoder(path)


def test_a_flipped_bit_in_the_weights_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "e.safetensors"
    write_encoder(path, weights(), DESCRIPTION)
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)
    with pytest.raises(EncoderError, match="the hash"):
        read_encoder(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "serl-encoder-9"}', '{"format": "serl-encoder-1"}'])
def test_a_foreign_description_is_refused(tmp_path: Path, text: str) -> None:
    safetensors.numpy.save_file(weights(), tmp_path / "e.safetensors", metadata={"encoder": text})
    with pytest.raises(EncoderError, match=r"e\.safetensors"):
        read_encoder(tmp_path / "e.safetensors")


def test_missing_files_folders_and_integers_are_refused(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"a": np.arange(3)}, tmp_path / "integers.safetensors")
    for path in (tmp_path / "none", tmp_path, tmp_path / "integers.safetensors"):
        with pytest.raises(EncoderError, match=path.name):
            read_encoder(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv_0/bias": None}, "expected a parameter conv_0/bias"),
        ({"conv_9/bias": np.zeros(3)}, "'conv_9/bias' too"),
        ({"conv_0/bias": np.zeros(5, np.float32)}, r"conv_0/bias of shape \(4,\), found \(5,\)"),
        ({"conv_0/bias": np.zeros(4, np.int32)}, "floating point numbers, found int32"),
        ({"conv_0/bias": np.array([0, 0, np.nan, 0])}, "finite numbers in conv_0/bias"),
    ],
)
def test_weights_that_do_not_fit_are_named(change: dict, message: str) -> None:
    shapes = {name: values.shape for name, values in weights().items()}
    changed = {name: values for name, values in (weights() | change).items() if values is not None}
    with pytest.raises(EncoderError, match="^somewhere: .*" + message):
        check_weights("somewhere", changed, shapes)


def test_weights_too_large_for_half_precision_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="finite"), np.errstate(over="ignore"):
        write_encoder(tmp_path / "e.safetensors", {"a": np.array([1e6])}, DESCRIPTION)
    assert not list(tmp_path.iterdir())
