# SPDX-License-Identifier: Apache-2.0
"""Reads who may do what in a graph: `config/security/policy.xml`, in the format of SROS 2.

An **enclave** is what one executable may do: topics that it writes and reads, services that it offers and calls,
actions that it executes and asks for. What is not listed is denied. Names are relative to the namespace of the graph,
or begin with `/` and are the same for every graph of a domain; `*` stands for any text, slashes included, as in DDS
permissions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, NoReturn
from xml.parsers import expat

from serl_config.files import FileError, read_bytes
from serl_config.text import printable

from serl_config import resources

POLICY_FILE: Final = "config/security/policy.xml"
"""The policy of this workspace, below the folders of `serl_config.resources`."""
VERSION: Final = "0.2.0"
"""Version of the format that is read."""
BYTE_LIMIT: Final = 2**18
"""[bytes] of a file."""
TAG_LIMIT: Final = 10_000
"""Most tags of a policy with all that it includes."""
FILE_LIMIT: Final = 200
"""Most files that a policy includes, each counted as often as it is included."""

_DEPTH: Final = 8
_INCLUDE: Final = "http://www.w3.org/2001/XInclude include"
_CHILDREN_OF_PROFILE: Final = "xpointer(/profile/*)"
_PLACE: Final = re.compile(r"[a-z0-9_]+(/[a-z0-9_]+)*\.xml")
_PATH: Final = re.compile(r"(/[A-Za-z_][A-Za-z0-9_]*)+")
_NAMESPACE: Final = re.compile(r"/|(/[A-Za-z_][A-Za-z0-9_]*)+")
_NODE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\*?")
_NAME: Final = re.compile(r"(~/|/)?[A-Za-z0-9_*]+(/[A-Za-z0-9_*]+)*")


class PolicyError(ValueError):
    """A policy that cannot be used. The message is one line and names file, line, what was expected and found."""


class Access(Enum):
    """What may be done with a name."""

    PUBLISH = "publish"
    """Write a topic."""
    SUBSCRIBE = "subscribe"
    """Read a topic."""
    REPLY = "reply"
    """Offer a service."""
    REQUEST = "request"
    """Call a service."""
    EXECUTE = "execute"
    """Execute an action."""
    CALL = "call"
    """Ask for an action."""


_LISTS: Final = {
    "topics": ("topic", (Access.PUBLISH, Access.SUBSCRIBE)),
    "services": ("service", (Access.REPLY, Access.REQUEST)),
    "actions": ("action", (Access.EXECUTE, Access.CALL)),
}


@dataclass(frozen=True)
class Enclave:
    """What one executable may do, in all namespaces that its graph has within its own.

    Names are relative to the namespace of the graph (`arm/state`, `left/arm/state`), or absolute (`/tf`). Private names
    are written out with the node's.

    Attributes:
        path: `/` and the name of the executable.
        nodes: names of its nodes, relative to the namespace of the graph; `*` at the end stands for any text.
        publish: topics that it may write.
        subscribe: topics that it may read.
        reply: services that it may offer.
        request: services that it may call.
        execute: actions that it may execute.
        call: actions that it may ask for.
    """

    path: str
    nodes: tuple[str, ...]
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    reply: tuple[str, ...]
    request: tuple[str, ...]
    execute: tuple[str, ...]
    call: tuple[str, ...]

    def names(self, access: Access, namespace: str = "/") -> tuple[str, ...]:
        """Full names, in a graph whose namespace is `namespace`; they may hold `*`."""
        return tuple(in_namespace(name, namespace) for name in getattr(self, access.value))

    def allows(self, access: Access, name: str, namespace: str = "/") -> bool:
        """Whether this may be done with a full name (`/left/arm/state`), in a graph whose namespace is `namespace`.

        What an action is made of is judged as SROS 2 does: whoever executes it writes `_action/feedback` and
        `_action/status` and offers the services below `_action`, and whoever asks for it the other way round.
        """
        if any(fnmatchcase(name, pattern) for pattern in self.names(access, namespace)):
            return True
        action, found, _ = name.partition("/_action/")
        if not found:
            return False
        serves = access in (Access.PUBLISH, Access.REPLY)
        return self.allows(Access.EXECUTE if serves else Access.CALL, action, namespace)


def in_namespace(name: str, namespace: str) -> str:
    """The full name of a policy's relative or absolute one, in a graph whose namespace is `namespace`."""
    return name if name.startswith("/") else f"{namespace.rstrip('/')}/{name}"


def load_policy(path: Path | None = None) -> tuple[Enclave, ...]:
    """The enclaves of a policy, in the order of the file.

    Of XInclude it takes what policies of SROS 2 use: `<xi:include href="FILE" xpointer="xpointer(/profile/*)"/>` in a
    profile, with files beside or below its own, which include no more.

    Args:
        path: of the file; None: the workspace's own.

    Raises:
        PolicyError: a file that is missing, too large, no XML, or says what is not understood, such as a DENY rule.
    """
    if path is None:
        try:
            path = resources.find(POLICY_FILE)
        except resources.ResourceError as error:
            raise PolicyError(str(error)) from error
    return _Policy(path).enclaves()


@dataclass
class _Tag:
    name: str
    file: str
    line: int
    attributes: dict[str, str]
    text: str = ""
    children: list[_Tag] = field(default_factory=list)

    def fail(self, expected: str) -> NoReturn:
        tag = self.name.rpartition(" ")[2]
        raise PolicyError(printable(f"{self.file}:{self.line}: <{tag}>: {expected}"))


class _Policy:
    """A policy while it is read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tags = 0
        self._included: dict[str, _Tag] = {}
        self._includes = 0

    def enclaves(self) -> tuple[Enclave, ...]:
        policy = self._read(self._path)
        _expect(policy, "policy", {"version"})
        if policy.attributes["version"] != VERSION:
            policy.fail(f"expected version {VERSION}, found {policy.attributes['version']!r}")
        enclaves = []
        for group in policy.children:
            _expect(group, "enclaves", set())
            enclaves += [self._enclave(tag) for tag in group.children]
        paths = [enclave.path for enclave in enclaves]
        doubled = next((path for path in paths if paths.count(path) > 1), None)
        if doubled is not None:
            policy.fail(f"expected each enclave once, found {doubled} twice")
        if not enclaves:
            policy.fail("expected enclaves, found none")
        return tuple(enclaves)

    def _enclave(self, tag: _Tag) -> Enclave:
        _expect(tag, "enclave", {"path"})
        path = _match(tag, "path", _PATH, "an absolute path such as /arm_controller")
        nodes: list[str] = []
        names: dict[Access, list[str]] = {access: [] for access in Access}
        for profiles in tag.children:
            _expect(profiles, "profiles", set())
            for profile in profiles.children:
                _expect(profile, "profile", {"ns", "node"})
                namespace = _match(profile, "ns", _NAMESPACE, "a namespace such as / or /left")
                node = _match(profile, "node", _NODE, "the name of a node, which may end in *")
                before = namespace[1:] + "/" if namespace != "/" else ""
                nodes.append(before + node)
                for rule in self._rules(profile):
                    _take(rule, before, node, names)
        if not nodes:
            tag.fail("expected a profile, found none")
        return Enclave(path, _once(nodes), **{access.value: _once(names[access]) for access in Access})

    def _rules(self, profile: _Tag) -> Iterable[_Tag]:
        for rule in profile.children:
            if rule.name == _INCLUDE:
                included = self._include(rule).children
                for each in included:  # as often as it is included
                    self._count(rule, 1 + len(each.children))
                yield from included
            else:
                yield rule

    def _include(self, tag: _Tag) -> _Tag:
        _expect(tag, _INCLUDE, {"href", "xpointer"})
        place = _match(tag, "href", _PLACE, "a file beside or below this one, such as common/node.xml")
        if tag.attributes["xpointer"] != _CHILDREN_OF_PROFILE:
            tag.fail(f"expected xpointer {_CHILDREN_OF_PROFILE!r}, found {tag.attributes['xpointer']!r}")
        self._includes += 1
        if self._includes > FILE_LIMIT:
            tag.fail(f"expected at most {FILE_LIMIT} includes, found more")
        if place not in self._included:
            self._included[place] = self._read(self._path.parent / place)
            if self._included[place].name != "profile":
                self._included[place].fail("expected <profile> as the outermost tag of a file that is included")
        return self._included[place]

    def _count(self, tag: _Tag, more: int) -> None:
        self._tags += more
        if self._tags > TAG_LIMIT:
            tag.fail(f"expected at most {TAG_LIMIT} tags, found more")

    def _read(self, path: Path) -> _Tag:
        """The outermost tag of a file."""
        file = printable(path)
        try:
            content = read_bytes(path, BYTE_LIMIT)
        except FileError as error:
            raise PolicyError(str(error)) from error
        parser = expat.ParserCreate(namespace_separator=" ")
        outermost: list[_Tag] = []
        opened: list[_Tag] = []

        def start(name: str, attributes: dict[str, str]) -> None:
            tag = _Tag(name, file, parser.CurrentLineNumber, attributes)
            self._count(tag, 1)
            if len(opened) >= _DEPTH:
                tag.fail(f"expected tags at most {_DEPTH} deep, found more")
            (opened[-1].children if opened else outermost).append(tag)
            opened.append(tag)

        def text(part: str) -> None:
            opened[-1].text += part

        def refuse(*_: object) -> None:
            raise PolicyError(f"{file}:{parser.CurrentLineNumber}: expected no DOCTYPE and no entities, found one")

        parser.StartElementHandler = start
        parser.EndElementHandler = lambda _name: opened.pop()
        parser.CharacterDataHandler = text
        parser.StartDoctypeDeclHandler = refuse
        _parse(parser.Parse, content, file)
        return outermost[0]


def _parse(parse: Callable[[bytes, bool], object], content: bytes, file: str) -> None:
    try:
        parse(content, True)
    except expat.ExpatError as error:
        reason = expat.errors.messages[error.code]
        raise PolicyError(f"{file}:{error.lineno}: expected XML, found an error: {reason}") from error
    except PolicyError:
        raise
    except (LookupError, ValueError) as error:  # from Python's codecs
        raise PolicyError(printable(f"{file}: expected XML in UTF-8, found another encoding: {error}")) from error


def _take(rule: _Tag, before: str, node: str, names: dict[Access, list[str]]) -> None:
    """Add the names of `<topics>`, `<services>` or `<actions>`."""
    if rule.name not in _LISTS:
        rule.fail(f"expected <{'>, <'.join(_LISTS)}> or an include in a profile")
    child, possible = _LISTS[rule.name]
    words = {access.value: access for access in possible}
    _expect(rule, rule.name, set(), {*words})
    if not rule.attributes:
        rule.fail(f"expected {' or '.join(words)}, found neither")
    for word, value in rule.attributes.items():
        if value != "ALLOW":
            rule.fail(f"expected {word}='ALLOW', for what is not listed is denied, found {value!r}")
    if not rule.children:
        rule.fail(f"expected a <{child}>, found none")
    for tag in rule.children:
        _expect(tag, child, set(), text=True)
        name = tag.text.strip()
        if not _NAME.fullmatch(name):
            tag.fail(f"expected a name such as arm/state, ~/get_parameters or /tf, found {name!r}")
        if name.startswith("~/"):
            name = f"{before}{node}{name[1:]}"
        elif not name.startswith("/"):
            name = before + name
        for word in rule.attributes:
            names[words[word]].append(name)


def _expect(tag: _Tag, name: str, needed: set[str], possible: Iterable[str] = (), *, text: bool = False) -> None:
    """Raises PolicyError: the tag is another, lacks an attribute, or has something that is not understood."""
    if tag.name != name:
        tag.fail(f"expected <{name.rpartition(' ')[2]}> here")
    missing, unknown = needed - tag.attributes.keys(), tag.attributes.keys() - needed - {*possible}
    if missing:
        tag.fail(f"expected the attribute {min(missing)}, found none")
    if unknown:
        tag.fail(f"expected no attribute {min(unknown)!r}")
    if text and tag.children:
        tag.children[0].fail("expected a name, found a tag")
    if not text and tag.text.strip():
        tag.fail(f"expected tags, found the text {tag.text.strip()[:80]!r}")


def _match(tag: _Tag, attribute: str, pattern: re.Pattern[str], expected: str) -> str:
    value = tag.attributes[attribute]
    if not pattern.fullmatch(value):
        tag.fail(f"{attribute}: expected {expected}, found {value!r}")
    return value


def _once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
