# SPDX-License-Identifier: Apache-2.0
"""Encoder weights in a safetensors file: half precision, with what is known about them. Imports no JAX.

Parameters are named layer/.../parameter, e.g. ``conv_0/kernel``. A file of one's own, without our metadata, is as good,
as long as names and shapes are those of the encoder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from serl_config.atomic_files import write_whole
from serl_config.files import FileError, read_bytes
from serl_config.strict_json import parse_json
from serl_config.text import printable

from serl_rl.spec import DataError
from serl_rl.storage import tensors

FORMAT = "serl-encoder-2"
_UNSEALED = "serl-encoder-1"  # of older files: the same without a checksum of all
MAX_BYTES = 2**29
HASH_DIGITS = 16

Arrays = Mapping[str, NDArray[Any]]


class EncoderError(ValueError):
    """An encoder or its file is not what it should be: says which, what was expected and what was found."""

    def __init__(self, source: Path | str, expected: str, found: str) -> None:
        super().__init__(printable(f"{source}: expected {expected}, found {found}"))
        self.expected = expected
        self.found = found


@dataclass(frozen=True)
class EncoderDescription:
    """What is known about the weights in a file."""

    kind: str
    """Kind of the network, as in `EncoderConfig`."""
    name: str
    cameras: tuple[str, ...] = ()
    """Cameras that it was trained for; none: for no camera in particular."""
    worlds: tuple[str, ...] = ()
    """Simulated worlds whose pictures it was trained on; none: pictures of real cameras."""
    seed: int = 0
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the training, or where the weights come from."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """What the training reached."""
    hash: str = ""
    """`weights_hash` of the weights."""


def weights_hash(kind: str, weights: Arrays) -> str:
    """16 hexadecimal digits that differ between encoders of different features.

    SHA-256 over the kind and, sorted by name, the names, shapes and bytes (float32, little-endian) of all parameters.
    """
    digest = hashlib.sha256(kind.encode())
    for name in sorted(weights):
        values = np.ascontiguousarray(weights[name], "<f4")
        digest.update(f"\n{name} {values.shape}\n".encode())
        digest.update(values.data)
    return digest.hexdigest()[:HASH_DIGITS]


def check_weights(source: Path | str, weights: Arrays, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise EncoderError unless the weights are finite floats with exactly these names and shapes."""
    if missing := sorted(shapes.keys() - weights.keys()):
        raise EncoderError(source, f"a parameter {missing[0]}", f"{len(weights)} others, e.g. {sorted(weights)[:2]}")
    if foreign := sorted(weights.keys() - shapes.keys()):
        raise EncoderError(source, f"only the {len(shapes)} parameters of this encoder", f"{foreign[0]!r} too")
    for name, shape in shapes.items():
        values = weights[name]
        if values.shape != shape:
            raise EncoderError(source, f"{name} of shape {shape}", str(values.shape))
        if values.dtype.kind != "f":
            raise EncoderError(source, f"{name} of floating point numbers", str(values.dtype))
        if not np.isfinite(values).all():
            raise EncoderError(source, f"finite numbers in {name}", "infinite ones or NaN")


def write_encoder(path: Path, weights: Arrays, description: EncoderDescription) -> EncoderDescription:
    """Write weights, rounded to half precision, and the description, completed by the hash of what was written.

    Raises:
        EncoderError: a weight is too large for half precision.
        OSError: the file cannot be written.
    """
    rounded = {name: np.asarray(values, np.float16) for name, values in weights.items()}
    check_weights(path, rounded, {name: values.shape for name, values in rounded.items()})
    complete = replace(description, hash=weights_hash(description.kind, rounded))
    data = tensors.pack(rounded, {"encoder": json.dumps({"format": FORMAT, **asdict(complete)})})
    write_whole(path, data)
    return complete


def read_encoder(path: Path) -> tuple[dict[str, NDArray[np.float32]], EncoderDescription | None]:
    """Weights (float32) of a file and what is known about them: None for a file without our metadata.

    Whether names and shapes are those of an encoder is for `check_weights` to see.

    Raises:
        EncoderError: no such file, not a complete safetensors file, or weights that do not have the hash they claim.
    """
    try:
        arrays, metadata = tensors.unpack(read_bytes(path, MAX_BYTES))
    except FileError as error:
        raise EncoderError(path, "a file with the weights of an encoder", error.reason) from error
    except DataError as error:
        raise EncoderError(path, error.expected, error.found) from error
    for name, values in arrays.items():
        if values.dtype.kind != "f":
            raise EncoderError(path, f"{name} of floating point numbers", str(values.dtype))
    weights = {name: values.astype(np.float32) for name, values in arrays.items()}
    if "encoder" not in metadata:
        return weights, None
    description = _description(path, metadata)
    found = weights_hash(description.kind, weights)
    if description.hash != found:
        raise EncoderError(path, f"weights with the hash {description.hash}, as the file says", found)
    return weights, description


def _description(path: Path, metadata: Mapping[str, str]) -> EncoderDescription:
    text = metadata["encoder"]
    try:
        tree = parse_json(text, size=tensors.HEADER_LIMIT, finite=False)
        if tree["format"] not in (FORMAT, _UNSEALED):
            raise EncoderError(path, FORMAT, repr(tree["format"]))
        if tree["format"] != _UNSEALED:
            tensors.expect_seal(metadata)
        return EncoderDescription(
            kind=str(tree["kind"]),
            name=str(tree["name"]),
            cameras=tuple(map(str, tree["cameras"])),
            worlds=tuple(map(str, tree["worlds"])),
            seed=int(tree["seed"]),
            recipe=dict(tree["recipe"]),
            metrics={str(name): float(value) for name, value in tree["metrics"].items()},
            hash=str(tree["hash"]),
        )
    except EncoderError:
        raise
    except DataError as error:
        raise EncoderError(path, error.expected, error.found) from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise EncoderError(path, "a description of the encoder", f"{text[:80]!r} ({error})") from error
