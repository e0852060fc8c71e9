# SPDX-License-Identifier: Apache-2.0
"""Typed values: how text of a launch file becomes a bool, a number, a string or a list of these.

The rules are those of upstream's `launch.utilities.type_utils`: without a type the text is read as YAML, and a list
holds items of one type only (so `[1, 2.0]` is refused, not widened).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from serl_config.strict_yaml import YamlError, parse_upstream_yaml
from serl_config.text import printable

from serl_launch.language.substitutions import Call, Template, Text, parse_template

Scalar = bool | int | float | str
Value = Scalar | list[Scalar]
Evaluate = Callable[[Template], str]

_SCALARS: dict[str, type] = {"str": str, "bool": bool, "int": int, "float": float}
KINDS = (*_SCALARS, *(f"list_of_{name}" for name in _SCALARS), "yaml")


@dataclass(frozen=True)
class TypedTemplate:
    """The value of a parameter before its substitutions are known: a scalar, or a list, of literals and templates."""

    content: Scalar | Template | list[Scalar | Template]
    kind: str | None

    def templates(self) -> list[Template]:
        """The templates in it."""
        items = self.content if isinstance(self.content, list) else [self.content]
        return [item for item in items if isinstance(item, tuple)]

    def evaluate(self, evaluate: Evaluate) -> Value:
        """Perform the substitutions and type what they give. Raises ValueError."""
        if isinstance(self.content, tuple):
            return coerce(evaluate(self.content), self.kind)
        if not isinstance(self.content, list):
            return self.content
        kind = _item_kind(self.kind)
        items = [_scalar(coerce(evaluate(item), kind)) if isinstance(item, tuple) else item for item in self.content]
        _require_uniform(items)
        return items


def coerce(text: str, kind: str | None) -> Value:
    """Read `text` as `kind` (one of KINDS, None for YAML rules). Raises ValueError."""
    return _coerce(text, kind, keep_text=False)


def typed_template(text: str | Sequence[str], kind: str | None) -> TypedTemplate:
    """Read an attribute that may hold substitutions; a sequence of texts is a list split by the author.

    Literals are typed now, so that a wrong one is found when the file is read. Raises ValueError.
    """
    if kind == "yaml":
        kind = None
    if isinstance(text, str):
        value = _coerce(text, kind, keep_text=True)
    else:
        item_kind = _item_kind(kind)
        value = [_scalar(_coerce(item, item_kind, keep_text=True)) for item in text]
    if isinstance(value, list):
        return TypedTemplate(_parse_items(value, _item_kind(kind)), kind)
    parsed = _parse_text(value)
    if isinstance(parsed, str) and kind not in (None, "str"):
        raise ValueError(f"expected {kind}, found '{parsed}'")
    return TypedTemplate(parsed, kind)


def _parse_items(items: list[Scalar], kind: str | None) -> list[Scalar | Template]:
    parsed = [_parse_text(item) for item in items]
    literals = [item for item in parsed if not isinstance(item, tuple)]
    if kind not in (None, "str") and (not items or any(isinstance(item, str) for item in literals)):
        raise ValueError(f"expected a list of {kind}, found {items}")
    _require_uniform(literals)
    return parsed


def _parse_text(value: Scalar) -> Scalar | Template:
    if not isinstance(value, str):
        return value
    template = parse_template(value)
    if any(isinstance(part, Call) for part in template):
        return template
    return "".join(part.text for part in template if isinstance(part, Text))


def _coerce(text: str, kind: str | None, *, keep_text: bool) -> Value:
    """The value of a text. With keep_text, one that is not of the kind is kept: a substitution may still make it so."""
    if kind in (None, "yaml"):
        return _from_yaml(text, keep_text=keep_text)
    if kind.startswith("list_of_"):
        return _list_from_yaml(text, kind.removeprefix("list_of_"), keep_text=keep_text)
    if kind == "str":
        return text
    if kind in ("int", "float"):
        try:
            return int(text) if kind == "int" else float(text)
        except ValueError as error:
            if keep_text:
                return text
            raise ValueError(f"expected {kind}, found '{text}'") from error
    if kind == "bool":
        value = _from_yaml({"1": "true", "0": "false"}.get(text, text), keep_text=keep_text)
        if isinstance(value, bool) or (keep_text and isinstance(value, str)):
            return value
        raise ValueError(f"expected true or false, found '{text}'")
    raise ValueError(f"expected a type of {', '.join(KINDS)}, found '{kind}'")


def _from_yaml(text: str, *, keep_text: bool) -> Value:
    if not text:
        return text
    try:
        value = parse_upstream_yaml(text, "value")
    except YamlError as error:
        if keep_text:
            return text
        raise ValueError(
            f"'{printable(text, 80)}' is not valid YAML; give type=\"str\" if it is meant as text"
        ) from error
    if isinstance(value, list):
        _require_uniform(value, besides=(str,) if keep_text else ())
        return value
    if not isinstance(value, (bool, int, float, str)):
        raise ValueError(
            f"expected a bool, a number, text or a list of one of these, found '{text}' ({type(value).__name__});"
            ' give type="str" if it is meant as text'
        )
    return value


def _list_from_yaml(text: str, kind: str, *, keep_text: bool) -> Value:
    value = _from_yaml(text, keep_text=keep_text)
    allowed = (_SCALARS[kind], str) if keep_text else (_SCALARS[kind],)
    if not isinstance(value, list) or not all(type(item) in allowed for item in value):
        raise ValueError(f"expected a list of {kind} such as [a, b], found '{text}'")
    return value


def _require_uniform(items: Sequence[object], besides: tuple[type, ...] = ()) -> None:
    kinds = {type(item) for item in items if not isinstance(item, besides)}
    if not kinds <= {bool, int, float, str}:
        raise ValueError(f"expected a list of bools, numbers or texts, found {list(items)}")
    if len(kinds) > 1:
        raise ValueError(f"expected a list with items of one type, found {list(items)}")


def _item_kind(kind: str | None) -> str | None:
    if kind is None:
        return None
    if not kind.startswith("list_of_"):
        raise ValueError(f'the value is a list, but type="{kind}" is not')
    return kind.removeprefix("list_of_")


def _scalar(value: Value) -> Scalar:
    if isinstance(value, list):
        raise ValueError(f"expected a single value in a list, found {value}")
    return value
