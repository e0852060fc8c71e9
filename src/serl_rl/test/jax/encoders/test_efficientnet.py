# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-Lite0: published weights, read as data and folded, make the features of the network as published."""

from __future__ import annotations

import io
import os
import pickle  # what is read
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_rl.encoders.architecture import LITE, LITE_STAGES, feature_shape, lite_blocks, parameter_shapes
from serl_rl.encoders.efficientnet_params import PACKAGE, folded, published_file
from serl_rl.encoders.efficientnet_reference import reference_features
from serl_rl.encoders.encoder import Encoder
from serl_rl.encoders.file import EncoderError
from serl_rl.encoders.torch_params import read_torch_arrays
from serl_rl.jax.encoders.maps import feature_maps

pytestmark = pytest.mark.usefixtures("cheap_compilation")


def published(stages: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays with the names and shapes of the published ones, as large as theirs and just as uneven."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}

    def layer(convolution: str, norm: str, shape: tuple[int, ...]) -> None:
        deviation = np.sqrt(2.0 / np.prod(shape[1:]))
        arrays[f"{convolution}.weight"] = (deviation * rng.standard_normal(shape)).astype(np.float32)
        channels = shape[0]
        arrays[f"{norm}.weight"] = rng.uniform(0.5, 2.0, channels).astype(np.float32)
        arrays[f"{norm}.bias"] = rng.normal(0.3, 0.5, channels).astype(np.float32)
        arrays[f"{norm}.running_mean"] = rng.normal(0.0, 0.5, channels).astype(np.float32)
        arrays[f"{norm}.running_var"] = rng.uniform(0.2, 2.0, channels).astype(np.float32)
        arrays[f"{norm}.num_batches_tracked"] = np.array(7)

    layer("_conv_stem", "_bn0", (32, 3, 3, 3))
    inputs = 32
    for index, block in enumerate(lite_blocks(stages)):
        name, wide = f"_blocks.{index}", inputs * block.widening
        if block.widening > 1:
            layer(f"{name}._expand_conv", f"{name}._bn0", (wide, inputs, 1, 1))
        layer(f"{name}._depthwise_conv", f"{name}._bn1", (wide, 1, block.size, block.size))
        layer(f"{name}._project_conv", f"{name}._bn2", (block.channels, wide, 1, 1))
        inputs = block.channels
    return arrays


def pictures(count: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def features_of(kind: str, weights: dict[str, np.ndarray], shown: np.ndarray) -> np.ndarray:
    encoder = Encoder.from_weights(kind, weights, kind)
    return feature_maps(encoder, shown)


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize(("kind", "size"), [("efficientnet_lite0_3", (70, 45)), ("efficientnet_lite0_6", (64, 96))])
def test_folded_weights_make_the_features_of_the_published_network(kind: str, size: tuple[int, int]) -> None:
    arrays, shown = published(LITE[kind]), pictures(2, *size)
    expected = reference_features(arrays, shown, LITE[kind])
    found = features_of(kind, folded("test", arrays, LITE[kind]), shown)
    assert found.shape[1:] == feature_shape(kind, *size) == expected.shape[1:]
    assert relative_error(found, expected) < 1e-3
    other = {name: np.zeros_like(values) if "running_mean" in name else values for name, values in arrays.items()}
    assert relative_error(found, reference_features(other, shown, LITE[kind])) > 1e-2, "the means count"


@pytest.mark.parametrize("kind", LITE)
def test_maps_of_every_cut_are_small_enough_to_be_stored(kind: str) -> None:
    assert 2 * np.prod(feature_shape(kind, 128, 128)) <= 8192
    assert feature_shape(kind, 128, 128) == (4, 4, LITE_STAGES[LITE[kind] - 1].channels)
    shapes = {name: values.shape for name, values in folded("test", published(LITE[kind]), LITE[kind]).items()}
    assert shapes == dict(parameter_shapes(kind))


def test_many_pictures_have_the_maps_that_each_has_alone() -> None:
    encoder = Encoder.random("small", 0)
    shown = pictures(130, 32, 32)
    alone = np.concatenate([feature_maps(encoder, shown[index : index + 1]) for index in (0, 64, 129)])
    np.testing.assert_allclose(feature_maps(encoder, shown)[[0, 64, 129]], alone, rtol=1e-4, atol=1e-5)


def test_a_missing_or_misshapen_array_is_named() -> None:
    arrays = published(3)
    for name, values, message in (
        ("_blocks.2._bn2.bias", None, r"published: expected an array _blocks\.2\._bn2\.bias"),
        (
            "_bn0.running_var",
            np.zeros(31, np.float32),
            r"expected _bn0\.running_var of floats .* found float32 \(31,\)",
        ),
        ("_bn0.running_var", np.full(32, -1.0), r"expected variances in _bn0\.running_var, found negative"),
        ("_conv_stem.weight", np.zeros((32, 3), np.float32), r"expected _conv_stem\.weight of floats in 4 dimensions"),
    ):
        changed = {key: value for key, value in arrays.items() if key != name}
        if values is not None:
            changed[name] = values
        with pytest.raises(EncoderError, match=message):
            folded("published", changed, 3)


def test_without_the_package_the_line_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(EncoderError, match=r"\./serl setup efficientnet"):
        published_file()


def test_the_published_weights_make_the_features_of_their_network() -> None:
    try:
        path = published_file()
    except EncoderError as error:
        pytest.skip(str(error))
    arrays, kind, shown = read_torch_arrays(path), "efficientnet_lite0_5", pictures(1, 128, 128)
    found = features_of(kind, folded(path, arrays, 5), shown)
    assert relative_error(found, reference_features(arrays, shown, 5)) < 1e-3
    assert "_fc.weight" in arrays, PACKAGE


# Files of PyTorch, written here as its old format is described.


class Storage:
    """Pickles as a persistent reference."""

    def __init__(self, kind: str, key: str, values: np.ndarray) -> None:
        self.kind, self.key, self.values = kind, key, values


class Named:
    """Pickles as the name of something that need not be there."""

    def __init__(self, name: str) -> None:
        self.name = name


class Tensor:
    """Pickles as a call of PyTorch's that makes a tensor of a storage."""

    def __init__(self, storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.arguments = (storage, offset, shape, strides, False, OrderedDict())


class Writer(pickle._Pickler):  # type: ignore[name-defined,misc]  # the one in Python, whose instructions can be added to
    def persistent_id(self, value: object) -> object:
        if isinstance(value, Storage):
            return ("storage", Named(f"torch {value.kind}"), value.key, "cpu", len(value.values), None)
        return None

    def save(self, value: object, save_persistent_id: bool = True) -> None:
        if isinstance(value, Named):
            module, _, attribute = value.name.rpartition(" ")
            self.write(pickle.GLOBAL + f"{module}\n{attribute}\n".encode())
        elif isinstance(value, Tensor):
            self.save(Named("torch._utils _rebuild_tensor_v2"))
            self.save(value.arguments)
            self.write(pickle.REDUCE)
        else:
            super().save(value, save_persistent_id)


def pickled(value: object) -> bytes:
    file = io.BytesIO()
    Writer(file, 2).dump(value)
    return file.getvalue()


def torch_file(arrays: dict[str, np.ndarray], **changes: Any) -> bytes:
    """The bytes of a state_dict; kernels are kept (height, width, in, out) and shown through strides, as published."""
    tensors: OrderedDict[str, Tensor] = OrderedDict()
    storages = []
    for index, (name, values) in enumerate(arrays.items()):
        kept = values.transpose(2, 3, 1, 0).copy() if values.ndim == 4 else values.copy()
        kind = "LongStorage" if values.dtype.kind == "i" else "FloatStorage"
        storages.append(Storage(kind, str(1000 + index), kept.reshape(-1)))
        strides = tuple(step // kept.itemsize for step in kept.strides)
        strides = (strides[3], strides[2], strides[0], strides[1]) if values.ndim == 4 else strides
        tensors[name] = Tensor(storages[-1], 0, values.shape, strides)
    about = {"protocol_version": 1001, "little_endian": changes.get("little_endian", True), "type_sizes": {"int": 4}}
    parts = [pickled(changes.get("magic", 0x1950A86A20F9469CFC6C)), pickled(1001), pickled(about)]
    parts += [pickled(changes.get("tensors", tensors)), pickled([storage.key for storage in storages])]
    for storage in storages:
        parts += [struct.pack("<q", len(storage.values)), storage.values.tobytes()]
    return b"".join(parts)


def read(folder: Path, data: bytes) -> dict[str, np.ndarray]:
    path = folder / "weights.pth"
    path.write_bytes(data)
    return read_torch_arrays(path)


def few() -> dict[str, np.ndarray]:
    """Some arrays of each sort."""
    return {name: values for name, values in published(1).items() if "_conv_stem" in name or "_bn0" in name}


def test_a_file_of_pytorch_is_read_as_data(tmp_path: Path) -> None:
    found = read(tmp_path, torch_file(few()))
    assert list(found) == list(few())
    for name, values in few().items():
        np.testing.assert_array_equal(found[name], values)


def test_a_cut_file_is_refused_wherever_it_is_cut(tmp_path: Path) -> None:
    data = torch_file(few())
    for end in (*range(0, len(data), 97), len(data) - 1):
        with pytest.raises(EncoderError, match=r"weights\.pth: expected a dictionary of tensors"):
            read(tmp_path, data[:end])
    with pytest.raises(EncoderError, match="1 bytes behind its end"):
        read(tmp_path, data + b"x")


STORAGE = Storage("FloatStorage", "1000", np.zeros(32 * 27, np.float32))


class Call:
    """Pickles as a call of something."""

    def __reduce__(self) -> Any:
        return os.system, ("touch hacked",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"little_endian": False}, "not little-endian"),
        ({"magic": 12}, "another magic number"),
        ({"tensors": {"a": Call()}}, "the name '(posix|nt) system'"),
        ({"tensors": {"a": 3.0}}, "no dictionary of tensors alone"),
        ({"tensors": {"a": [1]}}, "no dictionary of tensors alone"),
        ({"tensors": {"a": Storage("ByteStorage", "1000", np.zeros(3))}}, "the name 'torch ByteStorage'"),
        ({"tensors": {"a": Tensor(STORAGE, 0, (32, 28), (28, 1))}}, "numbers do not hold"),
        ({"tensors": {"a": Tensor(STORAGE, 0, (10**6, 10**6), (0, 0))}}, "numbers do not hold"),
        ({"tensors": {"a": Tensor(STORAGE, 0, (2,), (-1,))}}, "a tensor without a shape"),
        ({"tensors": {"a": Tensor(STORAGE, 0, (2, 2), (1,))}}, "a tensor without a shape"),
        ({"tensors": {"a": Tensor(STORAGE, 0, (2,), (1,))}}, "not those of the tensors"),
    ],
)
def test_anything_else_is_refused_and_nothing_runs(
    tmp_path: Path, changes: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EncoderError, match=message):
        read(tmp_path, torch_file(few(), **changes))
    assert not (tmp_path / "hacked").exists()


def test_an_archive_of_a_later_version_is_named(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="an archive of a later version"):
        read(tmp_path, b"PK\x03\x04" + bytes(100))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damaged_files_are_refused_or_read_without_surprise(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(torch_file({"_bn0.weight": np.ones(3, np.float32), "n": np.array(3)}))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read(tmp_path_factory.getbasetemp(), bytes(content))
    except EncoderError:
        return
    assert all(values.dtype.kind in "fi" and values.size <= 4 for values in found.values())
