# SPDX-License-Identifier: Apache-2.0
"""Parquet tables of a LeRobot dataset."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from serl_config.files import FileError, open_file

from serl_recording.episode import RecordingError
from serl_recording.formats.lerobot.pages import PageError, Pages, survey
from serl_recording.optional import require

FORMAT: Final = "a LeRobot dataset"
MAX_TABLE_BYTES: Final = 2**31
"""[bytes] Largest part of a table that is read at once, unpacked."""
MAX_ROWS: Final = 2**18
"""Most episodes."""
MAX_WHOLE_BYTES: Final = 2**28
"""[bytes] Largest table of episodes, unpacked."""
_NUMBERS, _CELLS = 4096, 16
"""Rows that are unpacked at once: of numbers, and where cells of texts or pictures may each be large."""
_WIDTHS: Final = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 12}
"""[bytes] of a value; others are as large as their page says, and each may be repeated."""


def bytes_of(columns: Mapping[str, Any], metadata: Mapping[bytes, bytes] | None = None) -> bytes:
    """A table as the bytes of a Parquet file.

    Args:
        columns: name -> values, a list or an Arrow array.
        metadata: of the schema.
    """
    pa, parquet = require("pyarrow", FORMAT), require("pyarrow.parquet", FORMAT)
    arrays = {name: each if isinstance(each, pa.Array) else pa.array(each) for name, each in columns.items()}
    schema = pa.schema([pa.field(name, array.type) for name, array in arrays.items()], dict(metadata or {}))
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_arrays(list(arrays.values()), schema=schema), sink)
    return bytes(sink.getvalue())


def column_of(rows: NDArray[Any]) -> Any:
    """The Arrow array of a feature's rows (n, k): lists of k numbers, or numbers where k is 1."""
    pa = require("pyarrow", FORMAT)
    flat = pa.array(np.ascontiguousarray(rows).reshape(-1))
    return flat if rows.shape[1] == 1 else pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])


def rows_of(column: Any, width: int, dtype: str, where: str) -> NDArray[Any]:
    """Inverse of `column_of` for a column of a file; (n, width).

    Raises:
        RecordingError: it holds something else.
    """
    pa = require("pyarrow", FORMAT)
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    count = len(array)
    if pa.types.is_fixed_size_list(array.type) or pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        array = array.flatten()
    if array.null_count or len(array) != count * width:
        raise RecordingError(f"{where}: expected {width} values in each of {count} rows, found {len(array)} values")
    try:
        values = array.to_numpy(zero_copy_only=False)
    except (pa.ArrowException, ValueError) as error:
        raise RecordingError(f"{where}: expected {dtype}, found {array.type}") from error
    if values.dtype.kind not in "fiub":
        raise RecordingError(f"{where}: expected {dtype}, found {array.type}")
    return values.astype(dtype).reshape(count, width)


class TableFile:
    """A Parquet file that is read group of rows by group of rows, each within a budget.

    Raises:
        RecordingError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._pa = require("pyarrow", FORMAT)
        self.path = path
        if not path.is_file():
            raise RecordingError(f"{path}: expected a table, found nothing")
        try:
            self._file = require("pyarrow.parquet", FORMAT).ParquetFile(path)
        except (self._pa.ArrowException, OSError) as error:
            raise RecordingError(f"{path}: cannot be read as Parquet: {error}") from error
        self._group: tuple[int, Any] | None = None  # the one that was read last

    @property
    def names(self) -> list[str]:
        """Names of its columns."""
        return list(self._file.schema_arrow.names)

    def read(self, columns: Sequence[str] | None = None) -> Any:
        """The whole table; raises RecordingError where it is too large or damaged."""
        if self._file.metadata.num_rows > MAX_ROWS:
            raise RecordingError(f"{self.path}: expected at most {MAX_ROWS} rows, found {self._file.metadata.num_rows}")
        groups = []
        for index in range(self._file.num_row_groups):
            groups.append(self._read_group(index, columns))
            if sum(group.nbytes for group in groups) > MAX_WHOLE_BYTES:
                raise RecordingError(f"{self.path}: expected at most {MAX_WHOLE_BYTES >> 20} MiB, found more")
        return self._pa.concat_tables(groups) if groups else self._file.schema_arrow.empty_table()

    def episode(self, index: int, columns: Sequence[str]) -> Any:
        """The rows whose `episode_index` is this; raises RecordingError as `read`."""
        compute = require("pyarrow.compute", FORMAT)
        parts = []
        if "episode_index" not in columns:
            raise RecordingError(f"{self.path}: expected a column episode_index, found none")
        try:
            for group in range(self._file.num_row_groups):
                low, high = self._bounds(group)
                if low <= index <= high:
                    table = self._read_group(group, columns)
                    parts.append(table.filter(compute.equal(table["episode_index"], index)))
        except (self._pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            raise RecordingError(f"{self.path}: expected numbers in episode_index ({error!s:.80})") from error
        if not parts:
            raise RecordingError(f"{self.path}: expected rows of episode {index}, found none")
        return self._pa.concat_tables(parts)

    def _bounds(self, group: int) -> tuple[int, int]:
        """Smallest and largest episode of a group of rows, as far as the file says it."""
        metadata = self._file.metadata.row_group(group)
        for place in range(metadata.num_columns):
            column = metadata.column(place)
            if column.path_in_schema == "episode_index" and column.statistics and column.statistics.has_min_max:
                return int(column.statistics.min), int(column.statistics.max)
        return -(2**63), 2**63

    def _read_group(self, group: int, columns: Sequence[str] | None) -> Any:
        if self._group is not None and self._group[0] == group:
            return self._group[1]
        names = self.names if columns is None else columns
        count = self._rows_at_once(group, names)
        batches, found = [], 0
        try:
            for batch in self._file.iter_batches(count, row_groups=[group], columns=list(names), use_threads=False):
                found += batch.nbytes
                if found > MAX_TABLE_BYTES:
                    raise RecordingError(f"{self.path}: expected at most {MAX_TABLE_BYTES >> 20} MiB, found more")
                batches.append(batch)
            schema = self._file.schema_arrow.empty_table().select(list(names)).schema
            table = self._pa.Table.from_batches(batches, batches[0].schema if batches else schema).combine_chunks()
        except (self._pa.ArrowException, OSError) as error:
            raise RecordingError(f"{self.path}: cannot be read: {error}") from error
        self._group = (group, table)
        return table

    def _rows_at_once(self, group: int, names: Sequence[str]) -> int:
        """How many rows of some columns may be unpacked at once; raises RecordingError where all are too much."""
        metadata, schema = self._file.metadata.row_group(group), self._file.schema
        size, rows = metadata.total_byte_size, _NUMBERS
        try:
            with open_file(self.path) as file:
                for place in range(metadata.num_columns):
                    column = metadata.column(place)
                    if not f"{column.path_in_schema}.".startswith(tuple(f"{name}." for name in names)):
                        continue
                    held = _pages_of(file, column)
                    cell = _WIDTHS.get(column.physical_type, held.largest)
                    # Repeated values take no room in a page, and a row may hold all of them.
                    repeated = schema.column(place).max_repetition_level > 0
                    values = max(held.values, column.num_values)
                    size = max(size, held.unpacked, values * cell if repeated else values)
                    if column.physical_type not in _WIDTHS:
                        rows = max(1, min(rows, _CELLS, MAX_TABLE_BYTES // max(cell, 1)))
        except (FileError, PageError, OSError, self._pa.ArrowException) as error:
            reason = error.reason if isinstance(error, FileError) else str(error)
            raise RecordingError(f"{self.path}: expected pages of Parquet, found {reason}") from error
        if not 0 <= size <= MAX_TABLE_BYTES:
            raise RecordingError(f"{self.path}: expected at most {MAX_TABLE_BYTES >> 20} MiB, found {size >> 20} MiB")
        return rows


def _pages_of(file: BinaryIO, column: Any) -> Pages:
    """What the heads of a column's pages say, of a group of rows."""
    begin = column.data_page_offset
    if column.has_dictionary_page and 0 < column.dictionary_page_offset < begin:
        begin = column.dictionary_page_offset
    length, size = column.total_compressed_size, os.fstat(file.fileno()).st_size
    if not 0 <= begin <= begin + length <= size:
        raise PageError(f"those of {column.path_in_schema} at bytes {begin} to {begin + length} of {size}")
    return survey(file, begin, length)
