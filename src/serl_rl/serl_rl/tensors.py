# SPDX-License-Identifier: Apache-2.0
"""Named arrays and text as bytes in the safetensors format, which cannot carry code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray
from serl_config.strict_json import JsonError, parse_json

from serl_rl.spec import DataError

HEADER_LIMIT = 2**22
"""[bytes] of the header, which holds the names of the arrays and the metadata."""


def pack(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    """Named arrays and named texts as the bytes of a safetensors file."""
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    return safetensors.numpy.save(contiguous, metadata=dict(metadata))


def unpack(data: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Inverse of `pack`; raises DataError for anything but a complete safetensors file."""
    length = int.from_bytes(data[:8], "little")
    if length > HEADER_LIMIT:
        raise DataError("data", f"a safetensors file with a header of at most {HEADER_LIMIT} bytes", f"{length} bytes")
    try:
        arrays = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
        raise DataError("data", "a safetensors file", f"{len(data)} bytes ({error})") from error
    # The library checked the header but hands out its metadata for files on disk only: u64 size, then JSON.
    try:
        header = parse_json(data[8 : 8 + length], size=HEADER_LIMIT)
    except JsonError as error:
        raise DataError("data", "a safetensors file", str(error)) from error
    return arrays, header.get("__metadata__") or {}
