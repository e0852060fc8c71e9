# SPDX-License-Identifier: Apache-2.0
"""The commands, options and launch arguments that the documentation names are there."""

import os
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import typer
from serl_cli.app import app
from serl_cli.training_plan import resolve_learning
from serl_launch.language.arguments import declared_arguments, parse_arguments, refuse_unknown

ROOT = Path(__file__).resolve().parent.parent
OF_THE_SCRIPT = {"setup", "shell", "test", "clean", "env", "help", "COMMAND", "--help", "--install-completion"}
_COMMAND = re.compile(r"^(?: {4})?(\./serl .*)$|`(\./serl [^`]*)`", re.MULTILINE)


def documented() -> list[tuple[str, str]]:
    """File and command line of each command that the documentation names, in a block or in a line."""
    found = []
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for match in _COMMAND.finditer(path.read_text(encoding="utf-8")):
            line = (match[1] or match[2]).partition(" #")[0].strip()
            found.append((path.name, line))
    return sorted(set(found))


@pytest.mark.parametrize(("file", "line"), documented())
def test_what_is_documented_is_there(file: str, line: str) -> None:
    words = shlex.split(line.rstrip(" &"))[1:]
    if words[0] in OF_THE_SCRIPT:
        return
    command, name = typer.main.get_command(app), words.pop(0)
    command = command.commands[name]
    while hasattr(command, "commands") and words:
        command = command.commands[words.pop(0)]
    if name == "launch":
        check_launch(words)
        return
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word.partition("=")[0] for word in words if word.startswith("-")} <= options
    settings = [value for option, value in pairwise(words) if option == "--set"]
    for setting in settings:
        learning = "rlpd_vision" if setting.startswith("vision") else "rlpd_state"
        resolve_learning(learning, [setting.replace("$PWD", str(ROOT))])


def check_launch(words: list[str]) -> None:
    """The launch file is ours and has the arguments."""
    names = [word for word in words if ":=" not in word and not word.startswith("-")]
    if names[0].endswith(".xml"):  # not PACKAGE FILE
        file = ROOT / "launch" / names[0]
        given = parse_arguments(word for word in words if ":=" in word)
        refuse_unknown(given, (each.name for each in declared_arguments(file, os.environ)), file)
