# SPDX-License-Identifier: Apache-2.0
"""Packages that not everybody needs, imported when something needs them. Who lacks one is told what brings it."""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from typing import Any


def setup_line(extra: str) -> str:
    """The command that installs an optional part, a file of requirements/extras."""
    return f"./serl setup {extra}"


def is_installed(module: str) -> bool:
    """Whether a module is there; imports nothing but the packages that it is in."""
    if sys.modules.get(module) is not None:
        return True
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def missing(needed_by: str, modules: Iterable[str], extra: str) -> str:
    """One line about modules that are not there, and what brings them; empty where all are.

    Args:
        needed_by: what cannot be done without them.
        modules: their full names.
        extra: what `./serl setup` calls the part that brings them.
    """
    absent = ", ".join(name for name in modules if not is_installed(name))
    return f"{needed_by} needs {absent}, not installed: {setup_line(extra)} brings it" if absent else ""


def optional_module(module: str, *, extra: str, needed_by: str, error: Callable[[str], Exception]) -> Any:
    """Import a module of an optional package.

    Args:
        module: its full name.
        extra: what `./serl setup` calls the part that brings it.
        needed_by: what cannot be done without it, for the message.
        error: makes the exception from one line of text.

    Raises:
        Exception: what `error` makes, where the package is not installed or lacks something itself.
    """
    try:
        return importlib.import_module(module)
    except ImportError as cause:
        package = module.partition(".")[0]
        raise error(f"{needed_by} needs the package {package}: {setup_line(extra)} brings it ({cause})") from cause
