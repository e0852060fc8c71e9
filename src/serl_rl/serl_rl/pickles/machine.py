# SPDX-License-Identifier: Apache-2.0
"""Reads pickles without unpickling them.

A pickle is a program that may call anything. This machine interprets the few instructions that pickled dictionaries of
arrays consist of, imports nothing, calls nothing, and refuses every other instruction. What a name stands for, and what
a call of it makes, say those who know a kind of file.
"""

from __future__ import annotations

import io
import mmap
import pickletools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, ClassVar, Final

MAX_INSTRUCTIONS: Final = 200_000
MAX_KEY: Final = 200

_LONGEST_ARGUMENT: Final = 1000  # bytes of a name

_CODES: Final = {instruction.name: ord(instruction.code) for instruction in pickletools.opcodes}
_INSTRUCTIONS: Final = {ord(instruction.code): instruction for instruction in pickletools.opcodes}
_CONSTANTS: Final = {_CODES["NONE"]: None, _CODES["NEWTRUE"]: True, _CODES["NEWFALSE"]: False}
_TUPLES: Final = {_CODES["TUPLE1"]: 1, _CODES["TUPLE2"]: 2, _CODES["TUPLE3"]: 3}
_SIZES: Final = {
    _CODES[name]: size
    for name, size in {
        "SHORT_BINBYTES": 1,
        "BINBYTES": 4,
        "BINBYTES8": 8,
        "BYTEARRAY8": 8,
        "SHORT_BINUNICODE": 1,
        "BINUNICODE": 4,
    }.items()
}
"""Instructions that begin with a size, little-endian of so many bytes, and then have so many bytes of content."""
_TEXTS: Final = frozenset({_CODES["SHORT_BINUNICODE"], _CODES["BINUNICODE"]})

_BINGET, _LONG_BINGET = _CODES["BINGET"], _CODES["LONG_BINGET"]
_MEMOIZE, _BINPUT, _LONG_BINPUT = _CODES["MEMOIZE"], _CODES["BINPUT"], _CODES["LONG_BINPUT"]
_BININT, _BININT1, _BININT2 = _CODES["BININT"], _CODES["BININT1"], _CODES["BININT2"]
_MARK, _TUPLE, _REDUCE, _BUILD, _STOP = (_CODES[name] for name in ("MARK", "TUPLE", "REDUCE", "BUILD", "STOP"))
_BYTEARRAY8: Final = _CODES["BYTEARRAY8"]


class Refused(Exception):
    """A pickle holds something else than what is read from it; the message says what."""


def kind_of(value: object) -> str:
    """What a value is, in few words: a hostile one may be too deep or long to be shown."""
    return f"a value of type {type(value).__name__.lstrip('_')}"


class PickleMachine:
    """The stack machine of pickle, of which only what arrays, numbers, lists and dictionaries need is there."""

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
        if isinstance(source, bytes):
            return self._run(source, 0)[0]
        begin = source.tell()
        with _content(source) as content:
            tree, end = self._run(content, begin)
        source.seek(end)
        return tree

    def _run(self, data: bytes | mmap.mmap, position: int) -> tuple[object, int]:
        """The tree of the pickle that begins at a position, and the position behind it."""
        stack, memo, marks = self.stack, self._memo, self._marks
        for _ in range(self.most_instructions):
            at = position
            try:
                code = data[position]
                position += 1
                # What pickles of arrays are made of stands here, the most frequent first; everything else in `step`.
                if code == _BINGET:
                    stack.append(memo[data[position]])
                    position += 1
                elif code == _MEMOIZE:
                    memo[len(memo)] = stack[-1]
                elif code == _BININT1:
                    stack.append(data[position])
                    position += 1
                elif code in _TUPLES:
                    stack.append(tuple(self.pop(_TUPLES[code])))
                elif code in _SIZES:
                    begin = position + _SIZES[code]
                    position = begin + int.from_bytes(data[position:begin], "little")
                    content = data[begin:position]
                    if position > len(data):
                        raise Refused(f"what is not a pickle (it ends within {position - begin} bytes of content)")
                    if code in _TEXTS:
                        stack.append(str(content, "utf-8", "surrogatepass"))
                    else:
                        stack.append(bytearray(content) if code == _BYTEARRAY8 else content)
                elif code == _MARK:
                    marks.append(len(stack))
                elif code == _TUPLE:
                    stack.append(tuple(self.pop_to_mark()))
                elif code == _REDUCE:
                    function, arguments = self.pop(2)
                    stack.append(self.reduce(function, arguments))
                elif code == _BUILD:
                    (state,) = self.pop(1)
                    self.build(stack[-1], state)
                elif code in _CONSTANTS:
                    stack.append(_CONSTANTS[code])
                elif code == _LONG_BINGET:
                    stack.append(memo[int.from_bytes(data[position : position + 4], "little")])
                    position += 4
                elif code in (_BINPUT, _LONG_BINPUT):
                    width = 1 if code == _BINPUT else 4
                    memo[int.from_bytes(data[position : position + width], "little")] = stack[-1]
                    position += width
                elif code in (_BININT, _BININT2):
                    width = 4 if code == _BININT else 2
                    value = int.from_bytes(data[position : position + width], "little", signed=code == _BININT)
                    stack.append(value)
                    position += width
                elif code == _STOP:
                    if len(stack) != 1:
                        raise Refused(f"{len(stack)} values at its end")
                    return stack[0], position
                else:
                    argument, position = _argument(data, code, position)
                    self.step(_INSTRUCTIONS[code].name, argument)
            except (IndexError, KeyError):
                if position >= len(data):
                    raise Refused("no end") from None
                name = _INSTRUCTIONS[code].name if code in _INSTRUCTIONS else f"{code:#x}"
                raise Refused(f"{name} at byte {at} without what it works on") from None
            except (ValueError, OverflowError, MemoryError) as error:
                raise Refused(f"what is not a pickle ({error!s:.80})") from None
        raise Refused(f"more than {self.most_instructions} instructions")

    def step(self, name: str, argument: Any) -> None:
        """Do one of the less frequent instructions.

        Raises Refused where it is not known, or IndexError or KeyError where the stack or the memo lacks something.
        """
        stack = self.stack
        if name == "EMPTY_DICT":
            stack.append({})
        elif name == "EMPTY_TUPLE":
            stack.append(())
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name in ("APPEND", "APPENDS"):
            items = self.pop(1) if name == "APPEND" else self.pop_to_mark()
            if not isinstance(stack[-1], list):
                raise Refused(f"items appended to {kind_of(stack[-1])}")
            stack[-1].extend(items)
        elif name in ("LONG1", "BINFLOAT"):
            stack.append(argument)
        elif name in ("SETITEM", "SETITEMS"):
            self._set_items(self.pop(2) if name == "SETITEM" else self.pop_to_mark())
        elif name == "GLOBAL":
            stack.append(self._named(argument))
        elif name == "STACK_GLOBAL":
            module, attribute = self.pop(2)
            stack.append(self._named(f"{module} {attribute}" if isinstance(module, str) else "no text"))
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


@contextmanager
def _content(file: BinaryIO) -> Iterator[bytes | mmap.mmap]:
    """All of a file, without reading what nobody asks for where it lies on a disk."""
    try:
        number = file.fileno()
    except io.UnsupportedOperation:
        begin = file.tell()
        file.seek(0)
        content = file.read()
        file.seek(begin)
        yield content
        return
    try:
        mapped = mmap.mmap(number, 0, access=mmap.ACCESS_READ)
    except (ValueError, OSError) as error:  # an empty file
        raise Refused(f"what is not a pickle ({error})") from None
    with mapped:
        yield mapped


def _argument(data: bytes | mmap.mmap, code: int, position: int) -> tuple[Any, int]:
    """What follows a rare instruction, and the position behind it. Raises ValueError where there is none."""
    if code not in _INSTRUCTIONS:
        raise Refused(f"what is not a pickle (at position {position - 1}, opcode {bytes([code])!r} unknown)")
    argument = _INSTRUCTIONS[code].arg
    if argument is None:
        return None, position
    window = io.BytesIO(data[position : position + _LONGEST_ARGUMENT])
    value = argument.reader(window)
    return value, position + window.tell()
