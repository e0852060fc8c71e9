# SPDX-License-Identifier: Apache-2.0
"""Named arrays and text as bytes in the safetensors format, which cannot carry code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from serl_rl.spec import DataError


def pack(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    """Named arrays and named texts as the bytes of a safetensors file."""
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    return safetensors.numpy.save(contiguous, metadata=dict(metadata))


def unpack(data: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Inverse of `pack`; raises DataError for anything but a complete safetensors file."""
    try:
        arrays = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
        raise DataError("data", "a safetensors file", f"{len(data)} bytes ({error})") from error
    # The library checked the header but hands out its metadata for files on disk only: u64 size, then JSON.
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return arrays, header.get("__metadata__") or {}
