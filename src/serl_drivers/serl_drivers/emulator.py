# SPDX-License-Identifier: Apache-2.0
"""`emulator DRIVER [PORT]`: becomes the program that stands for a driver's arm, so that who ends one ends the other."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

from serl_config.schema import ConfigError

from serl_drivers.config import DriverConfig, load_driver


def emulator_command(driver: DriverConfig, port: str = "") -> list[str]:
    """Program and arguments that stand for an arm; empty where the device does that itself.

    Args:
        driver: whose arm it is.
        port: address at which it answers; empty: that of the driver's file.

    Raises:
        ConfigError: the driver has no emulator, or what it needs is not installed; says what brings it.
    """
    emulator = driver.emulator
    if emulator is None:
        raise ConfigError(f"driver {driver.name!r}: expected one with an 'emulator', found none")
    if emulator.missing:
        raise ConfigError(driver.missing)
    if not emulator.command:
        return []
    address = port or str(driver.settings.get("port", ""))
    program, *arguments = [part.replace("{port}", address) for part in emulator.command]
    folders = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    found = shutil.which(program, path=folders)
    if found is None:
        raise ConfigError(f"driver {driver.name!r}: expected the program {program!r}, found none in {folders}")
    return [found, *arguments]


def main() -> None:
    """Entry point. What follows `--ros-args` on the command line is for nodes."""
    arguments = [*sys.argv[1:], "--ros-args"]
    given = arguments[: arguments.index("--ros-args")]
    try:
        if not 1 <= len(given) <= 2:
            raise ConfigError(f"emulator: expected DRIVER [PORT], found {' '.join(given) or 'nothing'}")
        command = emulator_command(load_driver(given[0]), *given[1:])
    except ConfigError as error:
        print(f"fatal: {error}", file=sys.stderr, flush=True)
        raise SystemExit(2) from None
    if command:
        print(" ".join(command), flush=True)
        os.execv(command[0], command)
    print(f"{given[0]} has its arm within itself; nothing to do until the end", flush=True)
    ends = (signal.SIGINT, signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    signal.sigwait(ends)  # the launch file starts what has ended again
