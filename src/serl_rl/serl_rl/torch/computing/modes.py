# SPDX-License-Identifier: Apache-2.0
"""Precision of what a step computes, and memory format of its convolutions, for all that it calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from serl_rl.config import TorchConfig

_format: ContextVar[torch.memory_format] = ContextVar("map_format", default=torch.channels_last)


@contextmanager
def computing_as(config: TorchConfig, device: torch.device) -> Iterator[None]:
    """Gradients only where they are asked for, numbers of the precision and maps of the memory format of settings."""
    narrow = config.precision == "bfloat16"
    before = _format.set(torch.channels_last if config.channels_last else torch.contiguous_format)
    try:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=narrow):
            yield
    finally:
        _format.reset(before)


def laid_out(maps: torch.Tensor) -> torch.Tensor:
    """Maps or kernels (B, c, h, w) as they shall lie in memory; they themselves where they do."""
    return maps.contiguous(memory_format=_format.get())
