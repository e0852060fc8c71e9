# SPDX-License-Identifier: Apache-2.0
"""Reads checkpoints of flax, as msgpack or by orbax, without flax and orbax: arrays by their paths, and no code.

Flax without orbax writes one file, `checkpoint_STEP`: nested maps in msgpack, and each array as an extension. Orbax
writes a folder of that name, whose arrays tensorstore reads.
"""

from __future__ import annotations

import math
import re
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
MAX_DEPTH: Final = 16
PARAMETERS: Final = "params"

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


def read_parameters(path: Path) -> Arrays:
    """The parameters of a checkpoint, all below `params`, by their paths within it, as "modules_actor/Dense_0/kernel".

    Raises:
        ForeignError: there is none, it is half written, damaged or too large, or it has no `params`.
    """
    found = find_checkpoint(path)
    arrays = _read_folder(found) if found.is_dir() else _read_file(found)
    prefix = f"{PARAMETERS}/"
    inner = {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}
    if not inner:
        raise ForeignError(found, f"arrays below {PARAMETERS}", f"{len(arrays)} arrays elsewhere")
    return inner


def _read_file(path: Path) -> Arrays:
    try:
        tree = msgpack.unpackb(read_bytes(path, MAX_BYTES), ext_hook=_extension, raw=False, strict_map_key=False)
        return dict(_flat(tree, "", MAX_DEPTH, [MAX_ARRAYS]))
    except FileError as error:
        raise ForeignError(path, _EXPECTED, error.reason) from error
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise ForeignError(path, _EXPECTED, f"{type(error).__name__}: {error!s:.120}") from error


def _extension(code: int, data: bytes) -> NDArray[Any]:
    if code not in (_ARRAY, _SCALAR):
        raise ValueError(f"an extension {code}")
    match msgpack.unpackb(data, raw=False):
        case [list() as shape, str() as name, bytes() as content] if name in _DTYPES:
            if not all(type(size) is int and size >= 0 for size in shape) or len(shape) > 8:
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


def _read_folder(path: Path) -> Arrays:
    import tensorstore  # comes with flax; only folders need it

    metadata = read_json_object(path / _METADATA)
    if metadata.get("use_ocdbt") is False:
        raise ForeignError(path, "arrays in one database (ocdbt)", "a file for each")
    wanted = [keys for keys in _paths(path, metadata) if keys[0] == PARAMETERS]
    arrays, total = {}, 0
    for keys in wanted:
        name = ".".join(keys)
        store = {"driver": "ocdbt", "base": f"file://{path.absolute()}/", "path": f"{name}/"}
        driver = "zarr3" if metadata.get("use_zarr3") else "zarr"
        try:
            array = tensorstore.open({"driver": driver, "kvstore": store}, read=True).result()
            total += math.prod(array.shape) * array.dtype.numpy_dtype.itemsize
            if total > MAX_BYTES:
                raise ForeignError(path, f"at most {MAX_BYTES >> 20} MiB of parameters", f"more, with {name}")
            arrays["/".join(keys)] = np.asarray(array.read().result())
        except ForeignError:
            raise
        except (ValueError, OSError, TypeError) as error:
            raise ForeignError(path, f"an array {name}", f"{error!s:.200}") from error
    return arrays


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
