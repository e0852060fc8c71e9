# SPDX-License-Identifier: Apache-2.0
"""Heads of Parquet's pages: they say what the footer says where nobody lies; lies are refused before room is made."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_recording.episode import RecordingError
from serl_recording.formats.lerobot import tables
from serl_recording.formats.lerobot.pages import PageError, survey

pa = pytest.importorskip("pyarrow", reason="./serl setup recordings")
pq = pytest.importorskip("pyarrow.parquet", reason="./serl setup recordings")

COLUMNS = {
    "numbers": lambda n: pa.array(np.arange(n)),
    "texts": lambda n: pa.array([f"{i % 7}" * (i % 50) for i in range(n)]),
    "lists": lambda n: pa.array([list(range(i % 5)) for i in range(n)], pa.list_(pa.float32())),
    "truths": lambda n: pa.array([bool(i % 3) for i in range(n)]),
}


def chunks(data):
    """Of each column of each group of rows: where its pages lie, and what the footer says of them."""
    metadata = pq.ParquetFile(io.BytesIO(data)).metadata
    for group in range(metadata.num_row_groups):
        for place in range(metadata.num_columns):
            column = metadata.row_group(group).column(place)
            begin = column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
            yield begin, column


@given(
    rows=st.integers(1, 3000),
    names=st.sets(st.sampled_from(sorted(COLUMNS)), min_size=1),
    page=st.sampled_from([64, 1000, 2**20]),
    codec=st.sampled_from(["none", "snappy", "zstd"]),
    version=st.sampled_from(["1.0", "2.0"]),
    dictionary=st.booleans(),
    crc=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_heads_say_what_the_footer_says(rows, names, page, codec, version, dictionary, crc):
    sink = io.BytesIO()
    pq.write_table(
        pa.table({name: COLUMNS[name](rows) for name in sorted(names)}),
        sink,
        data_page_size=page,
        compression=codec,
        data_page_version=version,
        use_dictionary=dictionary,
        write_page_checksum=crc,
        row_group_size=1000,
    )
    data = sink.getvalue()
    for begin, column in chunks(data):
        found = survey(io.BytesIO(data), begin, column.total_compressed_size)
        assert found.values == column.num_values
        heads = column.total_uncompressed_size - found.unpacked
        assert 0 < heads < 200 * (1 + column.num_values)  # the footer counts them, too
        assert found.largest <= found.unpacked
        if codec == "none":
            assert found.unpacked < column.total_compressed_size == column.total_uncompressed_size


def varint(value):
    """Of a positive number, with the zigzag of Thrift."""
    value, out = value << 1, b""
    while value >= 128:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def lying(data, said, instead):
    """A file whose first page says another number than it holds, of the same length."""
    assert len(varint(said)) == len(varint(instead))
    begin, _ = next(chunks(data))
    at = data.index(varint(said), begin)
    assert at < begin + 30
    return data[:at] + varint(instead) + data[at + len(varint(said)) :]


def test_a_page_that_unpacks_to_more_than_the_footer_says_is_refused(tmp_path, monkeypatch):
    sink = io.BytesIO()
    options = {"compression": "zstd", "use_dictionary": False, "write_statistics": False}
    pq.write_table(pa.table({"a": ["x" * 2**20]}), sink, **options)
    (tmp_path / "true.parquet").write_bytes(sink.getvalue())
    monkeypatch.setattr(tables, "MAX_TABLE_BYTES", 2**25)
    assert len(tables.TableFile(tmp_path / "true.parquet").read()) == 1
    begin, column = next(chunks(sink.getvalue()))
    held = survey(sink, begin, column.total_compressed_size).largest
    (tmp_path / "a.parquet").write_bytes(lying(sink.getvalue(), held, 2**27 - 1))
    with pytest.raises(RecordingError, match="at most 32 MiB, found 127 MiB"):
        tables.TableFile(tmp_path / "a.parquet").read()


def test_a_dictionary_of_more_values_than_bytes_is_refused(tmp_path):
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": np.arange(10_000)}), sink, write_statistics=False)
    data = lying(sink.getvalue(), 10_000, 2**20 - 1)
    (tmp_path / "a.parquet").write_bytes(data)
    with pytest.raises(
        RecordingError, match=r"a\.parquet: expected pages of Parquet, found a dictionary of 1048575 values"
    ):
        tables.TableFile(tmp_path / "a.parquet").read()


def head(*fields):
    """A head of a page: each field its number, its kind and its bytes."""
    return b"".join(bytes([kind]) + varint(number) + data for number, kind, data in fields) + b"\0"


I32, I64, STRUCT = 5, 6, 12
OF_DATA, PACKED = (1, I32, varint(0)), (3, I32, varint(0))


def test_the_head_of_the_kind_of_the_page_counts_the_values():
    others = [(number, STRUCT, head((1, I32, varint(1)))) for number in (5, 7)]
    of_data_2 = (8, STRUCT, head((1, I32, varint(1000))))
    data = head((1, I32, varint(3)), (2, I32, varint(10)), PACKED, *others, of_data_2)
    assert survey(io.BytesIO(data), 0, len(data)).values == 1000


@pytest.mark.parametrize("again", [(2, I32, varint(1)), (2, I64, varint(1)), (2 + 2**16, I32, varint(1))])
def test_a_size_that_is_said_twice_is_refused(again):
    data = head(OF_DATA, (2, I32, varint(2**30)), PACKED, again)
    with pytest.raises(PageError, match="twice"):
        survey(io.BytesIO(data), 0, len(data))


def test_a_size_of_another_width_is_refused():
    data = head(OF_DATA, (2, I64, varint(1)), PACKED)
    with pytest.raises(PageError, match="as a size"):
        survey(io.BytesIO(data), 0, len(data))


@given(data=st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_other_bytes_are_no_pages(data):
    try:
        found = survey(io.BytesIO(data), 0, len(data))
    except PageError as error:
        assert "\n" not in str(error)
    else:
        assert found.unpacked >= 0
