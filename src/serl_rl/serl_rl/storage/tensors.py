# SPDX-License-Identifier: Apache-2.0
"""Named arrays and text as bytes in the safetensors format, which cannot carry code.

What `pack` makes carries a seal in its metadata: the SHA-256 of everything else in it. `unpack` checks the seal, so a
changed bit anywhere shows. Files of other programs have none, and are read without one.
"""

from __future__ import annotations

import hashlib
import json
import struct
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
SEAL = "serl_sha256"
"""Key of the seal in the metadata."""

_METADATA = "__metadata__"
_LENGTH = struct.Struct("<Q")
_ALIGNMENT = 8


def pack(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    """Named arrays and named texts as the bytes of a sealed safetensors file; equal content gives equal bytes."""
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    header, body = _divide(safetensors.numpy.save(contiguous))
    unsealed = {name: metadata[name] for name in sorted(metadata) if name != SEAL}
    header[_METADATA] = unsealed
    header[_METADATA] = unsealed | {SEAL: _digest(header, body)}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return b"".join((_LENGTH.pack(len(text)), text, body))


def unpack(data: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Inverse of `pack`; the metadata holds the seal, too, where there is one.

    Raises:
        DataError: no complete safetensors file, or its seal is broken.
    """
    length = int.from_bytes(data[: _LENGTH.size], "little")
    if length > HEADER_LIMIT:
        raise DataError("data", f"a safetensors file with a header of at most {HEADER_LIMIT} bytes", f"{length} bytes")
    try:
        arrays = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
        raise DataError("data", "a safetensors file", f"{len(data)} bytes ({error})") from error
    # The library checked the header but hands out its metadata for files on disk only.
    try:
        header, body = _divide(data)
    except JsonError as error:
        raise DataError("data", "a safetensors file", str(error)) from error
    metadata: dict[str, str] = header.get(_METADATA) or {}
    if SEAL in metadata:
        header[_METADATA] = {name: text for name, text in metadata.items() if name != SEAL}
        found = _digest(header, body)
        if metadata[SEAL] != found:
            expected = f"bytes with the hash {metadata[SEAL]:.16}, as they say"
            raise DataError("data", expected, f"{found:.16}: they were changed")
    return arrays, metadata


def expect_seal(metadata: Mapping[str, str]) -> None:
    """Raise DataError unless what was unpacked had a seal."""
    if SEAL not in metadata:
        raise DataError("data", f"the hash {SEAL} in the metadata", "none: they were changed")


def first_unbounded(arrays: Mapping[str, NDArray[Any]]) -> str | None:
    """Name of an array that holds NaN or infinity, None if there is none."""
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return name
    return None


def _divide(data: bytes) -> tuple[dict[str, Any], memoryview]:
    """Header and array bytes of a valid file: u64 size, JSON of that size, arrays."""
    end = _LENGTH.size + _LENGTH.unpack_from(data)[0]
    header: dict[str, Any] = parse_json(data[_LENGTH.size : end], size=HEADER_LIMIT)
    return header, memoryview(data)[end:]


def _digest(header: Mapping[str, Any], body: memoryview) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True, separators=(",", ":")).encode())
    digest.update(body)
    return digest.hexdigest()
