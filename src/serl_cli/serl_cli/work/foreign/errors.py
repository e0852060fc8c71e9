# SPDX-License-Identifier: Apache-2.0
"""The error that says which setting of another stack cannot be taken over."""

from __future__ import annotations

from typing import Any

from serl_config.text import shown


class SettingError(ValueError):
    """A setting of another stack is not what it should be."""

    def __init__(self, setting: str, expected: str, value: Any) -> None:
        super().__init__(f"{setting}: expected {expected}, found {shown(value)}")
