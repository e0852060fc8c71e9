# SPDX-License-Identifier: Apache-2.0
"""The process that a `<node>` or an `<executable>` asks for."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from serl_launch.language.elements import Element
from serl_launch.language.errors import Location
from serl_launch.language.functions import SubstitutionError
from serl_launch.language.packages import PackageError, find_executable
from serl_launch.language.parameters import (
    GeneratedFile,
    NamedValues,
    read_parameters,
    resolve_file,
    write_values,
)
from serl_launch.language.scope import NAMESPACE, Scope
from serl_launch.language.substitutions import Call, Template, Text
from serl_launch.language.values import coerce

OUTPUTS = ("log", "screen", "both", "own_log", "full")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class ProcessSpec:
    """A process with everything known that its start needs; times in seconds."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    cwd: str | None
    files: tuple[GeneratedFile, ...]
    output: str
    required: bool
    respawn: bool
    respawn_delay: float
    respawn_max_retries: int
    sigterm_timeout: float
    sigkill_timeout: float
    location: Location
    node: str | None = None
    """Full node name, None for an `<executable>` and for a node that names itself."""


def check_process(element: Element) -> None:
    """What can be checked before the variables are known. Raises LaunchError."""
    if element.texts.get("on_exit", "shutdown") != "shutdown":
        raise element.error(f"attribute 'on_exit': expected 'shutdown', found '{element.texts['on_exit']}'")
    for name in ("respawn_delay", "sigterm_timeout", "sigkill_timeout"):
        seconds = element.number(name, 0.0)
        if not 0.0 <= seconds < float("inf"):
            raise element.error(f"attribute '{name}': expected a time of 0 s or more, found '{seconds}'")
    for name in ("cmd", "args", "ros_args"):
        if name in element.templates:
            _words(element, name)
    if element.tag == "node":
        read_parameters(element)


def node_process(element: Element, scope: Scope, number: int, folder: Path) -> ProcessSpec:
    """Process of a `<node>`; its parameter files will lie in `folder`. Raises LaunchError."""
    package, executable = scope.text(element, "pkg"), scope.text(element, "exec")
    try:
        path = find_executable(package, executable, scope.environment)
    except PackageError as error:
        raise element.error(str(error)) from error
    name = _node_name(element, scope)
    namespace = joined_namespace(element, scope, "namespace")
    full_name = None if name is None or namespace is None else f"{namespace.rstrip('/')}/{name}"
    label = scope.text(element, "exec_name") if "exec_name" in element.templates else None

    command = [str(path), *_evaluated_words(element, "args", scope)]
    if "ros_args" in element.templates:
        command += ["--ros-args", *_evaluated_words(element, "ros_args", scope)]
    command.append("--ros-args")
    if name is not None:
        command += ["-r", f"__node:={name}"]
    if namespace is not None:
        command += ["-r", f"__ns:={namespace}"]
    for parameter, value in scope.parameters:
        command += ["-p", f"{parameter}:={value}"]
    files: list[GeneratedFile] = []
    for source in read_parameters(element):
        values_path = folder / f"{Path(label or path.name).name}-{number}-{len(files)}.yaml"
        if isinstance(source, NamedValues):
            text: str | None = write_values(source, full_name or "/**", scope)
        else:
            existing_path, text = resolve_file(source, scope)
            values_path = existing_path if text is None else values_path
        if text is not None:
            files.append(GeneratedFile(values_path, text))
        command += ["--params-file", str(values_path)]
    # Of rules for one name the first counts: what stands for all nodes comes before the node's own, as upstream.
    for source_name, target in [*scope.remappings, *(remapping(remap, scope) for remap in element.nested("remap"))]:
        command += ["-r", f"{source_name}:={target}"]
    return _process(element, scope, number, command, label=label, files=tuple(files), node=full_name)


def executable_process(element: Element, scope: Scope, number: int) -> ProcessSpec:
    """Process of an `<executable>`. Raises LaunchError."""
    command = _evaluated_words(element, "cmd", scope)
    if not command or not command[0]:
        raise element.error("attribute 'cmd': expected a command, found none")
    label = scope.text(element, "name") if "name" in element.templates else None
    return _process(element, scope, number, command, label=label)


def remapping(element: Element, scope: Scope) -> tuple[str, str]:
    """The old and the new name of a `<remap>` or `<set_remap>`. Raises LaunchError for one that no node takes."""
    names = scope.text(element, "from"), scope.text(element, "to")
    for attribute, name in zip(("from", "to"), names, strict=True):
        if not name or ":=" in name or any(character.isspace() for character in name):
            raise element.error(f"attribute '{attribute}': expected the name of a topic or service, found '{name}'")
    return names


def joined_namespace(element: Element, scope: Scope, attribute: str) -> str | None:
    """The pushed namespace with the one of `attribute` behind it, absolute; one that starts with / replaces it.

    None if there is neither. Raises LaunchError for a name that ROS does not take.
    """
    pushed = scope.variables.get(NAMESPACE)
    own = scope.text(element, attribute) if attribute in element.templates else None
    if pushed is None and own is None:
        return None
    if own is None:
        joined = str(pushed)
    elif own.startswith("/") or pushed is None:
        joined = own
    else:
        joined = f"{pushed.rstrip('/')}/{own}"
    namespace = "/" + joined.removeprefix("/").rstrip("/")
    if namespace != "/" and not all(_NAME.fullmatch(token) for token in namespace[1:].split("/")):
        raise element.error(f"'{namespace}' is not a valid namespace: letters, digits and _ between single /")
    return namespace


def split_words(template: Template) -> list[Template]:
    """Split a command line at blanks, as a shell would, before substitution: what a substitution gives stays whole.

    Raises ValueError if quotes are not closed within one stretch of literal text.
    """
    words: list[Template] = []
    word: list[Text | Call] = []

    def end_word() -> None:
        if word:
            words.append(tuple(word))
            word.clear()

    for part in template:
        if isinstance(part, Call):
            word.append(part)
            continue
        tokens = shlex.split(part.text)
        if part.text[:1].isspace():
            end_word()
        for index, token in enumerate(tokens):
            if index:
                end_word()
            word.append(Text(token))
        if part.text[-1:].isspace():
            end_word()
    end_word()
    return words


def _process(
    element: Element,
    scope: Scope,
    number: int,
    command: list[str],
    *,
    label: str | None,
    files: tuple[GeneratedFile, ...] = (),
    node: str | None = None,
) -> ProcessSpec:
    command = [*_prefix(element, scope), *command]
    try:
        scope.charge(sum(map(len, command)))
    except SubstitutionError as error:
        raise element.error(str(error)) from error
    environment = dict(scope.environment)
    for entry in element.nested("env"):
        environment[scope.text(entry, "name")] = scope.text(entry, "value")
    if os.sep not in command[0] and shutil.which(command[0], path=environment.get("PATH", os.defpath)) is None:
        raise element.error(f"program '{command[0]}' not found on PATH")
    return ProcessSpec(
        name=f"{label or Path(command[0]).name}-{number}",
        command=tuple(command),
        environment=environment,
        cwd=scope.text(element, "cwd") if "cwd" in element.templates else None,
        files=files,
        output=_output(element, scope),
        required="on_exit" in element.texts,
        respawn=_respawn(element, scope),
        respawn_delay=element.number("respawn_delay", 0.0),
        respawn_max_retries=int(element.number("respawn_max_retries", -1)),
        sigterm_timeout=_timeout(element, scope, "sigterm_timeout"),
        sigkill_timeout=_timeout(element, scope, "sigkill_timeout"),
        location=element.location,
        node=node,
    )


def _node_name(element: Element, scope: Scope) -> str | None:
    if "name" not in element.templates:
        return None
    name = scope.text(element, "name")
    if not _NAME.fullmatch(name):
        raise element.error(f"'{name}' is not a valid node name: letters, digits and _, not first a digit")
    return name


def _words(element: Element, attribute: str) -> list[Template]:
    try:
        return split_words(element.templates[attribute])
    except ValueError as error:
        raise element.error(
            f"attribute '{attribute}': {error}; quotes cannot span a substitution, whose result stays one word anyway"
        ) from error


def _evaluated_words(element: Element, attribute: str, scope: Scope) -> list[str]:
    if attribute not in element.templates:
        return []
    try:
        return [scope.evaluate(word) for word in _words(element, attribute)]
    except SubstitutionError as error:
        raise element.error(f"attribute '{attribute}': {error}") from error


def _prefix(element: Element, scope: Scope) -> list[str]:
    """Unlike other command lines, upstream splits this one after substitution."""
    if "launch-prefix" not in element.templates:
        return []
    try:
        return shlex.split(scope.text(element, "launch-prefix"))
    except ValueError as error:
        raise element.error(f"attribute 'launch-prefix': {error}") from error


def _output(element: Element, scope: Scope) -> str:
    asked = scope.text(element, "output") if "output" in element.templates else "log"
    output = scope.environment.get("OVERRIDE_LAUNCH_PROCESS_OUTPUT", asked)
    if output not in OUTPUTS:
        raise element.error(f"attribute 'output': expected one of {', '.join(OUTPUTS)}, found '{output}'")
    return output


def _respawn(element: Element, scope: Scope) -> bool:
    if "respawn" not in element.templates:
        return False
    try:
        return bool(coerce(scope.text(element, "respawn"), "bool"))
    except ValueError as error:
        raise element.error(f"attribute 'respawn': {error}") from error


def _timeout(element: Element, scope: Scope, name: str) -> float:
    """The attribute, else the variable of the same name, else 5 s, as upstream has it."""
    if name in element.literals:
        return element.number(name, 0.0)
    text = scope.variables.get(name, "5")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds < float("inf"):
        raise element.error(f"variable '{name}': expected a time of 0 s or more, found '{text}'")
    return seconds
