# SPDX-License-Identifier: Apache-2.0
"""Where and with what PyTorch computes on this machine."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from functools import cache

import torch

from serl_rl.config import TorchConfig
from serl_rl.spec import DataError

_log = logging.getLogger(__name__)


def device_of(config: TorchConfig) -> torch.device:
    """The device that is computed on.

    Raises:
        DataError: it is not there, or not one that CUDA graphs are recorded on, which are asked for.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise DataError("torch.device", "cuda", "no GPU that PyTorch can use; set auto or cpu")
    name = config.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if config.cuda_graphs and name != "cuda":
        found = "device: cpu" if torch.cuda.is_available() else "no GPU that PyTorch can use"
        raise DataError("torch.cuda_graphs", "a GPU", f"{found}; set it to false")
    return torch.device(name)


def constant(values: Sequence[float], device: torch.device) -> torch.Tensor:
    """Numbers float32 (N,) that a step needs, made on the device: copies from elsewhere cannot be recorded."""
    if device.type == "cpu":
        return torch.tensor(values, dtype=torch.float32)
    return torch.cat([torch.full((1,), value, dtype=torch.float32, device=device) for value in values])


def use_one_core() -> None:
    """Compute on one core from now on: the others are those of the graph, and threads would wait for each other."""
    torch.set_num_threads(1)


@cache
def can_compile(kind: str) -> bool:
    """Whether steps can be compiled for a kind of device: for a CPU that takes a C++ compiler. Warns once if not."""
    possible = kind != "cpu" or any(shutil.which(name) for name in ("g++", "clang++", "c++"))
    if not possible:
        _log.warning("torch.compile: found no C++ compiler (g++, clang++), so steps are taken as they are written")
    return possible
