# SPDX-License-Identifier: Apache-2.0
"""The error that says what of somebody else's files cannot be taken over."""

from __future__ import annotations

from pathlib import Path

from serl_rl.spec import DataError


class ForeignError(DataError):
    """A file of another stack is not what it should be: says which, what was expected and what was found."""

    def __init__(self, source: Path | str, expected: str, found: str) -> None:
        super().__init__(str(source), expected, found)
