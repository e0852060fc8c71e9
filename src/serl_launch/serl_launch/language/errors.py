# SPDX-License-Identifier: Apache-2.0
"""What the launch runner raises."""

from __future__ import annotations

from dataclasses import dataclass

from serl_config.text import printable


@dataclass(frozen=True)
class Location:
    """Where something stands in a launch file."""

    file: str
    line: int
    tag: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: <{self.tag}>"


class LaunchError(Exception):
    """A launch file, an argument or a package that cannot be used; the message is one line for the user."""

    def __init__(self, message: str, location: Location | None = None) -> None:
        super().__init__(printable(message if location is None else f"{location}: {message}"))
        self.location = location
