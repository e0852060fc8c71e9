# SPDX-License-Identifier: Apache-2.0
"""Files that somebody made to harm: each ends in one line of a ForeignError, soon, and in bounded memory."""

from __future__ import annotations

import copy
import io
import json
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import safetensors.numpy
from foreign_files import drqv2_tensors, write_archive
from serl_rl.foreign.act.acting import ActPolicy
from serl_rl.foreign.act.directory import read_act
from serl_rl.foreign.act.writing import write_act
from serl_rl.foreign.errors import ForeignError
from serl_rl.foreign.files import read_tensors
from serl_rl.foreign.lerobot_sac.policy import SacPolicy
from serl_rl.foreign.robobase.files import read_drqv2, write_drqv2
from serl_rl.foreign.robobase.policy import DrQv2Policy
from serl_rl.foreign.serl.checkpoint import read_parameters
from serl_rl.foreign.torch_archive import MOST_SHOWN, read_torch_archive

from .act.checkpoints import random_checkpoint, small_config
from .test_lerobot_sac import ACTIONS, CAMERAS, CONFIG, STATE, sac_tensors
from .test_lerobot_sac import write as write_sac


def refused(read: Callable[[Path], object], path: Path, message: str) -> None:
    with pytest.raises(ForeignError, match=message) as raised:
        read(path)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) <= 2000


# --- JSON of other types --------------------------------------------------------------------------


def _write_act(path: Path) -> None:
    write_act(path, random_checkpoint(small_config()))


def _write_drqv2(path: Path) -> None:
    tensors = drqv2_tensors(np.random.default_rng(0), views=1, stack=1, side=20, state=3, actions=2, hidden=(4,))
    source = path.parent / "1_snapshot.pt"
    write_archive(source, {"agent": tensors})
    write_drqv2(path, read_drqv2(source))


def _act(policy: Any) -> None:
    shapes = policy.inputs.items()
    policy.act({name: np.zeros(shape, np.uint8 if len(shape) == 3 else np.float32) for name, shape in shapes})


def _act_act(path: Path) -> None:
    found = read_act(path)
    _act(ActPolicy(found, lambda _: np.zeros((found.config.chunk_size, found.config.action_size), np.float32)))


KINDS: dict[str, tuple[Callable[[Path], Any], Callable[[Path], None]]] = {
    "act": (_write_act, _act_act),
    "drqv2": (_write_drqv2, lambda path: _act(DrQv2Policy(read_drqv2(path).network))),
    "lerobot_sac": (lambda path: write_sac(path, sac_tensors()), lambda path: _act(SacPolicy(path))),
}
ODD: tuple[Any, ...] = (True, "a\nb", 10**4000, [[]], {"a": {}})


def _places(tree: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    for key in tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield from _places(tree[key], (*place, key))


def _changed(tree: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    tree = copy.deepcopy(tree)
    inner = tree
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return tree


@pytest.mark.parametrize("kind", KINDS)
def test_settings_of_another_type_are_refused_or_make_a_policy_that_acts(tmp_path: Path, kind: str) -> None:
    write, act = KINDS[kind]
    folder = tmp_path / "policy"
    write(folder)
    act(folder)
    for file in sorted(folder.glob("*.json")):
        whole = file.read_text()
        for place in _places(json.loads(whole)):
            for odd in ODD:
                text = json.dumps(_changed(json.loads(whole), place, "odd" if odd == ODD[2] else odd))
                file.write_text(text.replace('"odd"', "1" + 4000 * "0"))
                try:
                    act(folder)
                except ForeignError as error:
                    assert str(error).isprintable()
        file.write_text(whole)


def test_a_step_without_the_name_in_the_registry_is_refused(tmp_path: Path) -> None:
    _write_act(tmp_path / "policy")
    file = tmp_path / "policy" / "policy_preprocessor.json"
    tree = json.loads(file.read_text())
    tree["steps"][1] = {"class": tree["steps"][1]["registry_name"]}
    file.write_text(json.dumps(tree))
    refused(read_act, tmp_path / "policy", "the steps rename_observations_processor")


# --- safetensors ----------------------------------------------------------------------------------


def test_doubles_that_are_no_singles_are_refused(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"a": np.full(2, 1e300)}, tmp_path / "a.safetensors")
    refused(read_tensors, tmp_path / "a.safetensors", "finite numbers in a")


STATISTICS = "normalize_inputs.buffer_observation_state"
SAC: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "statistics of another state": (
        {f"{STATISTICS}.mean": np.zeros(STATE + 1, np.float32), f"{STATISTICS}.std": np.ones(STATE + 1, np.float32)},
        {},
        r"mean and std of observation\.state of shape \(5,\)",
    ),
    "half of the statistics": (
        {"unnormalize_outputs.buffer_action.min": np.zeros(ACTIONS, np.float32)},
        {},
        "mean and std of action, or min and max, found min",
    ),
    "pictures too small": ({}, {CAMERAS[0]: {"shape": [3, 38, 64]}}, "pictures of 39 pixels and more"),
    "no action": (
        {
            "actor.mean_layer.weight": np.zeros((0, 16), np.float32),
            "actor.mean_layer.bias": np.zeros(0, np.float32),
        },
        {},
        "mean_layer",
    ),
}


@pytest.mark.parametrize("case", SAC)
def test_what_would_fail_only_when_it_acts_is_refused_when_it_is_read(tmp_path: Path, case: str) -> None:
    tensors, features, message = SAC[case]
    config = CONFIG | {"input_features": CONFIG["input_features"] | features}
    write_sac(tmp_path / "policy", sac_tensors() | tensors, config)
    refused(SacPolicy, tmp_path / "policy", message)


# --- archives of PyTorch --------------------------------------------------------------------------


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def _tensor(key: int, size: int, stride: bytes = b"K\x01") -> bytes:
    """A pickled vector of `size` floats that the member `key` holds."""
    count = b"J" + struct.pack("<i", size)
    storage = b"(" + _text("storage") + b"ctorch\nFloatStorage\n" + _text(str(key)) + _text("cpu") + count + b"tQ"
    arguments = storage + b"K\x00" + count + b"\x85" + stride + b"\x85\x89ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"


def _archive(path: Path, tensors: list[bytes], members: list[bytes]) -> Path:
    items = b"".join(_text(f"t{index}") + each for index, each in enumerate(tensors))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}(" + items + b"u.")
        for key, content in enumerate(members):
            archive.writestr(f"archive/data/{key}", content)
    return path


def test_the_stride_of_an_axis_of_one_element_may_be_anything(tmp_path: Path) -> None:
    stride = b"\x8a\x1a" + bytes(24) + b"\x01\x00"  # 2**192
    tree = read_torch_archive(_archive(tmp_path / "a.pt", [_tensor(0, 1, stride)], [np.float32(3).tobytes()]))
    assert tree["t0"].tolist() == [3.0]


def test_numbers_are_not_shown_without_end(tmp_path: Path) -> None:
    """A file of some megabytes could stand for hours of looking at them."""
    member = bytes(2**16)
    within = _archive(tmp_path / "a.pt", [_tensor(0, 2**14)] * MOST_SHOWN, [member])
    assert len(read_torch_archive(within)) == MOST_SHOWN
    more = _archive(tmp_path / "b.pt", [_tensor(0, 2**14)] * 3 * MOST_SHOWN, [member])
    refused(read_torch_archive, more, f"more than {MOST_SHOWN} times as many bytes as the file has")


def test_members_do_not_lie_over_each_other(tmp_path: Path) -> None:
    """One kilobyte within all of a thousand members would be read a thousand times."""
    count, step = 8, 64
    heads = io.BytesIO()
    inner = bytes(2**12)
    for key in reversed(range(count)):  # each member holds the local header and the content of the next one
        single = io.BytesIO()
        with zipfile.ZipFile(single, "w") as archive:
            name = f"archive/data/{key}".ljust(step - 30, "_")
            archive.writestr(zipfile.ZipInfo(name), inner)
            size = archive.start_dir
        inner = single.getvalue()[:size]
    names = [f"archive/data/{key}".ljust(step - 30, "_") for key in range(count)]
    keys = [name.removeprefix("archive/data/") for name in names]
    sizes = [len(inner) - step * (index + 1) for index in range(count)]
    tensors = [_tensor(0, size // 4).replace(_text("0"), _text(key)) for size, key in zip(sizes, keys, strict=True)]
    with zipfile.ZipFile(heads, "w") as archive:
        items = b"".join(_text(f"t{index}") + each for index, each in enumerate(tensors))
        archive.writestr("archive/data.pkl", b"\x80\x02}(" + items + b"u.")
        start = archive.start_dir
        archive.fp.write(inner)  # type: ignore[union-attr]
        archive.start_dir = start + len(inner)
        for index, name in enumerate(names):
            info = zipfile.ZipInfo(name)
            info.file_size = info.compress_size = sizes[index]
            info.header_offset = start + step * index
            info.CRC = zlib.crc32(inner[step * (index + 1) :])
            archive.filelist.append(info)
            archive.NameToInfo[name] = info
        archive._didModify = True  # type: ignore[attr-defined]
    (tmp_path / "a.pt").write_bytes(heads.getvalue())
    refused(read_torch_archive, tmp_path / "a.pt", "members that lie over each other|[Oo]verlap")


@pytest.mark.parametrize("damage", [b"\xff", b"\xff\xff\xff\x7f"])
def test_a_directory_of_members_with_other_bytes_is_refused(tmp_path: Path, damage: bytes) -> None:
    """Of an archive's last 22 bytes some say where its directory is; names in it are UTF-8 where a bit says so."""
    data = bytearray(_archive(tmp_path / "a.pt", [_tensor(0, 4)], [bytes(16)]).read_bytes())
    if len(damage) == 1:
        first = data.find(b"PK\x01\x02")
        data[first + 9] |= 8
        data[first + 46] = damage[0]
    else:
        data[-10:-6] = damage
    (tmp_path / "b.pt").write_bytes(data)
    refused(read_torch_archive, tmp_path / "b.pt", r"a file of torch\.save")


# --- checkpoints of flax and orbax ----------------------------------------------------------------

NUMBER = msgpack.ExtType(1, msgpack.packb([[1], "float32", bytes(4)]))
MESSAGES: dict[str, tuple[bytes, str]] = {
    "empty maps": (b"\xdd" + struct.pack(">I", 2**20) + b"\x80" * 2**20, "exceeds max_array_len"),
    "empty maps in maps": (
        b"\xdc" + struct.pack(">H", 2**14) + (b"\x9f" + 15 * b"\x80") * 2**14,
        "more than 100000 entries",
    ),
    "within an array": (
        msgpack.packb({"params": {"a": msgpack.ExtType(1, b"\xdd" + struct.pack(">I", 2**20) + b"\xc0" * 2**20)}}),
        "exceeds max_array_len",
    ),
    "a key twice": (
        b"\x82" + 2 * (msgpack.packb("params") + msgpack.packb({"a": NUMBER})),
        "a map with a key that is there twice",
    ),
    "deep": (b"\x81\xa1a" * 400 + b"\xc0", "maps more than 16 deep"),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_a_checkpoint_of_flax_that_grows_is_refused(tmp_path: Path, case: str) -> None:
    content, message = MESSAGES[case]
    (tmp_path / "checkpoint_1").write_bytes(content)
    refused(read_parameters, tmp_path, message)


def _orbax(folder: Path, **metadata: Any) -> None:
    import tensorstore

    folder.mkdir()
    base = {"driver": "file", "path": f"{folder}/"}
    array = tensorstore.open(
        {
            "driver": "zarr",
            "kvstore": {"driver": "ocdbt", "base": base, "path": "params.a/"},
            "metadata": {"shape": [4], "chunks": [4], "dtype": "<f4", **metadata},
        },
        create=True,
    ).result()
    if not metadata:
        array[0].write(1).result()
    keys = [{"key": name, "key_type": 2} for name in ("params", "a")]
    (folder / "_METADATA").write_text(json.dumps({"tree_metadata": {"a": {"key_metadata": keys}}, "use_ocdbt": True}))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"shape": [2**40]}, "at most 1024 MiB"),
        ({"chunks": [2**29]}, "at most 1024 MiB"),
        ({"shape": [2**20], "chunks": [1]}, "at most 100000 chunks"),
        ({"dtype": "bfloat16"}, "found bfloat16"),
        ({"dtype": "|S8"}, "found char"),
    ],
)
def test_an_array_of_orbax_that_grows_is_refused(tmp_path: Path, metadata: dict[str, Any], message: str) -> None:
    _orbax(tmp_path / "a", **metadata)
    refused(read_parameters, tmp_path / "a", message)


@pytest.mark.parametrize("what", ["FIFO", "link"])
def test_a_checkpoint_of_orbax_holds_files_alone(tmp_path: Path, what: str) -> None:
    _orbax(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    manifest = tmp_path / "b" / "manifest.ocdbt"
    manifest.unlink()
    if what == "FIFO":
        os.mkfifo(manifest)
    else:
        manifest.symlink_to(tmp_path / "a" / "manifest.ocdbt")
    refused(read_parameters, tmp_path / "b", r"manifest\.ocdbt: expected a file or folder, found a link, a FIFO")


def test_a_folder_of_orbax_may_have_any_name(tmp_path: Path) -> None:
    """It is no address of the web, in which %2e is a dot and what follows ? or # something else."""
    _orbax(tmp_path / "a%2e?b#c|d")
    assert read_parameters(tmp_path / "a%2e?b#c|d")["a"].tolist() == [1, 0, 0, 0]
