# SPDX-License-Identifier: Apache-2.0
"""What ends a command early, as a person reads it."""

from collections.abc import Sequence


class CommandError(Exception):
    """A command cannot do what was asked. The message is one line: what was expected, what was found, what to do.

    Args:
        message: the line.
        details: more lines, such as the end of a log, printed below it.
        exit_code: of the process.
    """

    def __init__(self, message: str, *, details: Sequence[str] = (), exit_code: int = 1) -> None:
        super().__init__(message)
        self.details = tuple(details)
        self.exit_code = exit_code


class DomainTakenError(CommandError):
    """Another graph runs where this one was to run: nothing was started."""


class UsageError(CommandError):
    """The command line itself is wrong: exit status 2."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=2)


class Interrupted(Exception):
    """A person pressed Ctrl-C. The message says what is kept and how to go on: exit status 130."""
