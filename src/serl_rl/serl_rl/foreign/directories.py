# SPDX-License-Identifier: Apache-2.0
"""Directories of policies as LeRobot lays them out: written whole or not at all, and never over something."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from serl_config.atomic_files import remove_leftovers, sync_directory, write_synced

from serl_rl.foreign.errors import ForeignError

CONFIG: Final = "config.json"
MODEL: Final = "model.safetensors"

_METADATA: Final = {"format": "pt"}
"""Without it Hugging Face's loader refuses a file of tensors."""


def check_new(path: Path) -> None:
    """Raise ForeignError where there is something already, an empty directory aside."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ForeignError(path, "a new directory", "one that is not empty" if path.is_dir() else "a file")


def pack_model(tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """Named arrays as the content of a file that Hugging Face's loader takes, float32."""
    contiguous = {name: np.ascontiguousarray(values, np.float32) for name, values in tensors.items()}
    return safetensors.numpy.save(contiguous, metadata=_METADATA)


def write_directory(path: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a new directory, which appears whole or not at all.

    Raises:
        ForeignError: there is something already.
        OSError: it cannot be written.
    """
    check_new(path)
    remove_leftovers(path.parent, f".{path.name}.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        for name, data in files.items():
            write_synced(temporary / name, data)
        sync_directory(temporary)
        temporary.replace(path)
        sync_directory(path.absolute().parent)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
