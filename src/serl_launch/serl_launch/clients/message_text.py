# SPDX-License-Identifier: Apache-2.0
"""Messages as text: which class a type name means, and YAML as `ros2 topic echo` prints it."""

import array
import importlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import yaml
from serl_config.text import escaped

from serl_launch.errors import CommandError

SHORT_LENGTH = 128  # elements of a sequence, characters of a string; as in ros2 topic echo


def message_class(type_name: str) -> type:
    """The class of ``package/msg/Name``.

    Raises:
        CommandError: the name has another form, or this workspace does not have the type.
    """
    parts = type_name.split("/")
    if len(parts) != 3:
        raise CommandError(f"message type {type_name!r}: expected package/msg/Name")
    try:
        found: type = getattr(importlib.import_module(f"{parts[0]}.{parts[1]}"), parts[2])
    except (ImportError, AttributeError) as error:
        raise CommandError(f"message type {type_name} is not installed here ({error})") from error
    return found


def to_yaml(message: Any, longest: int | None = SHORT_LENGTH) -> str:
    """A message as YAML, a field a line in the order of its definition.

    Args:
        message: any ROS message.
        longest: sequences and strings are cut after so many elements; None: never.
    """
    text: str = yaml.dump(
        to_plain(message, longest), sort_keys=False, allow_unicode=True, default_flow_style=None, width=10**9
    )
    text = text.removesuffix("...\n")  # the end mark after a bare value
    # YAML escapes what commands a terminal, but not what turns its text round.
    return escaped(text, keep="\n")


def to_plain(value: Any, longest: int | None = SHORT_LENGTH) -> Any:
    """A message as dictionaries, lists and plain values."""
    if hasattr(value, "get_fields_and_field_types"):
        return {name: to_plain(getattr(value, name), longest) for name in value.get_fields_and_field_types()}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, bytes):
        return list(_cut(value, longest))
    if isinstance(value, str):
        return value if longest is None or len(value) <= longest else value[:longest] + "..."
    if isinstance(value, (np.ndarray, array.array)):
        return list(_cut(value.tolist(), longest))
    if isinstance(value, Sequence):
        return [to_plain(element, longest) for element in _cut(value, longest)]
    return value


def select(message: Any, path: str) -> Any:
    """The field of a message at a path such as ``header.stamp`` or ``poses[0].position``.

    Raises:
        CommandError: there is no such field.
    """
    value = message
    for part in path.replace("[", ".[").split("."):
        try:
            value = value[int(part[1:-1])] if part.startswith("[") else getattr(value, part)
        except (AttributeError, IndexError, ValueError, TypeError) as error:
            known = list(value.get_fields_and_field_types()) if hasattr(value, "get_fields_and_field_types") else []
            hint = f"; there are: {', '.join(known)}" if known else ""
            raise CommandError(f"no field {part!r} in {type(value).__name__}{hint}") from error
    return value


def _cut(values: Sequence[Any], longest: int | None) -> Iterator[Any]:
    yield from values if longest is None else values[:longest]
    if longest is not None and len(values) > longest:
        yield "..."
