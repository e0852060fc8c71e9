# SPDX-License-Identifier: Apache-2.0
"""RLDS datasets. That tensorflow_datasets reads them shows scripts/check_recordings_with_real_readers."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_recording.episode import RecordingError, RecordingSpec
from serl_recording.formats.rlds.example import decode_example, encode_example
from serl_recording.formats.rlds.tfrecord import RecordWriter
from serl_recording.formats.rlds.writer import DATA, FEATURES, INFO, SPEC
from serl_recording.registry import ReadSettings, WriteSettings, create_recording, format_of, open_recording
from serl_rl.spec import ArraySpec, DataError, TransitionSpec

pytest.importorskip("google_crc32c", reason="./serl setup recordings")


def write(path, spec, episodes, pictures="png"):
    with create_recording(path, "rlds", spec, WriteSettings(pictures)) as writer:
        for episode in episodes:
            writer.append(episode)


@given(seeds=st.lists(st.integers(0, 2**32), min_size=1, max_size=3), stamped=st.booleans(), cameras=st.integers(0, 2))
@settings(max_examples=15, deadline=None)
def test_every_value_comes_back(tmp_path_factory, make_spec, make_episode, reads_back, seeds, stamped, cameras):
    folder = tmp_path_factory.mktemp("set") / "set"
    spec = make_spec(cameras=cameras)
    episodes = [make_episode(spec, seed, stamped=stamped, success=seed % 2 == 0) for seed in seeds]
    write(folder, spec, episodes)
    assert format_of(folder) == "rlds"
    reads_back(folder, spec, episodes)


def test_features_of_an_encoder_and_odd_pictures_come_back_too(tmp_path, make_episode, same):
    entries = {"features": ArraySpec((2, 2, 3, 4), "float16"), "depth": ArraySpec((4, 4, 2), "uint8")}
    spec = RecordingSpec(TransitionSpec(entries | {"state": ArraySpec((1,), "float32")}, 1, encoder="abc"), 10.0)
    episode = make_episode(spec, 4, steps=3)
    write(tmp_path / "set", spec, [episode])
    (found,) = open_recording(tmp_path / "set").episodes()
    same(found, episode)


def test_jpeg_differs_by_what_the_codec_takes(tmp_path, make_spec, make_episode, same):
    spec = make_spec()
    episode = make_episode(spec, 4, steps=5)
    write(tmp_path / "set", spec, [episode], "jpeg")
    (found,) = open_recording(tmp_path / "set").episodes()
    same(found, episode, pictures=2.0)


@given(
    st.dictionaries(
        st.text(max_size=9),
        st.one_of(
            st.lists(st.binary(max_size=9), min_size=1, max_size=5),
            st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=9).map(
                lambda x: np.array(x, np.float32)
            ),
            st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=9).map(lambda x: np.array(x, np.int64)),
        ),
        max_size=5,
    )
)
def test_examples_are_what_they_were(features):
    found = decode_example(encode_example(features))
    assert set(found) == set(features)
    for name, values in features.items():
        np.testing.assert_array_equal(found[name], values)


@given(st.binary(max_size=200))
def test_bytes_of_anyone_are_an_example_or_a_data_error(data):
    try:
        decode_example(data)
    except DataError as error:
        assert "tf.train.Example" in str(error)


def test_records_are_as_the_format_says(tmp_path, make_spec, make_episode):
    """By an own bitwise CRC-32C (Castagnoli), whose check value is that of RFC 3720."""

    def crc32c(data):
        crc = 0xFFFFFFFF
        for byte in data:
            crc ^= byte
            for _ in range(8):
                crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        return crc ^ 0xFFFFFFFF

    def masked(data):
        crc = crc32c(data)
        return (((crc >> 15) | (crc << 17) & 0xFFFFFFFF) + 0xA282EAD8) % 2**32

    assert crc32c(b"123456789") == 0xE3069283
    spec = make_spec(cameras=0)
    write(tmp_path / "set", spec, [make_episode(spec, 1, steps=2)])
    data = (tmp_path / "set" / DATA).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    assert len(data) == length + 16
    assert struct.unpack("<I", data[8:12])[0] == masked(data[:8])
    assert struct.unpack("<I", data[-4:])[0] == masked(data[12:-4])
    info = json.loads((tmp_path / "set" / INFO).read_text())
    assert info["splits"][0]["shardLengths"] == ["1"]


def test_steps_are_those_of_rlds(tmp_path, make_spec, make_episode):
    spec = make_spec(cameras=0)
    episode = make_episode(spec, 2, steps=3)
    write(tmp_path / "set", spec, [episode])
    record = decode_example((tmp_path / "set" / DATA).read_bytes()[12:-4])
    assert record["steps/is_first"].tolist() == [1, 0, 0, 0]
    assert record["steps/is_last"].tolist() == record["steps/is_terminal"].tolist() == [0, 0, 0, 1]
    assert record["steps/discount"].tolist() == [1, 1, 0, 0]
    np.testing.assert_array_equal(record["steps/reward"], [*episode.reward, 0])


@given(place=st.floats(0.0, 1.0, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=40, deadline=None)
def test_every_flipped_bit_is_found(tmp_path_factory, rlds_set, place, bit):
    folder, numbers = rlds_set
    before = (folder / DATA).read_bytes()
    data = bytearray(before)
    data[int(place * len(data))] ^= 1 << bit
    (folder / DATA).write_bytes(data)
    told = []
    try:
        found = [episode.number for episode in open_recording(folder).episodes(told.append)]
    finally:
        (folder / DATA).write_bytes(before)
    assert len(told) == 1
    assert set(found) < set(numbers)


@pytest.fixture(scope="module")
def rlds_set(tmp_path_factory, make_spec, make_episode):
    folder = tmp_path_factory.mktemp("flipped") / "set"
    spec = make_spec(cameras=1)
    write(folder, spec, [make_episode(spec, seed, steps=3) for seed in range(4)])
    return folder, list(range(4))


def test_a_cut_file_gives_everything_before(tmp_path, make_spec, make_episode):
    spec = make_spec(cameras=1)
    write(tmp_path / "set", spec, [make_episode(spec, seed, steps=3) for seed in range(4)])
    path = tmp_path / "set" / DATA
    path.write_bytes(path.read_bytes()[:-100])
    told = []
    assert [episode.number for episode in open_recording(tmp_path / "set").episodes(told.append)] == [0, 1, 2]
    assert len(told) == 1
    assert "the last record" in str(told[0])


def test_a_dataset_of_others_is_read_by_what_its_features_say(tmp_path, make_spec, make_episode):
    folder = tmp_path / "name" / "1.0.0"
    folder.parent.mkdir()
    spec = make_spec(cameras=1)
    write(folder, spec, [make_episode(spec, seed, steps=3, success=False) for seed in range(2)])
    (folder / SPEC).unlink()
    with pytest.raises(RecordingError, match="give --rate"):
        open_recording(folder.parent)
    reader = open_recording(folder.parent, ReadSettings(rate=5.0, task="push"))
    assert (reader.spec.rate, reader.spec.task, reader.spec.cameras) == (5.0, "push", ("front",))
    first, _ = reader.episodes()
    assert (len(first), first.terminated, first.truncated, first.success) == (3, False, True, False)


def test_features_that_contradict_the_records_are_one_line(tmp_path, make_spec, make_episode):
    spec = make_spec(cameras=1)
    write(tmp_path / "set", spec, [make_episode(spec, 0, steps=3)])
    features = tmp_path / "set" / FEATURES
    text = features.read_text()
    tree = json.loads(text)
    action = tree["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]["features"]["action"]
    action["tensor"]["shape"]["dimensions"] = ["4"]
    features.write_text(json.dumps(tree))
    with pytest.raises(RecordingError, match=r"steps/action: expected shape \(3,\), found \(4,\)"):
        open_recording(tmp_path / "set")
    features.write_text(text.replace('"24"', '"23"'))
    with pytest.raises(RecordingError, match="steps/observation/front"):
        open_recording(tmp_path / "set")
    features.write_text("{}")
    with pytest.raises(RecordingError, match="with steps"):
        open_recording(tmp_path / "set")


def test_names_that_the_format_takes_for_groups_are_refused(tmp_path, make_spec):
    spec = make_spec(cameras=0)
    entries = {"left/state": ArraySpec((3,), "float32")}
    spec = replace(spec, transitions=replace(spec.transitions, observation=entries))
    with pytest.raises(DataError, match="names without /"):
        create_recording(tmp_path / "set", "rlds", spec)


def test_a_killed_recording_is_a_dataset_of_what_was_appended(
    tmp_path, kill_while_writing, make_spec, make_episode, same
):
    appended = kill_while_writing(tmp_path / "set", "rlds", 5)
    found = list(open_recording(tmp_path / "set").episodes(lambda _: None))
    assert [episode.number for episode in found[: appended + 1]] == list(range(appended + 1))
    spec = make_spec()
    for seed, episode in enumerate(found):
        same(episode, make_episode(spec, seed, steps=5))
    info = json.loads((tmp_path / "set" / INFO).read_text())
    assert int(info["splits"][0]["shardLengths"][0]) in (len(found) - 1, len(found))


@pytest.mark.parametrize(
    ("key", "change", "line"),
    [
        ("steps/action", lambda values: np.append(values, np.float32(0)), "actions of 3 values, found 10 values"),
        ("episode_metadata/number", lambda _: np.array([np.nan], np.float32), "a whole number, found nan"),
    ],
)
def test_a_record_of_other_numbers_is_left_out(tmp_path, make_spec, make_episode, key, change, line):
    spec = make_spec(cameras=0)
    write(tmp_path / "set", spec, [make_episode(spec, 1, steps=2)])
    path = tmp_path / "set" / DATA
    record = decode_example(path.read_bytes()[12:-4])
    path.unlink()
    writer = RecordWriter(path)
    writer.append(encode_example({**record, key: change(record[key])}))
    writer.close()
    told = []
    assert list(open_recording(tmp_path / "set").episodes(told.append)) == []
    (error,) = told
    assert line in str(error)


def test_of_several_versions_the_newest_is_read(tmp_path, make_spec, make_episode):
    spec = make_spec(cameras=0)
    for number, version in enumerate(["1.9.0", "1.10.0", "0.99.1"]):
        write(tmp_path / version, spec, [make_episode(spec, 1, steps=2, number=number)])
    (found,) = open_recording(tmp_path).episodes()
    assert found.number == 1
