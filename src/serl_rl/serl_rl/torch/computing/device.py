# SPDX-License-Identifier: Apache-2.0
"""Where and with what PyTorch computes on this machine."""

from __future__ import annotations

import logging
import shutil
from functools import cache

import torch

from serl_rl.config import TorchConfig

_log = logging.getLogger(__name__)


def device_of(config: TorchConfig) -> torch.device:
    """The device that is computed on.

    Raises:
        ValueError: it is not there.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("torch.device: expected cuda, found no GPU that PyTorch can use; set auto or cpu")
    name = config.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


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
