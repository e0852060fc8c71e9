# SPDX-License-Identifier: Apache-2.0
"""Where and with what PyTorch computes on this machine."""

from __future__ import annotations

import shutil
from functools import cache

import torch

from serl_rl.config import TorchConfig


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


@cache
def can_compile(kind: str) -> bool:
    """Whether steps can be compiled for a kind of device: for a CPU that takes a C++ compiler."""
    return kind != "cpu" or any(shutil.which(name) for name in ("g++", "clang++", "c++"))
