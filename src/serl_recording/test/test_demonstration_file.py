# SPDX-License-Identifier: Apache-2.0
"""Demonstration files as recordings, and the journals of runs."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_recording.chunks import Joiner, Piece, chunk_of
from serl_recording.convert import Selection, convert
from serl_recording.episode import RecordingError
from serl_recording.registry import ReadSettings, WriteSettings, create_recording, format_of, open_recording
from serl_rl.spec import DataError
from serl_rl.storage.chunk import encode_chunk
from serl_rl.storage.demonstrations import read_demonstrations
from serl_rl.storage.journal import Journal, Record
from serl_rl.storage.tombstone import Tombstone, encode_tombstone


def write(path, spec, episodes, **settings):
    with create_recording(path, "serl", spec, WriteSettings(**settings)) as writer:
        for episode in episodes:
            writer.append(episode)


@given(seeds=st.lists(st.integers(0, 2**32), min_size=1, max_size=4), stamped=st.booleans(), cameras=st.integers(0, 2))
@settings(max_examples=15, deadline=None)
def test_every_value_comes_back(tmp_path_factory, make_spec, make_episode, same, seeds, stamped, cameras):
    path = tmp_path_factory.mktemp("file") / "file.serl"
    spec = make_spec(cameras=cameras)
    episodes = [make_episode(spec, seed, stamped=stamped, success=seed % 2 == 0) for seed in seeds]
    write(path, spec, episodes, pictures="raw")
    reader = open_recording(path)
    assert reader.spec == spec
    found = list(reader.episodes())
    assert len(found) == len(episodes)
    for one, other in zip(found, episodes, strict=True):
        same(one, other)


def test_training_reads_a_file_with_stamps_as_any_other(tmp_path, make_spec, make_episode):
    spec = make_spec()
    episode = make_episode(spec, 3, steps=4)
    write(tmp_path / "file.serl", spec, [episode])
    (chunk,) = read_demonstrations(tmp_path / "file.serl", spec.transitions)
    np.testing.assert_array_equal(chunk.action, episode.action)


def test_pieces_of_several_actors_are_joined_with_stacked_frames(make_spec, make_episode, same):
    spec = make_spec()
    episodes = [replace(make_episode(spec, seed, steps=9, stamped=False), actor=f"actor_{seed}") for seed in (1, 2)]
    stacked = replace(spec.transitions, frame_stack=3)
    pieces = []
    for episode in episodes:
        whole = chunk_of(episode, spec)
        for start, stop in ((0, 2), (2, 3), (3, 9)):
            keep = np.zeros(9, np.bool_)
            keep[start:stop] = True
            (piece,) = whole.select(keep)
            history = min(2, start)
            frames = {name: episode.observation[name][start - history : stop + 1] for name in ("front", "wrist")}
            piece = replace(piece, observation={**piece.observation, **frames}, frame_stack=3)
            piece.check(stacked)
            pieces.append(Piece(piece, episode.actor))
    joiner = Joiner(spec)
    found = list(joiner.join(pieces[i] for i in (0, 3, 4, 1, 2, 5)))
    assert joiner.incomplete == 0
    for one, other in zip(found, episodes, strict=True):
        same(one, other)


def test_an_episode_that_lacks_a_piece_is_counted_and_no_other_is_lost(make_spec, make_episode):
    spec = make_spec(cameras=0)
    whole = [chunk_of(make_episode(spec, seed, steps=6), spec) for seed in (3, 6, 9)]
    pieces = [Piece(whole[0], "a"), Piece(whole[1].skip(2), "a"), Piece(whole[2], "a")]
    joiner = Joiner(spec)
    assert [episode.number for episode in joiner.join(pieces)] == [3, 9]
    assert joiner.incomplete == 1


def damaged_file(tmp_path, make_spec, make_episode, change):
    spec = make_spec()
    path = tmp_path / "file.serl"
    episodes = [make_episode(spec, seed, steps=4) for seed in range(5)]
    write(path, spec, episodes)
    data = bytearray(path.read_bytes())
    path.write_bytes(change(data))
    return path, episodes


def test_a_cut_file_gives_everything_before_and_one_line(tmp_path, make_spec, make_episode):
    path, _ = damaged_file(tmp_path, make_spec, make_episode, lambda data: data[: len(data) * 2 // 3])
    told = []
    found = list(open_recording(path).episodes(told.append))
    assert [episode.number for episode in found] == [0, 1, 2]
    assert len(told) == 1
    assert str(path) in str(told[0])
    assert "not where it was closed" in str(told[0])
    with pytest.raises(RecordingError, match="not where it was closed"):
        list(open_recording(path).episodes())


@given(place=st.floats(0.2, 0.95), bit=st.integers(0, 7))
@settings(max_examples=25, deadline=None)
def test_a_flipped_bit_loses_one_episode_at_most(tmp_path_factory, make_spec, make_episode, same, place, bit):
    def flip(data):
        data[int(place * len(data))] ^= 1 << bit
        return data

    path, episodes = damaged_file(tmp_path_factory.mktemp("file"), make_spec, make_episode, flip)
    told = []
    found = list(open_recording(path).episodes(told.append))
    assert told
    assert len(found) >= len(episodes) - 1
    for episode in found:
        expected = episodes[episode.number]
        np.testing.assert_array_equal(episode.action, expected.action)


def test_other_episodes_than_the_file_is_for_are_refused(tmp_path, make_spec, make_episode, unended):
    spec = make_spec()
    with create_recording(tmp_path / "file.serl", "serl", spec) as writer:
        with pytest.raises(DataError, match=r"observation: expected entries"):
            writer.append(make_episode(make_spec(cameras=1)))
        with pytest.raises(DataError, match="components in \\[-1, 1\\]"):
            writer.append(replace(make_episode(spec), action=2 * np.ones_like(make_episode(spec).action)))
        with pytest.raises(DataError, match="without an end"):
            writer.append(unended(make_episode(spec)))
        with pytest.raises(DataError, match="action: expected finite values"):
            writer.append(replace(make_episode(spec), action=np.nan * make_episode(spec).action))
        writer.append(make_episode(spec))


@pytest.mark.parametrize("after", [1, 7])
def test_a_killed_recording_has_every_episode_that_was_appended(
    tmp_path, kill_while_writing, make_spec, make_episode, after
):
    path = tmp_path / "file.serl"
    appended = kill_while_writing(path, "serl", after)
    assert not path.exists()
    found = list(open_recording(path.with_name("file.serl.part")).episodes(lambda _: None))
    assert [episode.number for episode in found[: appended + 1]] == list(range(appended + 1))
    spec = make_spec()
    np.testing.assert_array_equal(found[appended].action, make_episode(spec, appended, steps=5).action)


def test_the_journal_of_a_run_is_a_recording(tmp_path, make_spec, make_episode, same):
    spec = make_spec()
    episodes = [make_episode(spec, seed, stamped=False, success=seed != 2) for seed in range(4)]
    with Journal(tmp_path / "run" / "journal", spec.transitions, sync_interval=None) as journal:
        sequence = 0
        for episode in episodes:
            chunk = chunk_of(episode, spec)
            journal.append(Record(episode.actor, "session", sequence, len(chunk), encode_chunk(chunk)))
            sequence += len(chunk)
    assert format_of(tmp_path / "run") == format_of(tmp_path / "run" / "journal") == "journal"
    found = list(open_recording(tmp_path / "run", ReadSettings(task="pick the cube")).episodes())
    for one, other in zip(found, episodes, strict=True):
        same(one, other)

    done = convert(
        tmp_path / "run",
        tmp_path / "out.serl",
        writing=WriteSettings("raw"),
        selection=Selection(successes=True, without=frozenset({"wrist"})),
    )
    assert (done.episodes, done.passed, done.damaged) == (3, 1, [])
    found = list(open_recording(tmp_path / "out.serl").episodes())
    kept = [episode.without(frozenset({"wrist"})) for episode in episodes if episode.success]
    for one, other in zip(found, kept, strict=True):
        same(one, other)


def run_with(path, spec, episodes, tombstones):
    """A run that ends in tombstones; returns the end of each record."""
    with Journal(path / "journal", spec.transitions, sync_interval=None) as journal:
        sequence, ends = 0, []
        chunks = [chunk_of(episode, spec) for episode in episodes]
        records = [(len(chunk), encode_chunk(chunk)) for chunk in chunks] + [(1, data) for data in tombstones]
        for count, data in records:
            journal.append(Record("actor", "session", sequence, count, data))
            sequence += count
            ends.append(journal.position.offset)
    return ends


def test_a_tombstone_that_cannot_be_read_is_left_out_and_told(tmp_path, make_spec, make_episode):
    spec = make_spec()
    episodes = [make_episode(spec, seed, stamped=False) for seed in range(3)]
    good = encode_tombstone(Tombstone(episodes[0].actor, episodes[0].number, 0))
    run_with(tmp_path, spec, episodes, [b"SERLTMB1\x93\x01\x02\x03", good])
    told = []
    found = list(open_recording(tmp_path).episodes(told.append))
    assert [episode.number for episode in found] == [episode.number for episode in episodes[1:]]
    (line,) = map(str, told)
    assert "a record of segment 0 was left out" in line
    assert "what a person discarded with it may have come back" in line
    with pytest.raises(RecordingError, match="may have come back"):
        list(open_recording(tmp_path).episodes())


def test_damage_says_that_what_was_discarded_may_have_come_back(tmp_path, make_spec, make_episode):
    spec = make_spec()
    episodes = [make_episode(spec, seed, stamped=False) for seed in range(3)]
    tombstones = [encode_tombstone(Tombstone(each.actor, each.number, 0)) for each in episodes[:2]]
    ends = run_with(tmp_path, spec, episodes, tombstones)
    (segment,) = (tmp_path / "journal").glob("*.segment")
    data = bytearray(segment.read_bytes())
    data[ends[3] - 6] ^= 1  # in the first tombstone
    segment.write_bytes(data)
    told = []
    found = list(open_recording(tmp_path).episodes(told.append))
    assert [episode.number for episode in found] == [episodes[0].number, episodes[2].number]
    (line,) = map(str, told)
    assert "is damaged or missing" in line
    assert "may have come back" in line


@pytest.mark.parametrize("place", ["payload", "size", "header"])
def test_damage_in_the_very_last_record_of_a_run_is_told_and_a_torn_one_is_not(
    tmp_path, make_spec, make_episode, place
):
    spec = make_spec()
    episodes = [make_episode(spec, seed, stamped=False) for seed in range(3)]
    ends = run_with(tmp_path, spec, episodes, [])
    (segment,) = (tmp_path / "journal").glob("*.segment")
    whole = segment.read_bytes()
    told: list[RecordingError] = []
    segment.write_bytes(whole[: ends[2] - 5])  # as a crash leaves it
    assert len(list(open_recording(tmp_path).episodes(told.append))) == 2
    assert told == []
    data = bytearray(whole)
    if place == "header":  # of the segment that comes last
        (tmp_path / "journal" / "00000001.segment").write_bytes(data[:30])
    else:
        data[ends[1] if place == "size" else ends[2] - 5] ^= 1
    segment.write_bytes(data)
    assert len(list(open_recording(tmp_path).episodes(told.append))) == (3 if place == "header" else 2)
    (line,) = map(str, told)
    assert "its end is damaged" in line and "segment" in line and "\n" not in line


def test_what_is_no_recording_is_refused_in_one_line(tmp_path, make_spec):
    (tmp_path / "file").write_text("something")
    with pytest.raises(RecordingError, match="expected a recording, found none of serl"):
        open_recording(tmp_path / "file")
    with pytest.raises(RecordingError, match="found nothing"):
        open_recording(tmp_path / "missing")
    with pytest.raises(RecordingError, match="does not say the format"):
        convert(tmp_path / "file", tmp_path / "out")
    with pytest.raises(RecordingError, match="exists"):
        create_recording(tmp_path / "file", "serl", make_spec())
    with pytest.raises(RecordingError, match="--pictures: expected one of jpeg, raw"):
        create_recording(tmp_path / "new", "serl", make_spec(), WriteSettings("video"))
