# SPDX-License-Identifier: Apache-2.0
"""Packages that not everybody needs, imported when a format that needs them is used."""

from __future__ import annotations

from typing import Any

from serl_config.optional import optional_module

from serl_recording.episode import RecordingError


def require(module: str, format_: str, extra: str = "recordings") -> Any:
    """Import a module of the optional packages.

    Args:
        module: its name.
        format_: what needs it, for the error.
        extra: what `./serl setup` calls the part that brings it.

    Raises:
        RecordingError: it is not installed; says how it comes.
    """
    return optional_module(module, extra=extra, needed_by=format_, error=RecordingError)
