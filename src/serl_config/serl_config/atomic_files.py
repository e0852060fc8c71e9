# SPDX-License-Identifier: Apache-2.0
"""Files that appear whole or not at all, and what killed writers left of theirs."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file in one step; on OSError (disk full) it is as it was."""
    remove_leftovers(path.parent, f".{path.name}.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write_synced(temporary, data)
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file to the disk itself."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Make a rename or a new file in a directory survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(directory: Path, prefix: str) -> None:
    """Remove what writers that are dead, or an earlier life of this one, left in a directory.

    Args:
        directory: to look in; may be missing.
        prefix: of the names; behind it comes the number of the process, and perhaps a dot and more.
    """
    pattern = re.compile(re.escape(prefix) + r"(\d{1,10})(\..*)?")
    for path in list(directory.iterdir()) if directory.is_dir() else []:
        match = pattern.fullmatch(path.name)
        if match is None or _alive(int(match[1])):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


def _alive(process: int) -> bool:
    """Whether another process of that number runs."""
    if process in (0, os.getpid()):
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OverflowError, PermissionError):
        return True
    return True
