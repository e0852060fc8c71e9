# SPDX-License-Identifier: Apache-2.0
"""YAML that anybody may have written: text, numbers, true, false, null, lists and mappings, and no more than a budget.

`parse_yaml` reads it as YAML 1.2 has it where 1.1 surprises: `1e-3` is a number, `12:30` is text. What looks like a
date has to be quoted.
`parse_upstream_yaml` reads what ROS 2's own launch and PyYAML's `safe_dump` mean, with the same budget.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from serl_config.files import TEXT_LIMIT, read_text
from serl_config.text import printable, shown

VALUE_LIMIT = 10_000
"""Most keys and values in a document, aliases written out."""
DEPTH_LIMIT = 32
"""Most lists and mappings within each other."""
NUMBER_LIMIT = 400
"""Longest number [characters]."""

_PREFIX = "tag:yaml.org,2002:"
_TEXT_TAG, _NUMBERS = f"{_PREFIX}str", ("int", "float", "bool")
_IMPLICIT = ("null", "bool", "merge", "timestamp")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


class YamlError(ValueError):
    """Text that is not the YAML that is read here. The message is one line and names the source, and mostly a line."""


def read_yaml_file(path: Path | str) -> tuple[Any, yaml.Node | None]:
    """Content of a YAML file and its node tree, for line numbers; None and None of an empty one.

    Raises:
        FileError: the file cannot be read.
        YamlError: it is no such YAML, or more than the budget allows.
    """
    return _load(read_text(path), printable(path), _StrictLoader)


def parse_yaml(text: str, source: str) -> Any:
    """What a YAML text holds; `source` names it in errors. Raises YamlError."""
    return _load(text, source, _StrictLoader)[0]


def parse_upstream_yaml(text: str, source: str) -> Any:
    """What a YAML text holds by the rules of PyYAML's `safe_load`, which ROS 2's launch uses. Raises YamlError."""
    return _load(text, source, _BoundedLoader)[0]


def compose_yaml(text: str, source: str) -> yaml.Node | None:
    """Node tree of a YAML text, for those who want its places. Raises YamlError."""
    return _load(text, source, _StrictLoader)[1]


def _load(text: str, source: str, kind: type["_BoundedLoader"]) -> tuple[Any, yaml.Node | None]:
    if len(text) > TEXT_LIMIT:
        raise YamlError(f"{source}: expected at most {TEXT_LIMIT} characters, found {len(text)}")
    try:
        loader = kind(text)
    except yaml.YAMLError as error:
        raise YamlError(f"{source}: not valid YAML: {printable(_one_line(error))}") from error
    try:
        node = loader.get_single_node()
        if node is None:
            return None, None
        _check_expanded(node)
        return loader.construct_document(node), node
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise YamlError(f"{source}{line}: not valid YAML: {printable(error.problem or error.context)}") from error
    except yaml.YAMLError as error:
        raise YamlError(f"{source}: not valid YAML: {printable(_one_line(error))}") from error
    finally:
        loader.dispose()


def _one_line(error: yaml.YAMLError) -> str:
    return " ".join(str(error).split())


class _BoundedLoader(yaml.SafeLoader):
    """SafeLoader that counts while it composes, and in which every bad value is an error of YAML with its place."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        mark = self.peek_event().start_mark
        self._nodes += 1
        self._depth += 1
        if self._nodes > VALUE_LIMIT:
            raise _problem(f"more than {VALUE_LIMIT} keys and values", mark)
        if self._depth > DEPTH_LIMIT:
            raise _problem(f"lists or mappings nested more than {DEPTH_LIMIT} deep", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Scalars whose text does not fit their tag end in many kinds of errors."""
        if not isinstance(node, yaml.ScalarNode):
            return super().construct_object(node, deep)
        kind = node.tag.removeprefix(_PREFIX)
        if kind in ("int", "float") and len(node.value) > NUMBER_LIMIT:
            raise _problem(f"a number of more than {NUMBER_LIMIT} characters", node.start_mark)
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:
            raise _problem(f"expected {printable(kind)}, found {node.value[:80]!r}", node.start_mark) from error


class _StrictLoader(_BoundedLoader):
    """Text as keys, each once; no tags but those of plain values; no control characters."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key_node.tag == f"{_PREFIX}merge":
                raise _problem("merge keys (<<) are not supported; write the keys out", key_node.start_mark)
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _problem(f"expected text as a key, found {shown(key)} (quote it)", key_node.start_mark)
            if printable(key) != key:
                raise _problem(f"expected a key of visible characters, found {key[:80]!r}", key_node.start_mark)
            if key in seen:
                raise _problem(f"key {key!r} is there twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_text(self, node: yaml.ScalarNode) -> str:
        """Text, in which a control character would go on into names of files and messages."""
        text = str(self.construct_scalar(node))
        if found := _CONTROL.search(text):
            raise _problem(f"text with the control character {printable(found[0])}", node.start_mark)
        return text

    def refuse_date(self, node: yaml.ScalarNode) -> None:
        """What looks like a date would be none of our values."""
        raise _problem(f"expected text or a number, found date {node.value!r} (quote it)", node.start_mark)

    def refuse(self, node: yaml.Node) -> None:
        """What has a tag that means nothing here."""
        raise _problem(f"the tag {printable(node.tag.replace(_PREFIX, '!!'), 80)} is not supported", node.start_mark)


_StrictLoader.yaml_constructors = {
    tag: constructor
    for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
    if tag in {f"{_PREFIX}{kind}" for kind in ("null", "seq", "map", *_NUMBERS)}
}
_StrictLoader.add_constructor(_TEXT_TAG, _StrictLoader.construct_text)
_StrictLoader.add_constructor(f"{_PREFIX}timestamp", _StrictLoader.refuse_date)
_StrictLoader.add_constructor(None, _StrictLoader.refuse)
_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.removeprefix(_PREFIX) in _IMPLICIT]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_StrictLoader.add_implicit_resolver(
    f"{_PREFIX}int",
    re.compile(r"^(?:[-+]?0b[01_]+|[-+]?0x[0-9a-fA-F_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*))$"),
    list("-+0123456789"),
)
_StrictLoader.add_implicit_resolver(
    f"{_PREFIX}float",
    re.compile(
        r"^(?:[-+]?(?:[0-9]+\.[0-9]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


def _check_expanded(root: yaml.Node) -> None:
    """Refuse aliases that stand for too much or for what they are in: what is read later has no aliases any more."""
    sizes: dict[int, int] = {}
    depths: dict[int, int] = {}
    open_nodes: set[int] = set()
    waiting: list[tuple[yaml.Node, bool]] = [(root, False)]
    while waiting:
        node, done = waiting.pop()
        name = id(node)
        parts = _parts(node)
        if done:
            open_nodes.discard(name)
            sizes[name] = 1 + sum(sizes[id(part)] for part in parts)
            depths[name] = 1 + max((depths[id(part)] for part in parts), default=0)
            if sizes[name] > VALUE_LIMIT:
                raise _problem(f"more than {VALUE_LIMIT} keys and values with all aliases written out", node.start_mark)
            if depths[name] > DEPTH_LIMIT:
                raise _problem(f"lists or mappings nested more than {DEPTH_LIMIT} deep by aliases", node.start_mark)
        elif name not in sizes:
            if name in open_nodes:
                raise _problem("an alias of what it stands in", node.start_mark)
            open_nodes.add(name)
            waiting.append((node, True))
            waiting += [(part, False) for part in parts]


def _parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _problem(text: str, mark: yaml.Mark | None) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, text, mark)
