# SPDX-License-Identifier: Apache-2.0
"""The GPU of this machine, and how much is computed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode


def card_name() -> str | None:
    """The name of the GPU that PyTorch computes on; None: it finds none."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def counted_flops(call: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products and convolutions in a call, those of their gradients included.

    A multiplication and the addition of its product count as two.
    """
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())
