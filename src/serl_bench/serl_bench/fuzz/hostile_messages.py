# SPDX-License-Identifier: Apache-2.0
"""Messages that nobody should send: of any type, from its definition alone, or a real one with a few fields altered."""

import copy
import re
from array import array
from typing import Any

import numpy as np
from serl_launch.clients.message_text import message_class

_INTEGERS = {f"{sign}int{bits}": (sign == "", bits) for sign in ("", "u") for bits in (8, 16, 32, 64)}
_INTEGERS |= {"byte": (False, 8), "octet": (False, 8), "char": (False, 8)}
_FLOATS = ("float", "double", "float32", "float64")
_SEQUENCE = re.compile(r"sequence<(?P<kind>.+?)(?:, *(?P<most>\d+))?>$")
_FIXED = re.compile(r"(?P<kind>.+)\[(?P<count>\d+)\]$")
_TEXT = re.compile(r"w?string(?:<(?P<most>\d+)>)?$")

_TEXTS = (
    "",
    " ",
    "cube",
    "tcp",
    "panda_joint1",
    "rgb8",
    "16UC1",
    "jpeg",
    "panda_link0",
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "line\nbreak\r\n",
    "nul\x00nul",
    "\u202egnirts",
    "\u2028",
    "😀" * 8,
    "{}%s%n{0.__class__}",
    "[bold]rich[/]",
    "[/nothing]",
    "../../etc/passwd",
    "'; drop",
    "\ufeff\x7f\x85",
)
_LENGTHS = (0, 0, 1, 1, 2, 3, 4, 7, 8, 16, 17, 300)
_LONG = (5_000, 70_000)


class MessageMaker:
    """Makes messages, reproducibly."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def make(self, kind: type) -> Any:
        """A message of a class, with boundary values in all its fields."""
        message: Any = kind()
        for name, field in message.get_fields_and_field_types().items():
            setattr(message, name, self._value(field))
        return message

    def alter(self, message: Any, fields: int = 1) -> Any:
        """A copy of a message of which some fields, however deep, have other values."""
        altered = copy.deepcopy(message)
        for _ in range(fields):
            self._alter_one(altered)
        return altered

    def _alter_one(self, message: Any) -> None:
        fields = message.get_fields_and_field_types()
        if not fields:
            return
        name = self._choose(list(fields))
        value, field = getattr(message, name), fields[name]
        if hasattr(value, "get_fields_and_field_types"):
            self._alter_one(value)
        elif isinstance(value, list) and value and hasattr(value[0], "get_fields_and_field_types"):
            if self._rng.random() < 0.7:
                self._alter_one(self._choose(value))
            else:
                setattr(message, name, value[: self._rng.integers(0, len(value))])
        elif isinstance(value, (array, np.ndarray, list)) and len(value) and self._rng.random() < 0.7:
            self._alter_sequence(message, name, field)
        elif isinstance(value, int) and not isinstance(value, bool) and self._rng.random() < 0.5:
            signed, bits = _INTEGERS[field]
            value += int(self._choose((-1, 1, 2, 1000)))
            setattr(message, name, min(max(value, -(2 ** (bits - 1)) if signed else 0), 2 ** (bits - signed) - 1))
        else:
            setattr(message, name, self._value(field))

    def _alter_sequence(self, message: Any, name: str, field: str) -> None:
        """Another element, one too few or one too many."""
        values = list(getattr(message, name))
        match = _SEQUENCE.match(field) or _FIXED.match(field)
        assert match is not None
        kind, index = match["kind"], int(self._rng.integers(0, len(values)))
        choice = self._rng.random()
        if choice < 0.6 or _FIXED.match(field):
            values[index] = self._value(kind)
        elif choice < 0.8:
            del values[index]
        else:
            values.insert(index, self._value(kind))
        setattr(message, name, values)

    def _value(self, field: str) -> Any:
        if match := _SEQUENCE.match(field):
            return self._sequence(match["kind"], self._length(match))
        if match := _FIXED.match(field):
            return self._sequence(match["kind"], int(match["count"]))
        if match := _TEXT.match(field):
            text = self._text()
            return text if match["most"] is None else text[: int(match["most"])]
        if field == "boolean":
            return bool(self._rng.random() < 0.5)
        if field in _FLOATS:
            return self._float(field)
        if field == "octet" or field == "byte":
            return bytes([int(self._rng.integers(0, 256))])
        if field in _INTEGERS:
            return self._integer(*_INTEGERS[field])
        return self.make(message_class(field.replace("/", "/msg/", 1) if field.count("/") == 1 else field))

    def _sequence(self, kind: str, length: int) -> Any:
        if kind in _INTEGERS and kind not in ("byte", "octet", "char") and length > 32:
            signed, bits = _INTEGERS[kind]
            low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
            dtype = f"{'' if signed else 'u'}int{bits}"
            return array(np.dtype(dtype).char, self._rng.integers(low, high, length, dtype=dtype).tobytes())
        if kind in _FLOATS and length > 32:
            dtype = "float32" if kind in ("float", "float32") else "float64"
            return array(np.dtype(dtype).char, self._rng.standard_normal(length).astype(dtype).tobytes())
        if kind not in _INTEGERS and kind not in _FLOATS and not _TEXT.match(kind):
            length = min(length, 3)  # messages in messages in messages
        length = min(length, 500)
        return [self._value(kind) for _ in range(length)]

    def _length(self, match: re.Match[str]) -> int:
        length = int(self._choose(_LONG if self._rng.random() < 0.02 else _LENGTHS))
        return length if match["most"] is None else min(length, int(match["most"]))

    def _integer(self, signed: bool, bits: int) -> int:
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        values = [low, low + 1, 0, 1, 2, 3, high - 1, high, high // 2, 10**9 if bits > 30 else 10]
        return int(self._choose(values))

    def _float(self, field: str) -> float:
        values = [0.0, -0.0, 1.0, -1.0, 0.5, 1.0 + 1e-7, 1e3, np.inf, -np.inf, np.nan, 3e38, -3e38, 1e-45, 5e-324]
        if field in ("double", "float64"):
            values += [1e308, -1e308, 2.0**53, 2.0**63]
        return float(self._choose(values))

    def _text(self) -> str:
        choice = self._rng.random()
        if choice < 0.02:
            return str(self._choose(_TEXTS)) * int(self._rng.integers(1000, 20_000))
        if choice < 0.2:
            return "".join(chr(self._code_point()) for _ in range(int(self._rng.integers(1, 40))))
        return str(self._choose(_TEXTS))

    def _code_point(self) -> int:
        code = int(self._rng.integers(1, 0x11000 if self._rng.random() < 0.5 else 0x80))
        return 0x20 if 0xD800 <= code < 0xE000 else code  # surrogates are no UTF-8

    def _choose(self, values: Any) -> Any:
        return values[int(self._rng.integers(0, len(values)))]
