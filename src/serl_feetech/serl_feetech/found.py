# SPDX-License-Identifier: Apache-2.0
"""The one port and the one calibration that can be meant where nobody says which."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from serl_feetech.calibration import CalibrationError
from serl_feetech.errors import PortError

PORTS: Final = Path("/dev/serial/by-id")
"""Serial adapters that are plugged in, by names that stay."""
_LEROBOT: Final = Path("~/.cache/huggingface/lerobot/calibration")
"""Where LeRobot keeps calibrations, in a folder for each kind of arm."""


def only_port(option: str, ports: Path = PORTS) -> str:
    """The only serial adapter that is plugged in.

    Args:
        option: by which people say which one it is, for the error.
        ports: folder of links to the adapters.

    Raises:
        PortError: there is none, or more than one; names those there are.
    """
    found = sorted(map(str, ports.glob("*"))) or sorted(map(str, Path("/dev").glob("ttyACM*")))
    if len(found) != 1:
        raise PortError(f"{option}: say which serial port is the arm's; plugged in: {', '.join(found) or 'none'}")
    return found[0]


def only_calibration(option: str, kinds: Iterable[str], lerobot: Path = _LEROBOT) -> Path:
    """The only calibration that LeRobot has made of arms of these kinds.

    Args:
        option: by which people say which one it is, for the error.
        kinds: folders of that cache, one for each kind of arm, as `robots/NAME`.
        lerobot: that cache.

    Raises:
        CalibrationError: there is none, or more than one; names those there are.
    """
    folder = lerobot.expanduser()
    found = sorted(path for kind in kinds for path in (folder / kind).glob("*.json"))
    if len(found) != 1:
        there = ", ".join(map(str, found)) or f"none below {folder}; lerobot-calibrate makes one"
        raise CalibrationError(f"{option}: say which file is the arm's; LeRobot has made: {there}")
    return found[0]
