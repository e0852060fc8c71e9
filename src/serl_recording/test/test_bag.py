# SPDX-License-Identifier: Apache-2.0
"""MCAP of episodes in the layout of rosbag2, read by ours and by rosbags."""

import json
import re
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_recording.episode import RecordingError, RecordingSpec
from serl_recording.formats.bag.messages import DEFINITIONS
from serl_recording.formats.bag.reader import files_of
from serl_recording.registry import WriteSettings, create_recording, format_of, open_recording
from serl_rl.spec import ArraySpec, DataError, TransitionSpec

pytest.importorskip("mcap", reason="./serl setup recordings")
pytest.importorskip("rosbags", reason="./serl setup recordings")

INTERFACES = Path(__file__).resolve().parents[2] / "serl_interfaces"


def write(path, spec, episodes, pictures="png"):
    with create_recording(path, "mcap", spec, WriteSettings(pictures)) as writer:
        for episode in episodes:
            writer.append(episode)


@given(seeds=st.lists(st.integers(0, 2**32), min_size=1, max_size=3), stamped=st.booleans(), cameras=st.integers(0, 2))
@settings(max_examples=10, deadline=None)
def test_every_value_comes_back(tmp_path_factory, make_spec, make_episode, reads_back, seeds, stamped, cameras):
    folder = tmp_path_factory.mktemp("bag") / "bag"
    spec = make_spec(cameras=cameras)
    episodes = [make_episode(spec, seed, stamped=stamped, success=seed % 2 == 0) for seed in seeds]
    write(folder, spec, episodes)
    assert format_of(folder) == format_of(folder / "bag_0.mcap") == "mcap"
    reads_back(folder, spec, episodes)


@pytest.mark.parametrize("name", sorted(DEFINITIONS))
def test_definitions_are_those_of_the_workspace(name):
    package, _, message = name.partition("/msg/")
    text = (INTERFACES.parent / package / "msg" / f"{message}.msg").read_text()
    lines = [re.sub(r"\s*#.*", "", line).rstrip() for line in text.splitlines()]
    assert "".join(f"{line}\n" for line in lines if line) == DEFINITIONS[name]


def test_rosbags_reads_it(tmp_path, make_spec, make_episode):
    from rosbags.highlevel import AnyReader

    spec = make_spec(cameras=1)
    episodes = [make_episode(spec, seed, steps=4 + seed) for seed in range(3)]
    write(tmp_path / "bag", spec, episodes, "jpeg")
    with AnyReader([tmp_path / "bag"]) as reader:
        found = [
            (connection.topic, stamp, reader.deserialize(data, connection.msgtype))
            for connection, stamp, data in reader.messages()
        ]
    executed = [message for topic, _, message in found if topic == "/arm/executed"]
    assert len(executed) == 4 + 5 + 6
    by_episode = [[each for each in executed if each.episode == episode.number] for episode in episodes]
    for episode, each in zip(episodes, by_episode, strict=True):
        np.testing.assert_array_equal([message.action for message in each], episode.action)
        stamps = [message.header.stamp.sec * 10**9 + message.header.stamp.nanosec for message in each]
        np.testing.assert_array_equal(stamps, episode.stamp[:-1])
    pictures = [message for topic, _, message in found if topic == "/front/color/image_raw/compressed"]
    assert {message.format for message in pictures} == {"jpeg"}
    assert bytes(pictures[0].data[:2]) == b"\xff\xd8"


def test_metadata_is_what_rosbag2_asks_for(tmp_path, make_spec, make_episode):
    spec = make_spec(cameras=1)
    write(tmp_path / "bag", spec, [make_episode(spec, 1, steps=4)])
    info = yaml.safe_load((tmp_path / "bag/metadata.yaml").read_text())["rosbag2_bagfile_information"]
    counts = {each["topic_metadata"]["name"]: each["message_count"] for each in info["topics_with_message_count"]}
    assert counts == {
        "/front/color/image_raw/compressed": 5,
        "/observation/state": 5,
        "/arm/executed": 4,
        "/reward": 4,
        "/policy/version": 4,
        "/recording/episode": 1,
    }
    assert info["message_count"] == sum(counts.values())
    assert info["relative_file_paths"] == ["bag_0.mcap"]
    assert all(
        each["topic_metadata"]["type_description_hash"].startswith("RIHS01_")
        for each in info["topics_with_message_count"]
    )


def test_a_cut_file_gives_every_episode_before(tmp_path, make_spec, make_episode, same):
    spec = make_spec(cameras=1)
    episodes = [make_episode(spec, seed, steps=5) for seed in range(4)]
    write(tmp_path / "bag", spec, episodes)
    path = tmp_path / "bag/bag_0.mcap"
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(json.dumps({"number": 3})[1:-1].encode()) - 3000])
    told = []
    found = list(open_recording(path).episodes(told.append))
    assert [episode.number for episode in found] == [0, 1, 2]
    assert len(told) == 1
    assert str(path) in str(told[0])
    for one, other in zip(found, episodes, strict=False):
        same(one, other)


@pytest.mark.parametrize("named", [True, False], ids=["by metadata.yaml", "by number"])
def test_a_bag_of_several_files_is_read_in_their_order(tmp_path, make_spec, make_episode, same, named):
    """As rosbag2 splits bags: anywhere, also within an episode, and with 10 behind 9."""
    spec = make_spec(cameras=1)
    episodes = [make_episode(spec, seed, steps=5) for seed in range(6)]
    write(tmp_path / "whole", spec, episodes)
    folder = tmp_path / "bag"
    folder.mkdir()
    names = split(tmp_path / "whole/whole_0.mcap", folder, 11, scrambled=named)
    if named:
        info = {"rosbag2_bagfile_information": {"relative_file_paths": names[:-1]}}
        (folder / "metadata.yaml").write_text(yaml.safe_dump(info))
    found = list(open_recording(folder).episodes())
    assert [each.number for each in found] == list(range(6))
    for one, other in zip(found, episodes, strict=True):
        same(one, other)


def test_files_of_any_name_have_an_order(tmp_path):
    names = ["9.mcap", "10.mcap", "a.mcap", "\u00b21.mcap", "\u0663.mcap"]  # a superscript two, an Arabic three
    for name in reversed(names):
        (tmp_path / name).touch()
    assert [path.name for path in files_of(tmp_path)] == names


def split(path, folder, count, *, scrambled):
    """Writes the messages of a bag into so many files, the metadata into the first one."""
    from mcap.reader import make_reader
    from mcap.writer import Writer

    with path.open("rb") as file:
        reader = make_reader(file)
        own = next(iter(reader.iter_metadata()))
        messages = [
            (schema, channel, message) for schema, channel, message in reader.iter_messages(log_time_order=False)
        ]
    bounds = [len(messages) * part // count for part in range(count + 1)]
    names = [f"bag_{(7 * part + 3) % count if scrambled else part}.mcap" for part in range(count - 1)]
    names.append("bag_z.mcap" if scrambled else f"bag_{count - 1}.mcap")
    for part, name in enumerate(names):
        with (folder / name).open("wb") as file:
            writer = Writer(file)
            writer.start(profile="ros2")
            if part == 0:
                writer.add_metadata(own.name, own.metadata)
            channels = {}
            for schema, channel, message in messages[bounds[part] : bounds[part + 1]]:
                if channel.topic not in channels:
                    number = writer.register_schema(schema.name, schema.encoding, schema.data)
                    channels[channel.topic] = writer.register_channel(channel.topic, "cdr", number)
                writer.add_message(channels[channel.topic], message.log_time, message.data, message.publish_time)
            writer.finish()
    return names


@pytest.fixture(scope="module")
def bag(tmp_path_factory, make_spec, make_episode):
    folder = tmp_path_factory.mktemp("flipped") / "bag"
    spec = make_spec(cameras=1)
    episodes = [make_episode(spec, seed, steps=3) for seed in range(4)]
    write(folder, spec, episodes)
    return folder / "bag_0.mcap", episodes


@given(place=st.floats(0.0, 1.0, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=60, deadline=None)
def test_a_flipped_bit_gives_no_other_episodes(bag, same, place, bit):
    path, episodes = bag
    before = path.read_bytes()
    data = bytearray(before)
    data[int(place * len(data))] ^= 1 << bit
    path.write_bytes(data)
    told = []
    try:
        found = list(open_recording(path).episodes(told.append))
    except RecordingError as error:
        assert "\n" not in str(error)
        return
    finally:
        path.write_bytes(before)
    assert len(found) == len(episodes) or told
    for episode in found:
        same(episode, episodes[episode.number])


def test_what_it_cannot_hold_is_refused(tmp_path, make_spec, make_episode):
    entries = {"front": ArraySpec((2, 4, 4, 8), "float16"), "state": ArraySpec((3,), "float32")}
    spec = RecordingSpec(TransitionSpec(entries, 2, encoder="abc"), 10.0)
    with pytest.raises(RecordingError, match="--without front"):
        create_recording(tmp_path / "bag", "mcap", spec)
    spec = make_spec(cameras=0)
    episode = make_episode(spec)
    with create_recording(tmp_path / "other", "mcap", spec) as writer, pytest.raises(DataError, match="before 2038"):
        writer.append(replace(episode, stamp=episode.stamp + 2 * 10**18))


def test_a_bag_of_other_topics_is_refused_by_what_it_lacks(tmp_path):
    from mcap.writer import Writer

    with (tmp_path / "a.mcap").open("wb") as file:
        writer = Writer(file)
        writer.start()
        writer.finish()
    with pytest.raises(RecordingError, match="which are no episodes"):
        open_recording(tmp_path / "a.mcap")


def test_a_killed_recording_has_what_was_appended(tmp_path, kill_while_writing, make_spec, make_episode, same):
    appended = kill_while_writing(tmp_path / "bag", "mcap", 4)
    found = list(open_recording(tmp_path / "bag").episodes(lambda _: None))
    assert [episode.number for episode in found[: appended + 1]] == list(range(appended + 1))
    spec = make_spec()
    for seed, episode in enumerate(found):
        same(episode, make_episode(spec, seed, steps=5))


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_compressed_by_others_it_comes_back(tmp_path, make_spec, make_episode, same, compression):
    from mcap.reader import make_reader
    from mcap.writer import CompressionType, Writer

    spec = make_spec(cameras=1)
    episode = make_episode(spec, 1, steps=5)
    write(tmp_path / "bag", spec, [episode])
    with (tmp_path / "bag/bag_0.mcap").open("rb") as source, (tmp_path / "a.mcap").open("wb") as target:
        reader, writer = make_reader(source), Writer(target, compression=CompressionType[compression.upper()])
        writer.start(profile="ros2", library="other")
        for record in reader.iter_metadata():
            writer.add_metadata(record.name, record.metadata)
        channels = {}
        for schema, channel, message in reader.iter_messages(log_time_order=False):
            if channel.id not in channels:
                number = writer.register_schema(schema.name, schema.encoding, schema.data)
                channels[channel.id] = writer.register_channel(channel.topic, "cdr", number)
            writer.add_message(channels[channel.id], message.log_time, message.data, message.publish_time)
        writer.finish()
    (found,) = open_recording(tmp_path / "a.mcap").episodes()
    same(found, episode)


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
@pytest.mark.parametrize("says", [1000, 2**28 + 9])
def test_a_chunk_that_unpacks_to_more_than_it_may_is_left_out(
    tmp_path, make_spec, make_episode, same, compression, says
):
    import lz4.frame
    import zstandard
    from mcap.data_stream import RecordBuilder
    from mcap.records import Chunk

    spec = make_spec(cameras=0)
    episode = make_episode(spec, 1, steps=3)
    write(tmp_path / "bag", spec, [episode])
    path = tmp_path / "bag/bag_0.mcap"
    large = b"\x80" + (2**28).to_bytes(8, "little") + bytes(2**28)  # one record of a kind that nobody knows
    packed = zstandard.compress(large) if compression == "zstd" else lz4.frame.compress(large)
    del large
    builder = RecordBuilder()
    Chunk(compression, packed, 0, 0, 0, says).write(builder)
    data = path.read_bytes()
    behind_header = 17 + int.from_bytes(data[9:17], "little")
    path.write_bytes(data[:behind_header] + builder.end() + data[behind_header:])
    told = []
    tracemalloc.start()
    (found,) = open_recording(path).episodes(told.append)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    same(found, episode)
    (error,) = told
    assert "a damaged chunk was left out" in str(error)
    assert peak < 2**26
