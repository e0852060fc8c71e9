# SPDX-License-Identifier: Apache-2.0
"""Bags of raw messages: read by rosbags and mcap, whole or made whole, whatever has ended the recording."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_recording.episode import RecordingError
from serl_recording.raw_bag import RawBag, RawTopic, reindex

pytest.importorskip("mcap", reason="./serl setup recordings")
pytest.importorskip("rosbags", reason="./serl setup recordings")

TOPICS = (
    RawTopic("/word", "std_msgs/msg/String", "string data\n"),
    RawTopic("/count", "std_msgs/msg/UInt64", "uint64 data\n"),
)


def message(index):
    """Topic, stamp and bytes of a message; those of words are large."""
    if index % 3:
        return "/count", 10**18 + index * 10**7, b"\0\1\0\0" + index.to_bytes(8, "little")
    text = f"{index:07d}".encode() * 1000 + b"\0"
    return "/word", 10**18 + index * 10**7, b"\0\1\0\0" + len(text).to_bytes(4, "little") + text


def write(folder, count, **split):
    bag = RawBag(folder, **split)
    for topic in TOPICS:
        bag.add_topic(topic)
    for index in range(count):
        bag.write(*message(index))
    return bag


def read(folder):
    """Everything that rosbags finds: topic, stamp and bytes, in the order of stamps."""
    from rosbags.highlevel import AnyReader

    with AnyReader([folder]) as reader:
        return [(connection.topic, stamp, data) for connection, stamp, data in reader.messages()]


@pytest.mark.parametrize(
    "split", [{}, {"split_bytes": 50_000}, {"split_seconds": 0.5}], ids=["one file", "by size", "by time"]
)
def test_rosbags_reads_every_message(tmp_path, split):
    folder = tmp_path / "bag"
    write(folder, 200, **split).close()
    assert read(folder) == [message(index) for index in range(200)]
    info = yaml.safe_load((folder / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert info["message_count"] == 200
    assert info["relative_file_paths"] == [f"bag_{index}.mcap" for index in range(len(info["files"]))]
    assert sum(file["message_count"] for file in info["files"]) == 200
    assert len(info["files"]) == (1 if not split else pytest.approx(5, abs=5))
    assert {each["topic_metadata"]["name"]: each["message_count"] for each in info["topics_with_message_count"]} == {
        "/word": 67,
        "/count": 133,
    }


def test_what_a_killed_recorder_has_handed_over_is_there_again(tmp_path):
    program = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_raw_bag import message, write
bag = write(Path({str(tmp_path / "bag")!r}), 100, split_bytes=100_000)
bag.flush()
bag.write(*message(100))
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    done = reindex(tmp_path / "bag")
    assert (done.messages, done.damaged, len(done.mended)) == (100, [], 1)
    assert read(tmp_path / "bag") == [message(index) for index in range(100)]
    again = reindex(tmp_path / "bag")
    assert (again.messages, again.mended) == (100, []), "a second time there is nothing to do"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cut") / "bag"
    bag = write(folder, 30)
    bag.flush()
    data = (folder / "bag_0.mcap").read_bytes()
    bag.close()
    return folder, data


@given(share=st.floats(0.0, 1.0), flip=st.booleans())
@settings(max_examples=20, deadline=None)
def test_a_file_that_is_cut_or_damaged_gives_nothing_but_what_was_written(recorded, share, flip):
    folder, data = recorded
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    changed = bytearray(data)
    if flip:
        changed[min(int(share * len(data)), len(data) - 1)] ^= 4
    else:
        del changed[int(share * len(data)) :]
    (copy / "bag_0.mcap").write_bytes(changed)
    try:
        done = reindex(copy)
        found = read(copy)
    except RecordingError as error:
        assert "\n" not in str(error)
        assert len(changed) < 100 or flip, "a file with a head is one"
    else:
        assert len(found) == done.messages
        written = [message(index) for index in range(30)]
        assert flip or found == written[: len(found)]
    finally:
        shutil.rmtree(copy)


def test_a_full_disk_is_one_line_and_costs_nothing_that_was_complete(tmp_path):
    """A limit of the size of files is noticed as a full disk is: a write fails, or is not done to its end."""
    program = f"""
import resource, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from serl_recording.episode import RecordingError
from test_raw_bag import TOPICS, message
from serl_recording.raw_bag import RawBag
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
bag = RawBag(Path({str(tmp_path / "bag")!r}), split_bytes=100_000)
for topic in TOPICS:
    bag.add_topic(topic)
try:
    for index in range(1000):
        if index == 200:
            resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
        bag.write(*message(index))
        bag.flush()
except RecordingError as error:
    print(index, error)
try:
    bag.close()
except RecordingError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    first, second = done.stdout.splitlines()
    index, _, line = first.partition(" ")
    assert "cannot be written: File too large" in line
    assert "./serl data reindex" in second
    found = reindex(tmp_path / "bag")
    assert found.messages >= int(index) - 1
    written = [message(each) for each in range(found.messages)]
    assert read(tmp_path / "bag") == written


def test_a_bag_is_never_written_over(tmp_path):
    write(tmp_path / "bag", 1).close()
    with pytest.raises(RecordingError, match="exists: choose another name"):
        RawBag(tmp_path / "bag")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordingError, match=r"expected a bag, a folder with files \*\.mcap"):
        reindex(tmp_path / "empty")
