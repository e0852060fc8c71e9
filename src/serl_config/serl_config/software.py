# SPDX-License-Identifier: Apache-2.0
"""Which version of this workspace runs here."""

import importlib.metadata
import subprocess
from functools import cache
from pathlib import Path


@cache
def software() -> str:
    """Version and commit in one text, as in "0.1.0 (0d44f0212345)"; the commit as `commit` has it."""
    return f"{importlib.metadata.version('serl_config')} ({commit()})"


@cache
def commit() -> str:
    """The commit of the source checkout, with a plus where files were changed; "unknown" outside of one."""
    here = Path(__file__).resolve().parent
    try:
        head = subprocess.run(["git", "-C", here, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
        changed = subprocess.run(["git", "-C", here, "status", "--porcelain", "-uno"], capture_output=True, text=True)
    except FileNotFoundError:  # no git here
        return "unknown"
    if head.returncode or changed.returncode:
        return "unknown"
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")
