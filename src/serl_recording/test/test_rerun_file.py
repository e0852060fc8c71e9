# SPDX-License-Identifier: Apache-2.0
"""Files for rerun's viewer, read back by rerun's own reader."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serl_recording.episode import RecordingError
from serl_recording.registry import create_recording, format_of, open_recording, target_format
from serl_rl.storage.pictures import decode_picture

chunk = pytest.importorskip("rerun.chunk", reason="./serl setup rerun")


def columns(path: Path) -> dict[str, dict[str, list[Any]]]:
    """Values of each column of each entity, in the order of the file, without what is said once for all times."""
    found: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for part in chunk.RrdReader(path).stream():
        if part.is_static:
            continue
        batch = part.to_record_batch()
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            values = column.cast("int64") if str(column.type).startswith("timestamp") else column
            found[part.entity_path][name] += values.to_pylist()
    return found


@pytest.fixture
def written(tmp_path, make_spec, make_episode):
    spec, path = make_spec(cameras=1), tmp_path / "a.rrd"
    episodes = [make_episode(spec, seed, steps=4) for seed in range(3)]
    with create_recording(path, target_format(path), spec) as writer:
        for episode in episodes:
            writer.append(episode)
    return path, episodes


def test_the_viewers_own_reader_finds_every_value_at_its_time(written):
    path, episodes = written
    found = columns(path)
    state = found["/state"]
    order = np.argsort(state["step"])
    rows = np.array(state["Scalars:scalars"])[order]
    assert np.array_equal(rows.astype(np.float32), np.concatenate([each.observation["state"] for each in episodes]))
    assert np.array_equal(np.array(state["step"])[order], np.arange(15))
    action = found["/action"]
    order = np.argsort(action["step"])
    actions = np.concatenate([each.action for each in episodes])
    assert np.array_equal(np.array(action["Scalars:scalars"])[order].astype(np.float32), actions)
    assert sorted(set(action["episode"])) == [0, 1, 2]
    stamps = np.concatenate([each.stamp for each in episodes])
    assert np.array_equal(np.array(state["time"])[np.argsort(state["step"])], stamps)


def test_pictures_are_those_that_were_recorded(written):
    path, episodes = written
    front = columns(path)["/front"]
    blobs = dict(zip(front["step"], front["EncodedImage:blob"], strict=True))
    seen = [picture for each in episodes for picture in each.observation["front"]]
    assert len(blobs) == len(seen)
    for step, picture in enumerate(seen):
        shown = decode_picture(bytes(blobs[step][0]), picture.shape, "front")
        assert np.abs(shown.astype(int) - picture).max() <= 12


def test_it_is_recognized_and_not_read_and_not_written_over(written, make_spec):
    path, _ = written
    assert format_of(path) == "rerun"
    with pytest.raises(RecordingError, match=r"a\.rrd: files for rerun's viewer are not read"):
        open_recording(path)
    with pytest.raises(RecordingError, match="exists"):
        create_recording(path, "rerun", make_spec())


def test_what_was_appended_outlives_a_kill(tmp_path, kill_while_writing):
    appended = kill_while_writing(tmp_path / "k.rrd", "rerun", 4)
    assert len(set(columns(tmp_path / "k.rrd")["/state"]["episode"])) >= appended
