# SPDX-License-Identifier: Apache-2.0
"""Waiting for devices whose emulators run by themselves."""

import time
from collections.abc import Callable

from serl_drivers.device import ArmDevice, DriverError

PATIENCE = 100.0  # of a busy machine [s]
_LOOK = 0.005  # [s] between two looks


def eventually(done: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline
        time.sleep(_LOOK)


def fails(device: ArmDevice, saying: str) -> DriverError:
    """The error that `read` ends with in time, which says something, in one line."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            device.read()
        except DriverError as error:
            assert saying in str(error) and "\n" not in str(error)
            return error
        time.sleep(_LOOK)
    raise AssertionError(f"nobody said {saying!r}")
