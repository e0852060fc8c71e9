# SPDX-License-Identifier: Apache-2.0
"""LeRobot datasets that anyone may have written: small files that hold much, and columns that hold something else."""

import json
from pathlib import Path

import numpy as np
import pytest
from serl_recording.episode import RecordingError, RecordingSpec
from serl_recording.formats.lerobot import layout, tables
from serl_recording.registry import WriteSettings, create_recording, open_recording
from serl_rl.spec import ArraySpec, TransitionSpec
from serl_rl.storage import tensors

pa = pytest.importorskip("pyarrow", reason="./serl setup recordings")
pytest.importorskip("av", reason="./serl setup recordings")

DATA = "data/chunk-000/file-000.parquet"
REST = "meta/serl/chunk-000/episode-000000.safetensors"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"


@pytest.fixture
def dataset(tmp_path, make_spec, make_episode):
    spec = make_spec(cameras=1)
    with create_recording(tmp_path / "set", "lerobot", spec, WriteSettings("png")) as writer:
        writer.append(make_episode(spec, 1, steps=4))
    return tmp_path / "set"


@pytest.mark.parametrize(
    "column",
    [
        lambda: pa.array(np.zeros(2**22 - 1, np.int64)),
        lambda: pa.array(["x" * 2**18] * 64),
        lambda: pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(2**21, np.int64)), 2**21),
        lambda: pa.array([np.zeros(2**19, np.int64)]),
        lambda: pa.array([["x" * 2**12] * 2**12]),
    ],
    ids=["rows", "cells", "lists", "row of numbers", "row of texts"],
)
def test_a_small_table_that_unpacks_to_more_than_it_may_is_refused(tmp_path, monkeypatch, column):
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": column()}), path, row_group_size=2**22, compression="zstd")
    assert path.stat().st_size < 2**17
    monkeypatch.setattr(tables, "MAX_TABLE_BYTES", 2**20)
    monkeypatch.setattr(tables, "MAX_ROWS", 2**22)
    before, pool = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
    pa.set_memory_pool(pool)
    try:
        with pytest.raises(RecordingError, match="at most 1 MiB, found"):
            tables.TableFile(path).read()
    finally:
        pa.set_memory_pool(before)
    assert pool.max_memory() < 12 * 2**20


def test_videos_are_read_in_a_folder_whose_name_looks_like_a_protocol(tmp_path, monkeypatch, make_episode):
    monkeypatch.chdir(tmp_path)
    entries = {"front": ArraySpec((64, 64, 3), "uint8"), "state": ArraySpec((1,), "float32")}
    spec = RecordingSpec(TransitionSpec(entries, 2), 10.0)
    with create_recording(Path("2026-11-27T10:00"), "lerobot", spec) as writer:
        writer.append(make_episode(spec, 1, steps=1))
    (found,) = open_recording(Path("2026-11-27T10:00")).episodes()
    assert len(found) == 1


def without(name):
    return lambda table: table.drop_columns([name])


def of_days(name):
    """Of a year that Python does not have."""
    return lambda table: table.set_column(
        table.column_names.index(name), name, pa.array([2**52] * len(table), pa.timestamp("ms"))
    )


def of_texts(name):
    return lambda table: table.set_column(table.column_names.index(name), name, pa.array(["a"] * len(table)))


@pytest.mark.parametrize(
    ("file", "change", "line"),
    [
        (DATA, without("action"), "expected a column action"),
        (DATA, without("episode_index"), "expected a column episode_index"),
        (DATA, without("observation.state"), "expected a column observation.state"),
        (DATA, of_texts("episode_index"), "expected numbers in episode_index"),
        (DATA, of_texts("action"), "action: expected"),
        (DATA, of_texts("observation.images.front"), "bytes of a picture"),
        (DATA, of_days("observation.images.front"), "bytes of a picture"),
        (EPISODES, without("length"), "expected where an episode lies"),
        (EPISODES, of_texts("length"), "expected where an episode lies"),
    ],
)
def test_tables_of_something_else_are_one_line(dataset, file, change, line):
    import pyarrow.parquet as pq

    path = dataset / file
    pq.write_table(change(pq.ParquetFile(path).read()), path)
    with pytest.raises(RecordingError, match=line):
        list(open_recording(dataset).episodes())


def test_what_is_said_of_an_episode_is_not_nested_without_end(dataset):
    arrays, _ = tensors.unpack((dataset / REST).read_bytes())
    (dataset / REST).write_bytes(tensors.pack(arrays, {"about": "[" * 100_000}))
    with pytest.raises(RecordingError, match="nested"):
        list(open_recording(dataset).episodes())


@pytest.mark.parametrize("fps", [0, -1, "NaN", 1e9])
def test_a_rate_that_is_none_is_one_line(dataset, fps):
    info = json.loads((dataset / layout.INFO).read_text())
    (dataset / layout.INFO).write_text(json.dumps(info | {"fps": fps}))
    with pytest.raises(RecordingError, match="frames per second"):
        open_recording(dataset)


def test_pictures_whose_shape_is_said_channels_first_are_read(dataset, make_spec, make_episode):
    for path in (dataset / "meta/serl").rglob("*.*"):
        path.unlink()
    info = json.loads((dataset / layout.INFO).read_text())
    feature = info["features"]["observation.images.front"]
    height, width, channels = feature["shape"]
    feature |= {"shape": [channels, height, width], "names": ["channels", "height", "width"]}
    (dataset / layout.INFO).write_text(json.dumps(info))
    (found,) = open_recording(dataset).episodes()
    expected = make_episode(make_spec(cameras=1), 1, steps=4).observation["front"]
    np.testing.assert_array_equal(found.observation["front"][:-1], expected[:-1])


def test_entries_that_would_be_one_feature_are_refused(tmp_path):
    entries = {"a.b": ArraySpec((2,), "float32"), "a/b": ArraySpec((3,), "float32")}
    spec = RecordingSpec(TransitionSpec(entries, 2), 10.0)
    with pytest.raises(RecordingError, match=r"both be observation\.a\.b: give --without"):
        create_recording(tmp_path / "set", "lerobot", spec)
