# SPDX-License-Identifier: Apache-2.0
"""Reads the files of a policy's directory: JSON and safetensors, with budgets, and nothing of it is executed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from serl_config.files import FileError, read_bytes
from serl_config.strict_json import JsonError, parse_json

from serl_rl.foreign.errors import ForeignError
from serl_rl.spec import DataError
from serl_rl.storage import tensors

MAX_JSON_BYTES: Final = 2**20
MAX_TENSOR_BYTES: Final = 2**30


def read_json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ForeignError: there is no such file, or it is too large, damaged, or holds something else.
    """
    try:
        tree = parse_json(read_bytes(path, MAX_JSON_BYTES))
    except FileError as error:
        raise ForeignError(path, "a file of JSON", error.reason) from error
    except JsonError as error:
        raise ForeignError(path, "a file of JSON", str(error)) from error
    if not isinstance(tree, dict):
        raise ForeignError(path, "a JSON object", type(tree).__name__)
    return tree


def read_tensors(path: Path) -> dict[str, NDArray[np.float32]]:
    """All arrays of a safetensors file as float32, by their names.

    Raises:
        ForeignError: there is no such file, or it is too large, cut, damaged, or holds numbers that are not finite or
            no floating point numbers.
    """
    try:
        arrays, _ = tensors.unpack(read_bytes(path, MAX_TENSOR_BYTES))
    except FileError as error:
        raise ForeignError(path, "a safetensors file", error.reason) from error
    except DataError as error:
        raise ForeignError(path, error.expected, error.found) from error
    for name, values in arrays.items():
        if values.dtype.kind not in "fiu":
            raise ForeignError(path, f"{name} of numbers", str(values.dtype))
    with np.errstate(over="ignore"):  # a double may be too large for a single
        single = {name: values.astype(np.float32, copy=False) for name, values in arrays.items()}
    if (unbounded := tensors.first_unbounded(single)) is not None:
        raise ForeignError(path, f"finite numbers in {unbounded}", "infinite ones or NaN")
    return single


def check_shapes(path: Path, arrays: Mapping[str, NDArray[Any]], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ForeignError unless the arrays have exactly these names and shapes."""
    if missing := sorted(shapes.keys() - arrays.keys()):
        also = sorted(arrays.keys() - shapes.keys())
        found = f"{len(missing)} missing" + (f", and instead of them {also[0]!r}" if also else "")
        raise ForeignError(path, f"a tensor {missing[0]!r}", found)
    if also := sorted(arrays.keys() - shapes.keys()):
        raise ForeignError(path, f"only the {len(shapes)} tensors of this architecture", f"{also[0]!r} too")
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise ForeignError(path, f"{name} of shape {shape}", str(arrays[name].shape))
