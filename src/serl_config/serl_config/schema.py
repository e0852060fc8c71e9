# SPDX-License-Identifier: Apache-2.0
"""Strict YAML files as frozen dataclasses.

A configuration class is declared with `@config`, its values with plain annotations or `Field(default, ge=..., le=...,
description=...)`. `load_yaml` accepts exactly what the class declares: a key that is unknown, missing, doubled, of
another type or out of range is a `ConfigError` that names file, line and key, and says what was expected.
"""

import difflib
import json
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, dataclass_transform, get_args, get_origin

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass, is_pydantic_dataclass

from serl_config.files import FileError
from serl_config.strict_yaml import YamlError, read_yaml_file
from serl_config.text import printable, shown

__all__ = [
    "ConfigError",
    "Field",
    "build",
    "config",
    "line_at",
    "load_yaml",
    "model_validator",
    "read_yaml",
    "suggestion",
]

T = TypeVar("T")
Location = tuple[int | str, ...]

_SHOWN_PROBLEMS = 10


class ConfigError(ValueError):
    """A configuration does not say what its class expects."""


@dataclass_transform(frozen_default=True, field_specifiers=(Field,))
def config(cls: type[T] | None = None, *, kw_only: bool = False) -> Any:
    """Class decorator: a frozen dataclass that checks its values and refuses unknown names, NaN and infinity."""

    def decorate(cls: type[T]) -> type[T]:
        settings = ConfigDict(extra="forbid", allow_inf_nan=False)
        return dataclass(cls, frozen=True, kw_only=kw_only, config=settings)  # type: ignore[return-value]

    return decorate if cls is None else decorate(cls)


def load_yaml(path: Path | str, cls: type[T]) -> T:
    """The file as an instance of `cls`.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or does not fit `cls`.
    """
    data, root = read_yaml(path)
    source = printable(path)
    return build(cls, data, source, lambda location: f"{source}:{line_at(root, location)}")


def read_yaml(path: Path | str) -> tuple[dict[str, Any], yaml.Node]:
    """Content of a YAML mapping and its node tree (for line numbers). Raises ConfigError."""
    try:
        data, node = read_yaml_file(path)
    except (FileError, YamlError) as error:
        raise ConfigError(str(error)) from error
    if not isinstance(data, dict) or node is None:
        raise ConfigError(f"{printable(path)}: expected a mapping of keys to values, found {shown(data)}")
    return data, node


def build(cls: type[T], data: dict[str, Any], source: str, place: Callable[[Location], str] | None = None) -> T:
    """`data` as an instance of `cls`.

    Args:
        cls: a class declared with `@config`.
        data: its values.
        source: where they came from, for errors.
        place: the same of the value at a location, where that is known more exactly: `file:line`.

    Raises:
        ConfigError: `data` does not fit `cls`; the first ten problems are named, one a line.
    """
    try:
        # JSON mode is strict about types and still reads a sequence as a tuple.
        return TypeAdapter(cls).validate_json(json.dumps(_whole(data), default=_refuse), strict=True)
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems = [_problem(cls, dict(detail)) for detail in details[:_SHOWN_PROBLEMS]]
        texts = [f"{place(location) if place else source}: {text}" for location, text in problems]
        if len(details) > _SHOWN_PROBLEMS:
            texts.append(f"{source}: and {len(details) - _SHOWN_PROBLEMS} problems more")
        raise ConfigError("\n".join(texts)) from error
    except TypeError as error:
        raise ConfigError(f"{source}: {error}") from error


def _whole(value: Any) -> Any:
    """The value with `1e5` as the whole number that it is: fields for whole numbers take no other."""
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


class FieldInfo(NamedTuple):
    """What a configuration class says of one of its fields."""

    name: str
    description: str
    range: tuple[float, float] | None  # inclusive; a strict bound is shown as its limit


def fields(cls: type) -> tuple[FieldInfo, ...]:
    """Fields of a `@config` class."""
    infos = []
    for name, field in cls.__pydantic_fields__.items():  # type: ignore[attr-defined]
        low = [getattr(bound, kind) for bound in field.metadata for kind in ("ge", "gt") if hasattr(bound, kind)]
        high = [getattr(bound, kind) for bound in field.metadata for kind in ("le", "lt") if hasattr(bound, kind)]
        infos.append(FieldInfo(name, field.description or "", (low[0], high[0]) if low and high else None))
    return tuple(infos)


def suggestion(name: str, known: Sequence[str]) -> str:
    """`; did you mean 'x'?`, or the known names when none is close."""
    return nearest(name, known) or ("; known: " + ", ".join(sorted(known)) if known else "")


def nearest(name: str, known: Sequence[str]) -> str:
    """`; did you mean 'x'?`, for behind a list of names; empty when none is close."""
    close = difflib.get_close_matches(name, known, n=2)
    return "; did you mean " + " or ".join(repr(match) for match in close) + "?" if close else ""


def _problem(cls: type, detail: dict[str, Any]) -> tuple[Location, str]:
    location: Location = detail["loc"]
    key = printable(".".join(map(str, location)), 80)
    if detail["type"] == "unexpected_keyword_argument":
        return location, f"unknown key '{key}'" + suggestion(str(location[-1]), _keys_at(cls, location[:-1]))
    if detail["type"] == "missing":
        return location[:-1], f"missing key '{key}'"
    message = detail["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    if detail["type"] == "value_error":
        return location, f"'{key}': {message}" if key else message
    return location, f"'{key}': {message}, found {shown(detail['input'])}"


def _keys_at(cls: Any, location: Location) -> list[str]:
    """Names of the fields of the class that sits at `location` below `cls`."""
    for step in location:
        if get_origin(cls) in (types.UnionType,):
            cls = next((option for option in get_args(cls) if option is not types.NoneType), None)
        if isinstance(cls, type) and is_pydantic_dataclass(cls):
            field = cls.__pydantic_fields__.get(str(step))
            cls = field.annotation if field else None
        elif get_origin(cls) is dict:
            cls = get_args(cls)[1]
        elif get_origin(cls) in (tuple, list):
            cls = get_args(cls)[0]
        else:
            return []
    return list(cls.__pydantic_fields__) if isinstance(cls, type) and is_pydantic_dataclass(cls) else []


def line_at(node: yaml.Node, location: Location) -> int:
    """Line [1...] of the value at `location`, or of the innermost part of it that exists."""
    for step in location:
        child: yaml.Node | None = None
        if isinstance(node, yaml.MappingNode):
            child = next((value for key, value in node.value if key.value == str(step)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            child = node.value[step]
        if child is None:
            break
        node = child
    return int(node.start_mark.line) + 1


def _refuse(value: Any) -> Any:
    raise TypeError(f"expected text, number, true/false, list or mapping, found {shown(value)}")
