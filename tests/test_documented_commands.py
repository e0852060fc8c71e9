# SPDX-License-Identifier: Apache-2.0
"""The commands that the documentation names are there, with these options, values and launch arguments."""

import importlib
import json
import os
import re
import shlex
from dataclasses import fields
from importlib.metadata import distribution
from itertools import pairwise
from pathlib import Path

import pytest
import typer
from documented_pages import PAGES, ROOT
from serl_cli.app import app
from serl_cli.training_plan import resolve_learning
from serl_launch.language.arguments import declared_arguments, parse_arguments, refuse_unknown
from serl_rl.foreign.act.config import ActConfig

OF_THE_SCRIPT = {"setup", "shell", "test", "clean", "env", "help", "COMMAND", "--help", "--install-completion"}
VARIABLES = {
    "ROS_DOMAIN_ID",
    "SERL_NETWORK",
    "ROS_AUTOMATIC_DISCOVERY_RANGE",
    "ROS_STATIC_PEERS",
    "ROS_DISCOVERY_SERVER",
}
OF_A_SHELL = {". /opt/ros/jazzy/setup.bash", 'eval "$(./serl env)"'}
FILES = (".serl", ".frames", ".pkl", ".safetensors")  # that commands read
_INLINE = re.compile(r"`((?:\./serl|ros2) [^`]*)`")


def documented() -> list[tuple[str, str]]:
    """Page and command line of each command: all lines of blocks, and what stands in a sentence."""
    found = []
    for page in [*PAGES, ROOT / "CHANGELOG.md"]:
        text = page.read_text(encoding="utf-8")
        lines = [
            line for block in re.findall(r"^```bash\n(.*?)^```$", text, re.M | re.S) for line in block.splitlines()
        ]
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
        lines += re.findall(r"^ {4}(\S.*)$", prose, re.M)
        lines += [" ".join(command.split()) for command in _INLINE.findall(prose)]
        found += [(page.name, re.split(r"\s+#", line)[0].strip()) for line in lines if line.strip()]
    return sorted(set(found))


@pytest.mark.parametrize(("file", "line"), documented())
def test_what_is_documented_is_there(file: str, line: str, tmp_path, monkeypatch) -> None:
    if line in OF_A_SHELL:
        return
    monkeypatch.chdir(tmp_path)
    for word in line.split():
        if word.endswith(FILES):
            Path(Path(word).name).touch()
    line = re.sub(r"^XLA_FLAGS=\S+ ", "", line)
    match shlex.split(line.removeprefix("nohup ").rstrip(" &")):
        case ["./serl", *words]:
            check_serl(words)
        case ["export", *settings]:
            assert {setting.partition("=")[0] for setting in settings} <= VARIABLES
        case ["ros2", "launch", *words]:
            check_launch(words)
        case ["ros2", "run", package, executable]:
            names = {entry.name for entry in distribution(package).entry_points}
            assert executable in names
        case ["ros2", "action", "send_goal", _, kind, goal]:
            package, module, name = kind.split("/")
            values = json.loads(re.sub(r"(\w+):", r'"\1":', goal))
            getattr(importlib.import_module(f"{package}.{module}"), name).Goal(**values)
        case ["ros2", "service", "call", _, kind]:
            package, module, name = kind.split("/")
            assert hasattr(getattr(importlib.import_module(f"{package}.{module}"), name), "Request")
        case ["ros2", "topic"]:
            pass
        case words:
            pytest.fail(f"a command that no test knows: {words}")


def check_serl(words: list[str]) -> None:
    """The command exists and takes these options, with such values."""
    words = [word for word in words if word.partition("=")[0] not in ("--network", "--secure")]  # may stand anywhere
    if not words or words[0] in OF_THE_SCRIPT:
        return
    command, name = typer.main.get_command(app), words.pop(0)
    command = command.commands[name]
    while hasattr(command, "commands") and words:
        if name == "bench" and words[0] not in command.commands:
            command = command.commands["keys"]  # which need not be said
            continue
        command = command.commands[words.pop(0)]
    if name == "launch":
        check_launch(words)
        return
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word.partition("=")[0] for word in words if word.startswith("-")} <= options
    if words and not words[-1].startswith("-"):  # else a sentence names the command or an option only
        command.make_context(name, list(words)).close()
    settings = [value for option, value in pairwise(words) if option == "--set"]
    if command.name == "act":  # of ./serl policy train
        assert {setting.partition("=")[0] for setting in settings} <= {each.name for each in fields(ActConfig)}
    elif settings:
        learning = "rlpd_vision" if any(setting.startswith("vision") for setting in settings) else "rlpd_state"
        resolve_learning(learning, [setting.replace("$PWD", str(ROOT)) for setting in settings])


def check_launch(words: list[str]) -> None:
    """The launch file is ours and has the arguments."""
    names = [word for word in words if ":=" not in word and not word.startswith("-")]
    if names and names[-1].endswith(".xml"):  # not PACKAGE FILE
        file = ROOT / "launch" / Path(names[-1]).name
        given = parse_arguments(word for word in words if ":=" in word)
        refuse_unknown(given, (each.name for each in declared_arguments(file, os.environ)), file)
