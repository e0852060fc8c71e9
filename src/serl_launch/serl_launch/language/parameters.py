# SPDX-License-Identifier: Apache-2.0
"""The `<param>` tags of a node: reading them, and the parameter files that they become."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from serl_config.files import TEXT_LIMIT, FileError, read_text
from serl_config.strict_yaml import YamlError, parse_upstream_yaml
from serl_config.text import printable

from serl_launch.language.elements import Element
from serl_launch.language.functions import SubstitutionError, check
from serl_launch.language.scope import Scope
from serl_launch.language.substitutions import SubstitutionSyntaxError, Template, parse_template
from serl_launch.language.values import KINDS, TypedTemplate, Value, coerce, typed_template

_VALUE_ATTRIBUTES = {"value", "value-sep", "type"}


@dataclass(frozen=True)
class GeneratedFile:
    """A file that the runner writes before it starts a process."""

    path: Path
    text: str


@dataclass(frozen=True)
class NamedValue:
    """One leaf of a `<param name=...>`; the names of the nest around it are joined with dots."""

    names: tuple[Template, ...]
    value: TypedTemplate
    element: Element


@dataclass(frozen=True)
class NamedValues:
    """One outermost `<param name=...>` of a node: becomes one parameter file."""

    values: tuple[NamedValue, ...]


@dataclass(frozen=True)
class ValuesFile:
    """A `<param from=...>`: a parameter file that exists."""

    path: Template
    allow_substitutions: bool
    element: Element


def read_parameters(node: Element) -> tuple[NamedValues | ValuesFile, ...]:
    """The parameters of a node in the order of the file, checked as far as they are literal. Raises LaunchError."""
    return tuple(_read_parameter(element) for element in node.nested("param"))


def write_values(values: NamedValues, node_name: str, scope: Scope) -> str:
    """Text of the parameter file for a node's full name, or for `/**`. Raises LaunchError."""
    parameters: dict[str, Value] = {}
    for leaf in values.values:
        try:
            name = ".".join(scope.evaluate(part) for part in leaf.names)
            parameters[name] = leaf.value.evaluate(scope.evaluate)
        except ValueError as error:
            raise leaf.element.error(str(error)) from error
    return to_yaml(node_name, parameters)


def to_yaml(node_name: str, parameters: Mapping[str, Value]) -> str:
    """A parameter file of one node, as rcl reads it."""
    return yaml.safe_dump({node_name: {"ros__parameters": dict(parameters)}}, default_flow_style=False)


def resolve_file(values: ValuesFile, scope: Scope) -> tuple[Path, str | None]:
    """Path of an existing parameter file, and its text after substitution where that was asked for.

    Raises LaunchError if there is no such file: upstream warns and starts the node without it.
    """
    try:
        path = Path(scope.evaluate(values.path))
        if not path.is_file():
            raise values.element.error(f"parameter file {path} does not exist")
        text = read_text(path)
        if values.allow_substitutions:
            template = parse_template(text)
            check(template)
            text = scope.evaluate(template, most=TEXT_LIMIT)
        content = parse_upstream_yaml(text, printable(path))
        if not isinstance(content, dict | None):
            raise YamlError(f"{printable(path)}: expected nodes with ros__parameters, found a {type(content).__name__}")
    except (SubstitutionSyntaxError, SubstitutionError, YamlError, FileError) as error:
        raise values.element.error(f"cannot use the parameter file: {error}") from error
    return path, text if values.allow_substitutions else None


def parse_global(text: str) -> str:
    """Value of `<set_parameter>` as it stands on a command line. Raises ValueError.

    Upstream writes Python's text of the value there; a list would arrive as the text "(1, 2)".
    """
    value = coerce(text, None)
    if isinstance(value, list):
        raise ValueError("a list does not pass through <set_parameter>, use <param> in each node")
    return str(value)


def _read_parameter(element: Element) -> NamedValues | ValuesFile:
    if "from" in element.texts:
        excess = sorted(element.texts.keys() - {"from", "allow_substs"})
        if excess or element.children:
            raise element.error(
                f"'from' stands alone or with 'allow_substs', found {', '.join(excess) or 'nested tags'}"
            )
        try:
            allow = coerce(element.texts.get("allow_substs", "false"), "bool")
        except ValueError as error:
            raise element.error(f"attribute 'allow_substs': {error}") from error
        return ValuesFile(element.templates["from"], bool(allow), element)
    if "name" not in element.texts:
        raise element.error("expected attribute 'name' or 'from'")
    if "allow_substs" in element.texts:
        raise element.error("'allow_substs' goes with 'from'")
    return NamedValues(tuple(_leaves(element, ())))


def _leaves(element: Element, outer: tuple[Template, ...]) -> list[NamedValue]:
    names = (*outer, element.templates["name"])
    if element.children:
        if _VALUE_ATTRIBUTES & element.texts.keys():
            raise element.error("expected a value or nested <param>, found both")
        return [leaf for child in element.children for leaf in _leaves(child, names)]
    if "value" not in element.texts:
        raise element.error("expected attribute 'value' or nested <param>")
    return [NamedValue(names, _typed_value(element), element)]


def _typed_value(element: Element) -> TypedTemplate:
    text, separator, kind = (element.texts.get(name) for name in ("value", "value-sep", "type"))
    assert text is not None
    if kind is not None and kind not in KINDS:
        raise element.error(f"attribute 'type': expected one of {', '.join(KINDS)}, found '{kind}'")
    if separator == "":
        raise element.error("attribute 'value-sep': expected a separator, found ''")
    try:
        typed = typed_template(text if separator is None else text.split(separator), kind)
        for template in typed.templates():
            check(template)
    except (SubstitutionSyntaxError, SubstitutionError, ValueError) as error:
        raise element.error(f"attribute 'value': {error}") from error
    return typed
