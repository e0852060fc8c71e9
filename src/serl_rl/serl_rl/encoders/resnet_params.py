# SPDX-License-Identifier: Apache-2.0
"""Reads the published ``resnet10_params.pkl`` without unpickling it.

Only numpy's and JAX's ways to pickle an array are known to it; see `ArrayMachine`. Imports no JAX.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray
from serl_config.files import FileError, read_bytes

from serl_rl.encoders.file import EncoderError
from serl_rl.pickles.arrays import ArrayMachine, PickledArray, what
from serl_rl.pickles.machine import Refused

MAX_BYTES: Final = 2**28
MAX_ARRAYS: Final = 2_000
MAX_DEPTH: Final = 8

_EXPECTED = "a pickled dictionary of numpy arrays"


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_pickled_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of a pickled tree of dictionaries, as "outer/inner": values that share the memory of the file's bytes.

    Raises:
        EncoderError: there is no such file, or it is too large, damaged, or holds anything but such a tree.
    """
    try:
        data = read_bytes(path, MAX_BYTES)
    except FileError as error:
        raise EncoderError(path, _EXPECTED, error.reason) from error
    try:
        return dict(_flat(ArrayMachine().run(data), "", MAX_DEPTH, [MAX_ARRAYS]))
    except Refused as error:
        raise EncoderError(path, _EXPECTED, str(error)) from error


def _flat(tree: object, prefix: str, depth: int, budget: list[int]) -> Iterator[tuple[str, NDArray[Any]]]:
    if not isinstance(tree, dict) or not tree:
        raise Refused(f"{what(tree)} at {prefix or 'the top'}")
    if depth == 0:
        raise Refused(f"dictionaries more than {MAX_DEPTH} deep")
    for name, value in tree.items():
        budget[0] -= 1
        if budget[0] < 0:
            raise Refused(f"more than {MAX_ARRAYS} entries")
        if isinstance(value, PickledArray):
            if value.values is None:
                raise Refused(f"an array without content at {prefix}{name}")
            yield f"{prefix}{name}", value.values
        else:
            yield from _flat(value, f"{prefix}{name}/", depth - 1, budget)
