# SPDX-License-Identifier: Apache-2.0
"""How much the pages of a Parquet file say they unpack to, read before any of them is unpacked.

What the footer says of a column need not be true, and a library makes room for what the head of a page says. A head is
a struct in Thrift's compact protocol (apache/parquet-format, parquet.thrift and Encodings.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, BinaryIO, Final

MAX_HEAD: Final = 2**20
"""[bytes] of a page's head: statistics may be long."""
MAX_PAGES: Final = 2**17
"""Most pages of a column in a group of rows."""
_FIRST_READ: Final = 512
_DEEPEST: Final = 8
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_INTEGERS: Final = (_I16, _I32, _I64)
_KIND, _UNPACKED, _PACKED, _DATA, _DICTIONARY, _DATA_V2 = 1, 2, 3, 5, 7, 8
_VALUES: Final = 1
_OF_DICTIONARY: Final = 2
_INNER: Final = {0: _DATA, _OF_DICTIONARY: _DICTIONARY, 3: _DATA_V2}
"""Which struct belongs to a kind of page; what others say is not looked at by anybody."""
_LARGEST_FIELD: Final = 2**15 - 1


class PageError(ValueError):
    """A page that cannot be one, or a head that cannot be read."""


class _Short(Exception):
    """The head goes on behind the bytes that were read."""


@dataclass(frozen=True)
class Pages:
    """What the heads of a column's pages say together.

    unpacked: [bytes] of all of them
    largest: [bytes] of the largest
    values: in pages of data, repeated ones counted
    """

    unpacked: int = 0
    largest: int = 0
    values: int = 0


def survey(file: BinaryIO, begin: int, length: int) -> Pages:
    """Read the heads of a column's pages, and no page.

    Args:
        file: Parquet.
        begin: offset of the first page.
        length: [bytes] of all pages, packed.

    Raises:
        PageError: there are others than pages, or too many.
    """
    unpacked = largest = values = 0
    end, offset, count = begin + length, begin, 0
    while offset < end:
        head, size = _head(file, offset, end)
        here, packed = _count(head, _UNPACKED), _count(head, _PACKED)
        offset += size + packed
        count += 1
        if count > MAX_PAGES or offset > end:
            what = (
                f"more than {MAX_PAGES} pages"
                if count > MAX_PAGES
                else f"a page of {packed} bytes, which are not there"
            )
            raise PageError(what)
        kind = _count(head, _KIND)
        inner = head.get(_INNER.get(kind, 0))
        held = _count(inner, _VALUES) if isinstance(inner, dict) else 0
        if kind != _OF_DICTIONARY:
            values += held
        elif held > here:  # each takes a byte or more, and room is made for as many as the head says
            raise PageError(f"a dictionary of {held} values in {here} bytes")
        unpacked, largest = unpacked + here, max(largest, here)
    return Pages(unpacked, largest, values)


def _count(head: dict[int, Any], field: int) -> int:
    value = head.get(field, 0)
    if not isinstance(value, int) or value < 0:
        raise PageError(f"{value} as a size")
    return value


def _head(file: BinaryIO, offset: int, end: int) -> tuple[dict[int, Any], int]:
    """The head of the page at an offset, and its own size."""
    size = _FIRST_READ
    while True:
        file.seek(offset)
        data = file.read(min(size, end - offset))
        reader = _Compact(data)
        try:
            return reader.struct(), reader.offset
        except _Short:
            if size >= MAX_HEAD or len(data) < size:
                raise PageError(f"no head of a page at byte {offset}") from None
        size *= 8


class _Compact:
    """Reads one struct of Thrift's compact protocol; only whole numbers and structs are kept."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.offset = 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """The fields of a struct, by number."""
        if depth > _DEEPEST:
            raise PageError("structs within structs")
        found: dict[int, Any] = {}
        field = 0
        while kind := self._byte():
            kind, step = kind & 15, kind >> 4
            field = field + step if step else self._zigzag()
            if field in found or not 0 < field <= _LARGEST_FIELD:  # a library may take another one than we do
                raise PageError(f"field {field} twice, or none of a head")
            found[field] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if kind in _INTEGERS:
            value = self._zigzag()
            return value if kind == _I32 else None  # a library passes over a size of another width
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind in (_LIST, _SET):
            self._elements(depth)
        elif kind in (_TRUE, _FALSE, _BYTE):  # truths take a byte only within lists
            self._skip(1)
        elif kind == _DOUBLE:
            self._skip(8)
        elif kind == _BINARY:
            self._skip(self._varint())
        else:  # there are no maps in a head
            raise PageError(f"a field of kind {kind}")
        return None

    def _elements(self, depth: int) -> None:
        if depth > _DEEPEST:
            raise PageError("lists within lists")
        size, kind = divmod(self._byte(), 16)
        for _ in range(self._varint() if size == 15 else size):
            self._value(kind, depth + 1)

    def _byte(self) -> int:
        if self.offset >= len(self._data):
            raise _Short
        self.offset += 1
        return self._data[self.offset - 1]

    def _skip(self, count: int) -> None:
        if count > MAX_HEAD:
            raise PageError(f"a field of {count} bytes in the head of a page")
        self.offset += count
        if self.offset > len(self._data):
            raise _Short

    def _varint(self) -> int:
        value = shift = 0
        while shift < 70:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
        raise PageError("a number of more than 64 bits in the head of a page")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
