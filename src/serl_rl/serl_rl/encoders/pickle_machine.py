# SPDX-License-Identifier: Apache-2.0
"""Reads pickles without unpickling them.

A pickle is a program that may call anything. This machine interprets the few instructions that pickled dictionaries of
arrays consist of, imports nothing, calls nothing, and refuses every other instruction. What a name stands for, and what
a call of it makes, say those who know a kind of file.
"""

from __future__ import annotations

import pickletools
from collections.abc import Mapping
from typing import Any, BinaryIO, ClassVar, Final

MAX_INSTRUCTIONS: Final = 200_000
MAX_KEY: Final = 200

_CONSTANTS: Final = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES: Final = (
    "BININT",
    "BININT1",
    "BININT2",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINBYTES",
    "SHORT_BINBYTES",
    "BINBYTES8",
    "BYTEARRAY8",
)
_TUPLES: Final = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class Refused(Exception):
    """A pickle holds something else than what is read from it; the message says what."""


def kind_of(value: object) -> str:
    """What a value is, in few words: a hostile one may be too deep or long to be shown."""
    return f"a value of type {type(value).__name__.lstrip('_')}"


class PickleMachine:
    """The stack machine of pickle, of which only what arrays and dictionaries need is there."""

    most_instructions: ClassVar[int] = MAX_INSTRUCTIONS
    names: ClassVar[Mapping[str, object]] = {}
    """What a pickle may name, as "module attribute", and what stands for it here. Nothing of it is imported."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self, source: bytes | BinaryIO) -> object:
        """The tree in `source`; of an open file, that of the pickle that begins where it stands, and no byte more.

        Raises:
            Refused: it is damaged, or holds an instruction, a name or a call that is not known here.
        """
        instructions = pickletools.genops(source)
        for _ in range(self.most_instructions):
            try:
                instruction, argument, position = next(instructions)
            except StopIteration:
                raise Refused("no end") from None
            except (ValueError, OverflowError, MemoryError) as error:
                raise Refused(f"what is not a pickle ({error!s:.80})") from None
            if instruction.name == "STOP":
                if len(self.stack) != 1:
                    raise Refused(f"{len(self.stack)} values at its end")
                return self.stack[0]
            try:
                self.step(instruction.name, argument)
            except (IndexError, KeyError):
                raise Refused(f"{instruction.name} at byte {position} without what it works on") from None
        raise Refused(f"more than {self.most_instructions} instructions")

    def step(self, name: str, argument: Any) -> None:
        """Do one instruction. Raises Refused, or IndexError or KeyError where the stack or the memo lacks something."""
        stack = self.stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name in _TUPLES:
            stack.append(tuple(self.pop(_TUPLES[name])))
        elif name == "MARK":
            self._marks.append(len(stack))
        elif name == "TUPLE":
            stack.append(tuple(self.pop_to_mark()))
        elif name in ("SETITEM", "SETITEMS"):
            self._set_items(self.pop(2) if name == "SETITEM" else self.pop_to_mark())
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self._memo[len(self._memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name == "GLOBAL":
            stack.append(self._named(argument))
        elif name == "STACK_GLOBAL":
            module, attribute = self.pop(2)
            stack.append(self._named(f"{module} {attribute}" if isinstance(module, str) else "no text"))
        elif name == "REDUCE":
            function, arguments = self.pop(2)
            stack.append(self.reduce(function, arguments))
        elif name == "BUILD":
            (state,) = self.pop(1)
            self.build(stack[-1], state)
        elif name not in ("PROTO", "FRAME"):
            raise Refused(f"the instruction {name}")

    def reduce(self, function: object, arguments: object) -> object:
        """What a call makes, of one of `names` if it is a call that is known. Raises Refused if not."""
        raise Refused(f"a call of {kind_of(function)} with {kind_of(arguments)}")

    def build(self, target: object, state: object) -> None:
        """Set the state of something that a call made. Raises Refused where it has none."""
        raise Refused(f"a state of {kind_of(target)}, {kind_of(state)}")

    def pop(self, count: int) -> list[Any]:
        """The topmost values; raises IndexError where fewer lie above the last mark."""
        floor = self._marks[-1] if self._marks else 0
        if len(self.stack) - count < floor:
            raise IndexError
        values = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return values

    def pop_to_mark(self) -> list[Any]:
        """The values above the last mark, which is gone then."""
        values = self.stack[self._marks[-1] :]
        del self.stack[self._marks.pop() :]
        return values

    def _named(self, name: str) -> object:
        if name not in self.names:
            raise Refused(f"the name {name[:80]!r}")
        return self.names[name]

    def _set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise Refused(f"items set in {kind_of(target)}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str) or len(key) > MAX_KEY:
                raise Refused(f"{kind_of(key)} as a key")
            target[key] = value
