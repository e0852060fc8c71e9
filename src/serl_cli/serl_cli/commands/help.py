# SPDX-License-Identifier: Apache-2.0
"""Turns a command's docstring into its ``--help``: paragraphs that fill the terminal, examples one a line."""

import inspect
from collections.abc import Callable
from typing import Any

_EXAMPLES = "Examples:"


def documented(command: Callable[..., Any]) -> dict[str, Any]:
    """Arguments ``help`` and ``epilog`` for typer, from a docstring whose last paragraph begins with ``Examples:``."""
    *paragraphs, last = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    if not last.startswith(_EXAMPLES):
        return {"help": "\n\n".join(" ".join(paragraph.split("\n")) for paragraph in [*paragraphs, last])}
    examples = [f"  [bold]{line.strip()}[/bold]" for line in last.splitlines()[1:]]
    return {
        "help": "\n\n".join(" ".join(paragraph.split("\n")) for paragraph in paragraphs),
        "epilog": "\n".join([_EXAMPLES, *examples]),
    }
