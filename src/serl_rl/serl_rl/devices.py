# SPDX-License-Identifier: Apache-2.0
"""How many devices train one agent: what is asked for, and what a backend finds. Imports no backend."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from serl_rl.spec import DataError

MOST_DEVICES = 1024

_SHOWN = 8
_PATIENCE = 120.0  # [s] for a backend to say what it finds, on a machine that is busy
_FIND = """
import json, sys
from serl_rl.jax.devices import found
json.dump(found(), sys.stdout)
"""
_FIND_PRIVATELY = {
    # Most of a GPU's memory is the learner's, which may start meanwhile.
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
}


class DeviceError(DataError):
    """More devices are asked for than there are, or not as many as what they divide takes; says so in one line."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__("devices", expected, found)


def _checked(value: Any) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if value == "all" or (whole and 1 <= value <= MOST_DEVICES):
        return value
    shown = value if isinstance(value, int | float) and not isinstance(value, bool) else json.dumps(value, default=str)
    raise ValueError(f"expected a number of devices from 1 to {MOST_DEVICES}, or all, found {str(shown)[:80]}")


Devices = Annotated[int | Literal["all"], BeforeValidator(_checked)]
"""A number of devices, or all that the backend finds."""


def divisors(size: int) -> str:
    """The numbers that divide another one, in words, the first eight."""
    names = [str(number) for number in range(1, min(size, MOST_DEVICES) + 1) if size % number == 0]
    return ", ".join(names[:_SHOWN] + ["..."] * (len(names) > _SHOWN))


def number_of(devices: int | Literal["all"], found: Sequence[str]) -> int:
    """How many of the devices that JAX finds are to train.

    Args:
        devices: as of the setting.
        found: their names.

    Raises:
        DeviceError: there are fewer.
    """
    if devices == "all":
        return len(found)
    if devices <= len(found):
        return devices
    names = ", ".join(found[:_SHOWN]) + ", ..." * (len(found) > _SHOWN)
    hint = ""
    if all(name.startswith("cpu") for name in found):
        flag = f"--xla_force_host_platform_device_count={devices}"
        hint = f" (a CPU is one, unless XLA_FLAGS={flag} splits it)"
    raise DeviceError(f"at most {len(found)}, for JAX finds {names}{hint}", str(devices))


@cache
def find_jax_devices() -> list[str]:
    """Names of the devices that JAX finds, as a process of its own says: JAX is neither imported here nor begun.

    Raises:
        DeviceError: it finds none, or does not say.
    """
    try:
        told = subprocess.run(
            [sys.executable, "-c", _FIND],
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            env={**os.environ, **_FIND_PRIVATELY},
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceError("JAX to say what it finds, or 1", f"no answer within {_PATIENCE:.0f} s") from error
    if told.returncode:
        reason = (told.stderr.strip().splitlines() or ["it says nothing"])[-1][:200]
        raise DeviceError("something that JAX computes on", reason)
    said = (told.stdout.splitlines() or [""])[-1]  # what else JAX and its plug-ins say stands before it
    try:
        names = json.loads(said)
    except ValueError:
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise DeviceError("the names of what JAX computes on", f"{said[:200]!r}")
    return names
