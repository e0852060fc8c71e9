# SPDX-License-Identifier: Apache-2.0
"""Packages that not everybody needs, imported when a format that needs them is used."""

from __future__ import annotations

import importlib
from typing import Any

from serl_recording.episode import RecordingError


def require(module: str, format_: str, setup: str = "./serl setup recordings") -> Any:
    """Import a module of the optional packages.

    Args:
        module: its name.
        format_: what needs it, for the error.
        setup: command that brings it, for the error.

    Raises:
        RecordingError: it is not installed; says how it comes.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise RecordingError(f"{format_} needs the package {package}: {setup}") from error
