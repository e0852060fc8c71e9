# SPDX-License-Identifier: Apache-2.0
"""Whether DDS can be secured here: Fast DDS has plug-ins for that, and ROS 2 uses them, or either was built without."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_MARK: Final = b"PKI-DH"  # in the name of the plug-in of DDS Security that knows participants by certificates
_LIBRARIES: Final = ("libfastrtps.so", "libfastdds.so")  # of Fast DDS 2 and 3
# ROS 2 says so where a keystore lacks files. Names of properties, which are copied, are not whole in every build.
_ASKS: Final = b"couldn't find all security files!"
_BINDING: Final = ("librmw_fastrtps_shared_cpp.so",)  # of ROS 2 to Fast DDS
_BLOCK: Final = 2**20


def missing_plugins(environment: Mapping[str, str] | None = None, prefix: Path | None = None) -> str | None:
    """Why DDS cannot be secured here, in one line; None: Fast DDS has its security plug-ins, and ROS 2 uses them.

    Of each of the two the first library in LD_LIBRARY_PATH, below AMENT_PREFIX_PATH, and below `prefix` counts; it is
    read, not loaded.

    Args:
        environment: variables; None: those of this process.
        prefix: where the wheels' libraries are, in its folder `lib`; None: that of this Python.

    Raises:
        OSError: the library cannot be read.
    """
    variables = os.environ if environment is None else environment
    instead = "what works here is a link with keys: ./serl security init, and link:= of the launch files"
    rmw = variables.get("RMW_IMPLEMENTATION") or "rmw_fastrtps_cpp"
    if not rmw.startswith("rmw_fastrtps"):
        return f"RMW_IMPLEMENTATION: expected rmw_fastrtps_cpp, whose security plug-ins we know, found {rmw}; {instead}"
    folders = [Path(path) for path in variables.get("LD_LIBRARY_PATH", "").split(":") if path]
    folders += [Path(path) / "lib" for path in variables.get("AMENT_PREFIX_PATH", "").split(":") if path]
    folders.append((Path(sys.prefix) if prefix is None else prefix) / "lib")
    for names, whose, mark in (
        (_LIBRARIES, "Fast DDS with security plug-ins", _MARK),
        (_BINDING, "rmw_fastrtps built with security", _ASKS),
    ):
        found = next((path for folder in folders for name in names if (path := folder / name).is_file()), None)
        if found is None:
            looked = ", ".join(str(folder) for folder in dict.fromkeys(folders))
            return f"expected {whose} ({' or '.join(names)}) in {looked}, found none; {instead}"
        if not _holds(found, mark):
            return f"{found}: expected {whose} ({mark.decode()}), found one without; {instead}"
    return None


def _holds(path: Path, text: bytes) -> bool:
    """Whether a file holds a text; reads it in blocks."""
    kept = b""
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            window = kept + block
            if text in window:
                return True
            kept = window[-(len(text) - 1) :]
    return False
