# SPDX-License-Identifier: Apache-2.0
"""Definitions of messages as text, with those that they are made of, as rosbag2 writes them beside what it records."""

import re
from functools import cache
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

_FIELD = re.compile(r"^\s*([A-Za-z][A-Za-z0-9_/]*)(?:<=\d+)?(?:\[[^\]]*\])?\s+[A-Za-z]", re.MULTILINE)
_WHOLE_NUMBERS = tuple(f"{sign}int{size}" for sign in ("", "u") for size in (8, 16, 32, 64))
_BUILT_IN = frozenset(("bool", "byte", "char", "float32", "float64", "string", "wstring", *_WHOLE_NUMBERS))
_SEPARATOR = "=" * 80


class DefinitionError(ValueError):
    """A type whose definition is not installed."""


@cache
def definition_text(name: str) -> str:
    """The definition of a type of messages, such as ``sensor_msgs/msg/Image``, and behind it those that it needs.

    Raises:
        DefinitionError: it is not installed, as where only its Python module is.
    """
    package, _, message = name.replace("/msg/", "/").partition("/")
    texts = {f"{package}/{message}": _text(package, message)}
    waiting = [(package, texts[f"{package}/{message}"])]
    while waiting:
        package, text = waiting.pop()
        for found in _FIELD.findall(re.sub(r"#.*", "", text)):
            if found in _BUILT_IN:
                continue
            of, _, part = found.replace("/msg/", "/").rpartition("/")
            of = of or package
            if f"{of}/{part}" not in texts:
                texts[f"{of}/{part}"] = _text(of, part)
                waiting.append((of, texts[f"{of}/{part}"]))
    first, *rest = texts.items()
    return "\n".join([first[1], *(f"{_SEPARATOR}\nMSG: {needed}\n{text}" for needed, text in rest)])


def _text(package: str, message: str) -> str:
    try:
        path = Path(get_package_share_directory(package)) / "msg" / f"{message}.msg"
        return path.read_text(encoding="utf-8")
    except (PackageNotFoundError, OSError, ValueError) as error:
        raise DefinitionError(f"{package}/msg/{message}: its definition is not installed") from error
