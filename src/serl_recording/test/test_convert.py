# SPDX-License-Identifier: Apache-2.0
"""Conversions that fail: nothing half is left, nothing that was there is lost, and the next try works."""

import errno
import os
import re
import resource
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from serl_recording.convert import convert
from serl_recording.episode import RecordingError
from serl_recording.registry import WriteSettings, create_recording, open_recording
from serl_rl.spec import DataError

PACKAGES = {"serl": [], "lerobot": ["pyarrow", "av"], "rlds": ["google_crc32c"], "mcap": ["mcap", "rosbags"]}

KILLED_WHILE_CONVERTING = """
import os, signal, sys
from pathlib import Path
from serl_recording.convert import convert
convert(Path(sys.argv[1]), Path(sys.argv[2]), progress=lambda _: os.kill(os.getpid(), signal.SIGKILL))
"""


@pytest.fixture
def source(tmp_path, make_spec, make_episode):
    spec = make_spec(cameras=1)
    path = tmp_path / "in" / "a.serl"
    path.parent.mkdir()
    with create_recording(path, "serl", spec) as writer:
        for seed in range(3):
            writer.append(make_episode(spec, seed, steps=3))
    return path


def numbers(path):
    return [episode.number for episode in open_recording(path).episodes()]


def test_what_a_killed_recording_left_is_converted_to_its_own_name(source):
    part = source.with_name("a.serl.part")
    source.rename(part)
    before = part.read_bytes()
    assert convert(part, source).episodes == 3
    assert numbers(source) == [0, 1, 2]
    assert part.read_bytes() == before


def test_what_a_killed_recording_left_beside_the_target_stays(source):
    part = source.with_name("b.serl.part")
    part.write_bytes(source.read_bytes())
    convert(source, source.with_name("b.serl"))
    assert part.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("format_", ["serl", "lerobot", "rlds", "mcap"])
@pytest.mark.parametrize("empty", [False, True])
def test_a_failed_conversion_leaves_nothing_and_the_next_one_works(source, tmp_path, format_, empty):
    for package in PACKAGES[format_]:
        pytest.importorskip(package, reason="./serl setup recordings")
    target = tmp_path / "out" / "set"
    target.parent.mkdir()
    if empty and format_ != "serl":
        target.mkdir()

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    pictures = WriteSettings("png" if format_ == "lerobot" else "")
    there = sorted(tmp_path.rglob("*"))
    with pytest.raises(RecordingError, match="set: cannot be written: No space left on device"):
        convert(source, target, format_, writing=pictures, progress=full)
    assert sorted(tmp_path.rglob("*")) == there
    assert convert(source, target, format_, writing=pictures).episodes == 3
    assert numbers(target) == [0, 1, 2]
    assert sorted(target.parent.iterdir()) == [target]
    if format_ == "mcap":
        assert (target / "set_0.mcap").is_file()
    with pytest.raises(RecordingError, match="set exists"):
        convert(source, target, format_, writing=pictures)
    assert numbers(target) == [0, 1, 2]


def test_a_killed_conversion_leaves_no_target_and_the_next_one_removes_the_rest(source, tmp_path):
    target = tmp_path / "out.serl"
    killed = subprocess.run([sys.executable, "-c", KILLED_WHILE_CONVERTING, str(source), str(target)], check=False)
    assert killed.returncode == -9
    assert not target.exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".out.serl.")] != []
    convert(source, target)
    assert numbers(target) == [0, 1, 2]
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out.serl"}


def test_everything_before_a_file_that_cannot_be_read_is_converted(source, tmp_path):
    pytest.importorskip("google_crc32c", reason="./serl setup recordings")
    convert(source, tmp_path / "set", "rlds")
    (tmp_path / "set" / "episodes-train.tfrecord-00001-of-00002").symlink_to("nowhere")
    done = convert(tmp_path / "set", tmp_path / "out.serl")
    assert numbers(tmp_path / "out.serl") == [0, 1, 2]
    (line,) = done.damaged
    assert "the rest was left out" in line
    assert "00001-of-00002" in line


def test_a_link_to_nothing_is_something(source, tmp_path):
    (tmp_path / "out.serl").symlink_to("elsewhere.serl")
    with pytest.raises(RecordingError, match=r"out\.serl exists"):
        convert(source, tmp_path / "out.serl")


@pytest.mark.parametrize("format_", ["serl", "rlds", "lerobot", "mcap"])
def test_a_full_disk_is_one_line_that_names_the_target(source, tmp_path, format_):
    for package in PACKAGES[format_]:
        pytest.importorskip(package, reason="./serl setup recordings")
    pictures = WriteSettings("png" if format_ == "lerobot" else "")
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    try:
        with pytest.raises(RecordingError, match=f"{re.escape(str(tmp_path))}/set.*File too large"):
            convert(source, tmp_path / "set", format_, writing=pictures)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_task_that_is_no_text_is_refused(make_spec):
    with pytest.raises(DataError, match="task: expected text in UTF-8"):
        replace(make_spec(), task="\udcff")
