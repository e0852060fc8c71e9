# SPDX-License-Identifier: Apache-2.0
"""How training goes wrong, and what is told of it: too little memory, and numbers that are none."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESUME = "it is stopped before anything of it is saved; --resume goes on from the last good checkpoint"


_OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "can't allocate memory", "out of memory")
"""What XLA and PyTorch say, on CPUs and GPUs."""


class TrainingError(RuntimeError):
    """Training cannot go on; what was stored and saved before is still there."""


@contextmanager
def telling_of_memory() -> Iterator[None]:
    """Make what NumPy, XLA and PyTorch raise when the memory does not suffice a `TrainingError` that says so."""
    try:
        yield
    except Exception as error:
        if not (isinstance(error, MemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY)):
            raise
        reason = " ".join(str(error).split())[:200]
        raise TrainingError(
            f"the memory does not suffice ({reason}); choose a smaller network, batch_size or utd_ratio"
        ) from error


def unbounded_losses(info: Mapping[str, Any]) -> str:
    """Names of the losses in what an update says of itself that are not finite, empty if all are."""
    return ", ".join(name for name, value in info.items() if "loss" in name and not math.isfinite(float(value)))


@dataclass(frozen=True, order=True)
class Magnitude:
    """The largest magnitude of an array in a batch."""

    value: float
    name: str
    """The array, with the names of the mappings that it is in before it: ``observation.state``."""
    place: tuple[int, ...]
    """Indices of the value; the first two are those of minibatch and row."""


def largest_magnitude(batch: Mapping[str, Any]) -> Magnitude:
    """The largest magnitude of all floating-point arrays (..., B, ...) of a batch; what is NaN counts as infinite."""
    return max(_magnitudes(batch, ""))


def _magnitudes(batch: Mapping[str, Any], prefix: str) -> Iterator[Magnitude]:
    for name, rows in batch.items():
        if isinstance(rows, Mapping):
            yield from _magnitudes(rows, f"{prefix}{name}.")
        elif rows.dtype.kind == "f":
            magnitudes: NDArray[Any] = np.nan_to_num(np.abs(rows.astype(np.float64)), nan=np.inf)
            place = np.unravel_index(np.argmax(magnitudes), rows.shape)
            yield Magnitude(float(magnitudes[place]), f"{prefix}{name}", tuple(map(int, place)))
