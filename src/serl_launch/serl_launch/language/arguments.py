# SPDX-License-Identifier: Apache-2.0
"""The arguments that a launch file declares, and how they are shown."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from serl_launch.language.elements import Element, LaunchFiles
from serl_launch.language.errors import LaunchError
from serl_launch.language.functions import SubstitutionError
from serl_launch.language.scope import Scope

_MAX_DEPTH = 20
"""Most includes within each other, so that a file that includes itself ends."""


@dataclass(frozen=True)
class Argument:
    """One `<arg>` of a launch file; `default` is its text before substitution, None if the argument must be given."""

    name: str
    description: str
    default: str | None
    choices: tuple[str, ...]
    conditional: bool = False


def argument_of(element: Element, *, conditional: bool = False) -> Argument:
    """Read an `<arg>` element."""
    name = _unescaped(element.texts["name"])
    choices = tuple(_unescaped(choice.texts["value"]) for choice in element.nested("choice"))
    return Argument(
        name, _unescaped(element.texts.get("description", "")), element.texts.get("default"), choices, conditional
    )


def declared_arguments(file: Path, environment: Mapping[str, str]) -> tuple[Argument, ...]:
    """All arguments of a file and of the files that it includes, the first declaration of each name.

    A file whose name depends on arguments, or that cannot be read here, is left out, as upstream does it: whether it
    is needed is only known when the launch file runs.
    """
    found: dict[str, Argument] = {}
    file, files = absolute(file), LaunchFiles()
    for argument in _walk(file, files.read(file), environment, files, conditional=False, depth=0):
        found.setdefault(argument.name, argument)
    return tuple(found.values())


def show_args(file: Path, environment: Mapping[str, str]) -> str:
    """The text of `ros2 launch FILE --show-args`. Raises LaunchError."""
    arguments = declared_arguments(file, environment)
    lines = ["Arguments (pass arguments as '<name>:=<value>'):"]
    if not arguments:
        lines += ["", "  No arguments."]
    for argument in arguments:
        lines += ["", f"    '{argument.name}':{'*' if argument.conditional else ''}", f"        {_describe(argument)}"]
        if argument.default is not None:
            lines.append(f"        (default: '{argument.default}')")
    if any(argument.conditional for argument in arguments):
        lines += ["", "* argument(s) which are only used if specific conditions occur"]
    return "\n".join(lines)


def absolute(file: Path) -> Path:
    """Made absolute with links kept, so that $(dirname) of an installed link is where it was installed."""
    return Path(os.path.abspath(file))  # noqa: PTH100 - resolve() would follow links


def parse_arguments(texts: Iterable[str]) -> dict[str, str]:
    """`name:=value` of a command line; of one name given twice the last wins. Raises LaunchError.

    The value may be empty, as `name:=""` is in a shell: upstream refuses that, and has no other way to say it.
    """
    arguments: dict[str, str] = {}
    for text in texts:
        name, separator, value = text.partition(":=")
        if not (name and separator):
            raise LaunchError(f"malformed launch argument '{text}', expected 'name:=value'")
        arguments[name] = value
    return arguments


def refuse_unknown(given: Iterable[str], declared: Iterable[str], file: Path) -> None:
    """Raise LaunchError for a given name that no file declares: upstream takes it silently."""
    names = sorted(set(declared))
    for name in given:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"it has {', '.join(names) or 'none'}"
            raise LaunchError(f"{file} has no argument '{name}', {hint}")


def _walk(
    file: Path,
    element: Element,
    environment: Mapping[str, str],
    files: LaunchFiles,
    *,
    conditional: bool,
    depth: int,
) -> Iterator[Argument]:
    for child in element.children:
        child_conditional = conditional or bool({"if", "unless"} & child.texts.keys())
        if child.tag == "arg":
            yield argument_of(child, conditional=child_conditional)
        elif child.tag in ("group", "timer"):
            yield from _walk(file, child, environment, files, conditional=child_conditional, depth=depth)
        elif child.tag == "include" and depth < _MAX_DEPTH:
            included = _included(file, child, environment, files)
            if included is not None:
                path, root = included
                yield from _walk(path, root, environment, files, conditional=child_conditional, depth=depth + 1)


def _included(
    file: Path, element: Element, environment: Mapping[str, str], files: LaunchFiles
) -> tuple[Path, Element] | None:
    scope = Scope({}, dict(environment), file)
    try:
        path = absolute(Path(scope.evaluate(element.templates["file"])))
        return path, files.read(path)
    except (SubstitutionError, LaunchError):
        return None


def _describe(argument: Argument) -> str:
    choices = list(argument.choices)
    if not argument.description:
        return f"One of: {choices}" if choices else "no description given"
    if not choices:
        return argument.description
    ending = "" if argument.description.endswith(".") else "."
    return f"{argument.description}{ending} Valid choices are: {choices}"


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)
