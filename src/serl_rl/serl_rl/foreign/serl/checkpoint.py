# SPDX-License-Identifier: Apache-2.0
"""Reads checkpoints of flax, as msgpack or by orbax, without flax and orbax: arrays by their paths, and no code.

Flax without orbax writes one file, `checkpoint_STEP`: nested maps in msgpack, and each array as an extension. Orbax
writes a folder of that name, whose arrays tensorstore reads.
"""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgpack
import numpy as np
from numpy.typing import NDArray
from serl_config.files import FileError, read_bytes

from serl_rl.foreign.errors import ForeignError
from serl_rl.foreign.files import read_json_object

MAX_BYTES: Final = 2**30
MAX_ARRAYS: Final = 20_000
MAX_ENTRIES: Final = 100_000
MAX_DEPTH: Final = 16
MAX_AXES: Final = 8
MAX_FILES: Final = 10_000
MAX_CHUNKS: Final = 100_000
PARAMETERS: Final = "params"
TARGETS: Final = "target_params"

_EXPECTED: Final = "a checkpoint of flax or orbax"
_METADATA: Final = "_METADATA"
_ARRAY: Final = 1
_SCALAR: Final = 3
_NUMBERED = re.compile(r"checkpoint_(\d{1,18})")
_DTYPES: Final = ("float32", "float64", "float16", "int32", "int64", "uint32", "uint8", "bool")

Arrays = dict[str, NDArray[Any]]


def find_checkpoint(path: Path) -> Path:
    """The file or folder of a checkpoint: the path itself, or the latest `checkpoint_STEP` in it.

    Raises:
        ForeignError: there is none.
    """
    if path.is_file() or (path / _METADATA).is_file():
        return path
    if (path / "default" / _METADATA).is_file():
        return path / "default"
    if path.is_dir():
        numbered = [(int(found[1]), each) for each in path.iterdir() if (found := _NUMBERED.fullmatch(each.name))]
        if numbered:
            return max(numbered)[1]
    without = f"a folder without checkpoint_STEP and {_METADATA}"
    raise ForeignError(path, _EXPECTED, without if path.is_dir() else "nothing there")


def read_parameters(path: Path, below: str = PARAMETERS) -> Arrays:
    """The parameters of a checkpoint, all below `below`, by their paths within it, as "modules_actor/Dense_0/kernel".

    Raises:
        ForeignError: there is none, it is half written, damaged or too large, or it has nothing there.
    """
    found = find_checkpoint(path)
    arrays = _read_folder(found, below) if found.is_dir() else _read_file(found)
    prefix = f"{below}/"
    inner = {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}
    if not inner:
        raise ForeignError(found, f"arrays below {below}", f"{len(arrays)} arrays elsewhere")
    return inner


def _read_file(path: Path) -> Arrays:
    try:
        tree = _unpacked(read_bytes(path, MAX_BYTES))
        return dict(_flat(tree, "", MAX_DEPTH, [MAX_ARRAYS]))
    except FileError as error:
        raise ForeignError(path, _EXPECTED, error.reason) from error
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise ForeignError(path, _EXPECTED, f"{type(error).__name__}: {error!s:.120}") from error


def _unpacked(data: bytes) -> Any:
    """The tree of a file, whose containers are counted while it is made: one byte may stand for an empty one."""
    left = MAX_ENTRIES

    def count(entries: int) -> None:
        nonlocal left
        left -= 1 + entries
        if left < 0:
            raise ValueError(f"more than {MAX_ENTRIES} entries")

    def unique(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        count(len(pairs))
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a map with a key that is there twice")
        return found

    def counted(values: list[Any]) -> list[Any]:
        count(len(values))
        return values

    return msgpack.unpackb(
        data,
        ext_hook=_extension,
        object_pairs_hook=unique,
        list_hook=counted,
        max_map_len=MAX_ARRAYS,
        max_array_len=MAX_ARRAYS,
        raw=False,
        strict_map_key=False,
    )


def _extension(code: int, data: bytes) -> NDArray[Any]:
    if code not in (_ARRAY, _SCALAR):
        raise ValueError(f"an extension {code}")
    match msgpack.unpackb(data, raw=False, max_array_len=MAX_AXES, max_map_len=0):
        case [list() as shape, str() as name, bytes() as content] if name in _DTYPES:
            if not all(type(size) is int and size >= 0 for size in shape) or len(shape) > MAX_AXES:
                raise ValueError(f"an array of shape {shape!s:.40}")
            dtype = np.dtype(name)
            if math.prod(shape) * dtype.itemsize != len(content):
                raise ValueError(f"an array of shape {shape} with {len(content)} bytes")
            return np.frombuffer(content, dtype.newbyteorder("<")).reshape(shape)
    raise ValueError("an array of another dtype or form")


def _flat(tree: Any, prefix: str, depth: int, budget: list[int]) -> Iterator[tuple[str, NDArray[Any]]]:
    """The arrays of a tree; plain values beside them are left out."""
    budget[0] -= 1
    if budget[0] < 0 or depth < 0:
        raise ValueError(f"more than {MAX_ARRAYS} entries, or maps more than {MAX_DEPTH} deep")
    if isinstance(tree, np.ndarray):
        yield prefix.removesuffix("/"), tree
    elif isinstance(tree, dict):
        for name, value in tree.items():
            if not isinstance(name, str) or "/" in name:
                raise ValueError(f"a key {name!r:.40}")
            yield from _flat(value, f"{prefix}{name}/", depth - 1, budget)


def _read_folder(path: Path, below: str) -> Arrays:
    import tensorstore  # comes with flax; only folders need it

    metadata = read_json_object(path / _METADATA)
    if metadata.get("use_ocdbt") is False:
        raise ForeignError(path, "arrays in one database (ocdbt)", "a file for each")
    wanted = [keys for keys in _paths(path, metadata) if keys[0] == below]
    _check_files(path)
    arrays: Arrays = {}
    size, chunks = 0, 0
    for keys in wanted:
        name = ".".join(keys)
        base = {"driver": "file", "path": f"{path.absolute()}/"}
        store = {"driver": "ocdbt", "base": base, "path": f"{name}/"}
        driver = "zarr3" if metadata.get("use_zarr3") else "zarr"
        try:
            array = tensorstore.open({"driver": driver, "kvstore": store}, read=True).result()
            if array.dtype.name not in _DTYPES:
                raise ForeignError(path, f"{name} of {', '.join(_DTYPES)}", array.dtype.name)
            itemsize = array.dtype.numpy_dtype.itemsize
            size += math.prod(array.shape) * itemsize
            parts = [array.chunk_layout.read_chunk.shape, array.chunk_layout.write_chunk.shape]
            read, written = ([max(side or 1, 1) for side in part or ()] for part in parts)  # a number has no chunks
            chunks += math.prod(-(-side // step) for side, step in zip(array.shape, read, strict=True))
            # A chunk is decoded as a whole, and a compressed one of zeros is tiny.
            if max(size, math.prod(written) * itemsize) > MAX_BYTES:
                raise ForeignError(path, f"at most {MAX_BYTES >> 20} MiB of parameters", f"more, with {name}")
            if chunks > MAX_CHUNKS:
                raise ForeignError(path, f"parameters in at most {MAX_CHUNKS} chunks", f"more, with {name}")
            arrays["/".join(keys)] = np.asarray(array.read().result())
        except ForeignError:
            raise
        except (ValueError, OSError, TypeError) as error:
            raise ForeignError(path, f"an array {name}", f"{error!s:.200}") from error
    return arrays


def _check_files(path: Path) -> None:
    """Raise ForeignError unless a folder holds nothing but files and folders: tensorstore waits for a FIFO."""
    count = 0
    for folder, folders, files in os.walk(path):
        count += len(files)
        if count > MAX_FILES:
            raise ForeignError(path, f"at most {MAX_FILES} files", f"{count} and more")
        for each in (*(Path(folder, name) for name in files), *(Path(folder, name) for name in folders)):
            if not stat.S_ISREG(each.lstat().st_mode) and not stat.S_ISDIR(each.lstat().st_mode):
                raise ForeignError(each, "a file or folder", "a link, a FIFO or a device")


def _paths(path: Path, metadata: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """The keys of each array."""
    tree = metadata.get("tree_metadata")
    if not isinstance(tree, dict) or len(tree) > MAX_ARRAYS:
        raise ForeignError(path / _METADATA, "tree_metadata", type(tree).__name__)
    for entry in tree.values():
        keys = entry.get("key_metadata") if isinstance(entry, dict) else None
        names = [str(each.get("key")) for each in keys if isinstance(each, dict)] if isinstance(keys, list) else []
        if not names or not all(re.fullmatch(r"[\w\-]{1,200}", name) for name in names):
            raise ForeignError(path / _METADATA, "the keys of each array", f"{keys!r:.80}")
        yield tuple(names)
