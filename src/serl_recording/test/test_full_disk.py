# SPDX-License-Identifier: Apache-2.0
"""A disk that gets full while a recording is written: one line, and every episode that was complete is there."""

import importlib.util
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from serl_recording.convert import convert
from serl_recording.episode import RecordingError
from serl_recording.registry import create_recording, open_recording

NEEDS = {"serl": "numpy", "lerobot": "av", "rlds": "google_crc32c", "mcap": "rosbags"}


@pytest.mark.parametrize("name", NEEDS)
def test_complete_episodes_outlive_a_full_disk(tmp_path, make_spec, make_episode, name):
    """A limit of the size of files is noticed as a full disk is: a write fails, or is not done to its end."""
    if importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip("./serl setup recordings")
    spec = make_spec(cameras=1)
    path = tmp_path / "recording.serl"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    appended = 0
    try:
        with pytest.raises(RecordingError) as caught, create_recording(path, name, spec) as writer:
            for number in range(1000):
                writer.append(make_episode(spec, number, steps=5 + 4 * number))
                appended += 1
                if appended == 3:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert appended >= 3
    assert str(path.name) in str(caught.value)
    assert "\n" not in str(caught.value)
    part = path.with_name(f"{path.name}.part")
    found = list(open_recording(part if part.exists() else path).episodes(lambda _: None))
    assert [episode.number for episode in found] == list(range(appended))


@contextmanager
def full_behind(size: int) -> Iterator[None]:
    """No file becomes larger than `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_for_the_viewer_that_has_no_room_is_not_there_at_all(tmp_path, make_spec, make_episode):
    """Wherever the disk is full: in the first episode, in one later, or in the last few bytes."""
    pytest.importorskip("rerun", reason="./serl setup rerun")
    spec, source, target = make_spec(cameras=1), tmp_path / "a.serl", tmp_path / "b.rrd"
    with create_recording(source, "serl", spec) as writer:
        for number in range(3):
            writer.append(make_episode(spec, number, steps=6))
    convert(source, target)
    whole = target.stat().st_size
    target.unlink()
    for size in (0, whole // 2, whole - 2000):
        with pytest.raises(RecordingError, match=r"b\.rrd: .*is the disk full\?") as caught, full_behind(size):
            convert(source, target)
        assert "\n" not in str(caught.value)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.serl"]
    convert(source, target)
    assert abs(target.stat().st_size - whole) < 100
