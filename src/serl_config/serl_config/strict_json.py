# SPDX-License-Identifier: Apache-2.0
"""JSON that anybody may have written."""

import json
import math
import re
from typing import Any

SIZE_LIMIT = 2**20
"""Largest text [bytes]."""
DEPTH_LIMIT = 64
"""Most arrays and objects within each other."""

_BRACKET_OR_STRING = re.compile(r'[\[\]{}]|"(?:[^"\\]++|\\.)*+"?', re.DOTALL)


class JsonError(ValueError):
    """Text that is not the JSON that is read here. The message is one line."""


def parse_json(text: str | bytes, *, size: int = SIZE_LIMIT, depth: int = DEPTH_LIMIT, finite: bool = True) -> Any:
    """What a JSON text holds.

    What JSON does not have but Python reads is refused: doubled keys, halves of characters and, with `finite`, NaN and
    infinite numbers.

    Raises:
        JsonError: it is no JSON in UTF-8, longer than `size`, or nested deeper than `depth`.
    """
    if len(text) > size:
        raise JsonError(f"expected JSON of at most {size} bytes, found {len(text)}")
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        _check_depth(text, depth)
        if finite:
            tree = json.loads(text, object_pairs_hook=_unique, parse_constant=_refused, parse_float=_finite)
        else:
            tree = json.loads(text, object_pairs_hook=_unique)
        if "\\u" in text:  # "\ud800" is half a character, and nothing that could be written again
            json.dumps(tree, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise JsonError(f"expected JSON in UTF-8, found byte {error.object[error.start]:#04x}") from error
    except UnicodeEncodeError as error:
        raise JsonError("not valid JSON: half of a character (a lone surrogate)") from error
    except JsonError:
        raise
    except ValueError as error:
        raise JsonError(f"not valid JSON: {error}") from error
    return tree


def _check_depth(text: str, most: int) -> None:
    """The parser itself goes as deep as the stack does."""
    level = 0
    for match in _BRACKET_OR_STRING.finditer(text):
        level += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match[0], 0)
        if level > most:
            raise JsonError(f"expected JSON nested at most {most} deep, found deeper")


def _refused(constant: str) -> None:
    raise JsonError(f"not valid JSON: found {constant}")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise JsonError(f"expected finite numbers, found {text[:40]}")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise JsonError(f"not valid JSON: key {key[:80]!r} is there twice")
        found[key] = value
    return found
