# SPDX-License-Identifier: Apache-2.0
"""Reading a launch file into elements that know their line, checked against the schema as a whole.

Every attribute is parsed here, also in branches that will not run: a mistake does not wait for its condition.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.parsers import expat

from serl_config.files import TEXT_LIMIT, FileError, read_bytes
from serl_config.text import printable

from serl_launch.language import schema
from serl_launch.language.errors import LaunchError, Location
from serl_launch.language.functions import SubstitutionError, check
from serl_launch.language.schema import Schema
from serl_launch.language.substitutions import SubstitutionSyntaxError, Template, parse_template
from serl_launch.language.values import Value, coerce

ELEMENT_LIMIT = 10_000
"""Most tags in a file."""
TOTAL_LIMIT = 50_000
"""Most tags in all files of a launch, each file counted as often as it is included."""
INCLUDE_LIMIT = 500
"""Most files of a launch, counted so, too: files that include each other twice would make 2^n."""
DEPTH_LIMIT = 40
"""Most tags within each other."""


@dataclass(frozen=True)
class Element:
    """One tag of a launch file."""

    tag: str
    location: Location
    texts: Mapping[str, str]
    templates: Mapping[str, Template]
    literals: Mapping[str, Value]
    children: tuple[Element, ...]

    def nested(self, tag: str) -> tuple[Element, ...]:
        """Children of one tag, in the order of the file."""
        return tuple(child for child in self.children if child.tag == tag)

    def number(self, attribute: str, default: float) -> float:
        """A literal attribute of type int or float."""
        value = self.literals.get(attribute, default)
        assert isinstance(value, (int, float)), "checked on reading"
        return value

    def flag(self, attribute: str, default: bool) -> bool:
        """A literal attribute of type bool."""
        value = self.literals.get(attribute, default)
        assert isinstance(value, bool), "checked on reading"
        return value

    def error(self, message: str) -> LaunchError:
        """An error that names this tag's place."""
        return LaunchError(message, self.location)


def read_launch_file(path: Path) -> Element:
    """The `<launch>` element of a file. Raises LaunchError with file, line and tag."""
    if path.name.endswith((".py", ".yaml", ".yml")):
        raise LaunchError(f"{path}: only XML launch files are supported, use `ros2 launch` for this one")
    try:
        content = read_bytes(path, TEXT_LIMIT)
    except FileError as error:
        raise LaunchError(f"cannot read launch file {error}") from error
    root = _TreeBuilder(printable(path)).build(content)
    if root.tag != "launch":
        raise LaunchError("expected <launch> as the outermost tag", root.location(str(path)))
    return _checked(root, str(path), schema.ROOT)


class LaunchFiles:
    """The files of one launch: each is read once, and includes are counted."""

    def __init__(self) -> None:
        self._files: dict[Path, tuple[Element, int]] = {}
        self._includes = 0
        self._tags = 0

    def read(self, path: Path) -> Element:
        """Read a file as `read_launch_file` does. Raises LaunchError, also for more files or tags than the limits."""
        self._includes += 1
        if self._includes > INCLUDE_LIMIT:
            raise LaunchError(f"{path}: more than {INCLUDE_LIMIT} includes in one launch; do files include each other?")
        if path not in self._files:
            root = read_launch_file(path)
            self._files[path] = root, _tags(root)
        root, tags = self._files[path]
        self._tags += tags
        if self._tags > TOTAL_LIMIT:
            raise LaunchError(f"{path}: more than {TOTAL_LIMIT} tags in one launch; do files include each other?")
        return root


def _tags(element: Element) -> int:
    return 1 + sum(_tags(child) for child in element.children)


@dataclass
class _Raw:
    """A tag as the XML parser reports it."""

    tag: str
    line: int
    attributes: dict[str, str]
    children: list[_Raw]

    def location(self, file: str) -> Location:
        return Location(file, self.line, self.tag)


class _TreeBuilder:
    """Builds the tree through expat, because ElementTree forgets line numbers."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._open: list[_Raw] = []
        self._root: _Raw | None = None
        self._count = 0
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.StartDoctypeDeclHandler = self._doctype

    def build(self, content: bytes) -> _Raw:
        try:
            self._parser.Parse(content, True)
        except expat.ExpatError as error:
            reason = expat.errors.messages[error.code]
            raise LaunchError(f"{self._file}:{error.lineno}: not well-formed XML: {reason}") from error
        except (LookupError, ValueError) as error:  # from Python's codecs
            raise LaunchError(f"{self._file}: expected XML in UTF-8, found another encoding: {error}") from error
        if self._root is None:
            raise LaunchError(f"{self._file}: not well-formed XML: no element")
        return self._root

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        element = _Raw(tag, self._parser.CurrentLineNumber, attributes, [])
        self._count += 1
        if self._count > ELEMENT_LIMIT:
            raise LaunchError(f"more than {ELEMENT_LIMIT} tags", element.location(self._file))
        if len(self._open) >= DEPTH_LIMIT:
            raise LaunchError(f"tags nested more than {DEPTH_LIMIT} deep", element.location(self._file))
        if self._open:
            self._open[-1].children.append(element)
        else:
            self._root = element
        self._open.append(element)

    def _end(self, tag: str) -> None:
        self._open.pop()

    def _text(self, text: str) -> None:
        if text.strip():
            raise LaunchError(
                f"text outside of attributes has no meaning in a launch file: '{text.strip()}'",
                Location(self._file, self._parser.CurrentLineNumber, self._open[-1].tag),
            )

    def _doctype(self, name: str, *_: object) -> None:
        raise LaunchError(f"{self._file}:{self._parser.CurrentLineNumber}: a DOCTYPE is not supported")


def _checked(raw: _Raw, file: str, allowed: Schema) -> Element:
    location = raw.location(file)
    known = allowed.required | allowed.optional
    for name in raw.attributes:
        if name not in known:
            raise LaunchError(f"attribute '{name}' is not supported here{_alternatives(name, known)}", location)
    for name in sorted(allowed.required):
        if name not in raw.attributes:
            raise LaunchError(f"attribute '{name}' is missing", location)
    if {"if", "unless"} <= raw.attributes.keys():
        raise LaunchError("expected one of 'if' and 'unless', found both", location)
    templates: dict[str, Template] = {}
    literals: dict[str, Value] = {}
    for name, text in raw.attributes.items():
        try:
            if name in allowed.literals:
                literals[name] = coerce(text, allowed.literals[name])
            else:
                templates[name] = parse_template(text)
                check(templates[name])
        except (SubstitutionSyntaxError, SubstitutionError, ValueError) as error:
            raise LaunchError(f"attribute '{name}': {error}", location) from error
    children = tuple(_checked_child(raw, child, file, allowed) for child in raw.children)
    return Element(raw.tag, location, raw.attributes, templates, literals, children)


def _checked_child(parent: _Raw, child: _Raw, file: str, allowed: Schema) -> Element:
    if child.tag in allowed.nested:
        return _checked(child, file, schema.NESTED[parent.tag, child.tag])
    if allowed.holds_actions and child.tag in schema.ACTIONS:
        return _checked(child, file, schema.ACTIONS[child.tag])
    known = allowed.nested | (schema.ACTIONS.keys() if allowed.holds_actions else frozenset())
    message = f"tag <{child.tag}> is not supported in <{parent.tag}>{_alternatives(child.tag, known)}"
    raise LaunchError(message, child.location(file))


def _alternatives(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f", did you mean '{close[0]}'?"
    return f"; supported are {', '.join(names)}" if names else ""
