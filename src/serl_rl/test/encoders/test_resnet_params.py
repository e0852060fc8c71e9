# SPDX-License-Identifier: Apache-2.0
"""The reader of pickled arrays gives what was pickled, and refuses everything else without running any of it."""

from __future__ import annotations

import os
import pickle  # to make what the reader must read or refuse
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from serl_rl.encoders.file import EncoderError
from serl_rl.encoders.resnet_params import read_pickled_arrays, sha256


def tree_of_arrays() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "conv_init": {"kernel": rng.standard_normal((7, 7, 3, 4)).astype(np.float32)},
        "ResNetBlock_0": {
            "Conv_0": {"kernel": np.asfortranarray(rng.standard_normal((3, 4)).astype(np.float32))},
            "MyGroupNorm_0": {"scale": rng.standard_normal(64), "bias": np.zeros(5, np.float16)},
        },
    }


def read(tmp_path: Path, data: bytes) -> dict[str, np.ndarray]:
    path = tmp_path / "params.pkl"
    path.write_bytes(data)
    return read_pickled_arrays(path)


def check_equal(found: dict[str, np.ndarray], tree: dict[str, Any]) -> None:
    assert set(found) == {
        "conv_init/kernel",
        "ResNetBlock_0/Conv_0/kernel",
        "ResNetBlock_0/MyGroupNorm_0/scale",
        "ResNetBlock_0/MyGroupNorm_0/bias",
    }
    for name, values in found.items():
        expected = tree
        for part in name.split("/"):
            expected = expected[part]
        np.testing.assert_array_equal(values, np.asarray(expected))
        assert values.dtype == np.asarray(expected).dtype


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["dict", "frozen", "jax"])
def test_pickled_arrays_are_read_as_they_were(tmp_path: Path, protocol: int, kind: str) -> None:
    tree: Any = tree_of_arrays()
    if kind == "frozen":
        from flax.core import freeze

        tree = freeze(tree)
    elif kind == "jax":
        import jax

        tree["conv_init"] = jax.tree.map(jax.numpy.asarray, tree["conv_init"])
    check_equal(read(tmp_path, pickle.dumps(tree, protocol=protocol)), tree)


def test_names_of_older_numpy_are_known(tmp_path: Path) -> None:
    data = pickle.dumps(tree_of_arrays(), protocol=2).replace(b"numpy._core.", b"numpy.core.")
    check_equal(read(tmp_path, data), tree_of_arrays())


class Call:
    """Pickles as a call of something."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


HOSTILE = {
    "os.system": {"a": Call(os.system, "touch hacked")},
    "eval": {"a": Call(eval, "open('hacked', 'w')")},
    "a class": {"a": Path("x")},
    "an object": {"a": Call(os.getcwd)},
    "objects in an array": {"a": np.array([Call(os.system, "touch hacked")], dtype=object)},
    "integers": {"a": np.arange(3)},
    "a list": [np.zeros(3)],
    "a number": {"a": 3.0},
    "nothing": {},
    "other keys": {3: np.zeros(3)},
    "an array alone": np.zeros(3),
    "big-endian numbers": {"a": np.zeros(3, ">f4")},
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", HOSTILE)
def test_anything_else_is_refused_and_nothing_runs(
    tmp_path: Path, name: str, protocol: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EncoderError, match=r"params\.pkl: expected a pickled dictionary of numpy arrays, found"):
        read(tmp_path, pickle.dumps(HOSTILE[name], protocol=protocol))
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"cos\nsystem\n(S'touch hacked'\ntR.", id="protocol 0"),
        pytest.param(b"(cos\nsystem\nS'x'\no.", id="OBJ"),
        pytest.param(b"(S'x'\nios\nsystem\n.", id="INST"),
        pytest.param(b"\x80\x04" + b"}" + b"\x85" * 100_000 + b".", id="deep tuples"),
        pytest.param(b"\x80\x04}\x94" + b"(" * 100_000 + b".", id="marks"),
        pytest.param(b"\x80\x04}\x94\x8c\x01ah\x00s.", id="a dictionary that holds itself"),
        pytest.param(b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b"x.", id="huge bytes"),
        pytest.param(b"\x80\x04\x96" + (2**40).to_bytes(8, "little") + b"x.", id="huge bytearray"),
        pytest.param(b"\x80\x04\x8b" + (2**30).to_bytes(4, "little") + b"x.", id="huge number"),
        pytest.param(b"\x80\x04N" + b"0" * 10 + b".", id="POP"),
        pytest.param(b"\x80\x04}}s.", id="SETITEM without its values"),
        pytest.param(b"\x80\x04}(\x85.", id="a tuple across a mark"),
        pytest.param(b"\x80\x04h\x07.", id="unknown memo"),
        pytest.param(b"\x80\x04}" + b"N" * 300_000 + b".", id="many instructions"),
        pytest.param(b"\x80\x04\x82\x01.", id="extension registry"),
        pytest.param(b"\x80\x02\x8ax.", id="truncated LONG1"),
        pytest.param(b"\x80\x04U\x01xQ.", id="persistent id"),
        pytest.param(b"", id="empty"),
        pytest.param(b"\x89HDF\r\n", id="another format"),
    ],
)
def test_crafted_files_are_refused(tmp_path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EncoderError, match="found"):
        read(tmp_path, data)
    assert not (tmp_path / "hacked").exists()


def test_shared_dictionaries_do_not_explode(tmp_path: Path) -> None:
    tree: dict[str, Any] = {"x": np.zeros(1, np.float32)}
    for _ in range(7):
        tree = dict.fromkeys("abcdefgh", tree)
    with pytest.raises(EncoderError, match="entries"):
        read(tmp_path, pickle.dumps(tree))


def test_a_shape_that_does_not_fit_the_bytes_is_refused(tmp_path: Path) -> None:
    data = pickle.dumps({"a": np.zeros((3, 5), np.float32)}, protocol=4)
    assert data.count(b"K\x03K\x05\x86") == 1
    with pytest.raises(EncoderError, match="bytes"):
        read(tmp_path, data.replace(b"K\x03K\x05\x86", b"K\x03K\x06\x86"))


def test_a_shape_that_no_array_has_is_refused(tmp_path: Path) -> None:
    data = pickle.dumps({"a": np.zeros((0, 5, 5, 5), np.float32)}, protocol=3)
    assert data.count(b"K\x05") == 3
    with pytest.raises(EncoderError, match="a shape that is none"):
        read(tmp_path, data.replace(b"K\x05", b"J\xff\xff\xff\x7f"))


def test_arrays_inside_arrays_inside_arrays_are_refused(tmp_path: Path) -> None:
    name, inner = b"cjax._src.array\n_reconstruct_array\n", b")"
    for _ in range(5000):
        inner = b"(" + name + inner + b")}t"
    with pytest.raises(EncoderError, match="other arguments than for an array"):
        read(tmp_path, b"\x80\x02" + name + inner + b"R.")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_files_are_refused_or_read_without_surprise(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    protocol = data.draw(st.sampled_from((2, 4, 5)))
    content = bytearray(pickle.dumps({"a": {"b": np.zeros((2, 3), np.float32)}}, protocol=protocol))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(content)))
    try:
        found = read(tmp_path_factory.getbasetemp(), bytes(content[:end]))
    except EncoderError:
        return
    assert all(values.dtype.kind == "f" for values in found.values())


@given(st.binary(max_size=200))
@example(pickletools.optimize(pickle.dumps({"a": 1})))
def test_no_bytes_raise_anything_but_the_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    try:
        read(tmp_path_factory.getbasetemp(), content)
    except EncoderError:
        return


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"none\.pkl: expected .* No such file"):
        read_pickled_arrays(tmp_path / "none.pkl")


def test_the_hash_is_that_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256(tmp_path / "x").startswith("ba7816bf8f01cfea")
