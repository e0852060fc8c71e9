# SPDX-License-Identifier: Apache-2.0
"""Packages and their executables, as the ament index of the AMENT_PREFIX_PATH prefixes lists them."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path

_MARKERS = "share/ament_index/resource_index/packages"


class PackageError(LookupError):
    """A package or an executable that is not installed; says where was looked."""


def package_prefix(package: str, environment: Mapping[str, str]) -> Path:
    """First prefix that has `package`. Raises PackageError."""
    prefixes = [Path(prefix) for prefix in environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    for prefix in prefixes:
        if package and (prefix / _MARKERS / package).is_file():
            return prefix
    known = [entry.name for prefix in prefixes for entry in _entries(prefix / _MARKERS)]
    looked = ", ".join(map(str, prefixes)) or "nowhere: AMENT_PREFIX_PATH is empty, source the workspace first"
    raise PackageError(f"package '{package}' not found{_suggestion(package, known)}; looked in {looked}")


def package_share(package: str, environment: Mapping[str, str]) -> Path:
    """`<prefix>/share/<package>`. Raises PackageError."""
    return package_prefix(package, environment) / "share" / package


def find_executable(package: str, executable: str, environment: Mapping[str, str]) -> Path:
    """`<prefix>/lib/<package>/<executable>`. Raises PackageError."""
    folder = package_prefix(package, environment) / "lib" / package
    path = folder / executable
    if executable and path.is_file() and os.access(path, os.X_OK):
        return path
    if path.is_file():
        raise PackageError(f"{path} is not executable")
    known = sorted(entry.name for entry in _entries(folder) if os.access(entry, os.X_OK))
    raise PackageError(
        f"package '{package}' has no executable '{executable}'{_suggestion(executable, known)}; looked in {folder},"
        f" which has {', '.join(known) or 'none'}"
    )


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _suggestion(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
