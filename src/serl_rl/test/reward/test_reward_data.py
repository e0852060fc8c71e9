# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serl_rl.reward.data import (
    EpisodeBuilder,
    FrameSource,
    RewardDataFile,
    RewardEpisode,
    View,
    check_split,
    read_reward_data,
    split_episodes,
)
from serl_rl.spec import DataError
from serl_rl.storage.segment import SegmentError, create

SOURCE = FrameSource("pick", {"front": View(16, 12), "wrist": View(8, 8, (0.0, 0.5, 0.5, 0.5))})


def build(labels: list[int], source: FrameSource = SOURCE, seed: int = 0) -> RewardEpisode:
    rng = np.random.default_rng(seed)
    builder = EpisodeBuilder(source, "truth")
    for label in labels:
        smooth = {name: rng.integers(0, 255, 3) * np.ones((*view.shape[:2], 1)) for name, view in source.views.items()}
        builder.add({name: picture.astype(np.uint8) for name, picture in smooth.items()}, label)
    return builder.build()


def write(path: Path, *episodes: RewardEpisode) -> Path:
    with RewardDataFile(path, episodes[0].source) as file:
        for episode in episodes:
            file.append(episode)
    return path


def test_what_was_recorded_is_read_again(tmp_path):
    first, second = build([0, 0, 1]), build([0, 1], seed=1)
    found = read_reward_data([write(tmp_path / "a.frames", first, second)])
    assert [episode.id for episode in found] == [first.id, second.id]
    assert found[0].labels.tolist() == [0, 0, 1]
    assert found[0].labelled_by == "truth"
    assert found[0].source == SOURCE
    assert found[1].succeeds
    for name in SOURCE.views:
        assert found[0].decode(name).shape == (3, *SOURCE.views[name].shape)
        np.testing.assert_array_equal(found[0].decode(name), first.decode(name))


def test_pictures_come_back_nearly_as_they_were():
    picture = np.tile(np.array([200, 40, 10], np.uint8), (12, 16, 1))
    builder = EpisodeBuilder(FrameSource("pick", {"front": View(16, 12)}), "keys")
    builder.add({"front": picture}, 0)
    assert np.abs(builder.build().decode("front")[0].astype(int) - picture).max() <= 3


def test_a_file_is_continued_and_a_record_that_a_crash_cut_off_is_dropped(tmp_path):
    path = write(tmp_path / "a.frames", build([0, 1]))
    size = path.stat().st_size
    write(path, build([0, 1], seed=1))
    with path.open("r+b") as file:
        file.truncate(size + 100)
    assert len(read_reward_data([path])) == 1
    write(path, build([1, 1], seed=2))
    assert [episode.labels.tolist() for episode in read_reward_data([path])] == [[0, 1], [1, 1]]


def test_damage_is_an_error(tmp_path):
    path = write(tmp_path / "a.frames", build([0, 1]), build([1, 0], seed=1))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(SegmentError, match="damaged"):
        read_reward_data([path])
    other = tmp_path / "other.frames"
    other.write_bytes(b"no frames at all")
    with pytest.raises(SegmentError, match="expected a reward frames file"):
        read_reward_data([other])
    with pytest.raises(SegmentError, match="cannot read"):
        read_reward_data([tmp_path / "missing.frames"])


def test_bytes_that_are_no_picture_are_named():
    episode = build([0, 1])
    broken = replace(episode, pictures={**episode.pictures, "front": (b"no jpeg", episode.pictures["front"][1])})
    with pytest.raises(DataError, match="frame 0, camera front: expected a picture"):
        broken.decode("front")


def test_pictures_that_claim_to_be_huge_are_refused_before_they_are_decoded():
    episode = build([0, 1])
    data = bytearray(episode.pictures["front"][1])
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = b"\xea\x60\xea\x60"
    changed = replace(episode, pictures={**episode.pictures, "front": (episode.pictures["front"][0], bytes(data))})
    with pytest.raises(DataError, match=r"frame 1, camera front: .* found 60000x60000"):
        changed.decode("front")
    source = FrameSource("pick", {"front": View(8192, 8192)})
    many = RewardEpisode(source, np.zeros(10**7, np.uint8), {"front": (b"",) * 10**7}, "truth", "id")
    with pytest.raises(DataError, match="pictures that fit into the memory"):
        many.decode("front")


def test_a_frame_without_a_camera_or_of_another_size_is_refused():
    builder = EpisodeBuilder(SOURCE, "truth")
    front, wrist = np.zeros((12, 16, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(DataError, match="nothing of wrist"):
        builder.add({"front": front}, 0)
    with pytest.raises(DataError, match="wrist: expected uint8"):
        builder.add({"front": front, "wrist": front}, 0)
    with pytest.raises(DataError, match="label: expected 0 to 1, found 2"):
        builder.add({"front": front, "wrist": wrist}, 2)
    assert len(builder) == 0


@pytest.mark.parametrize(
    "other",
    [
        FrameSource("place", SOURCE.views),
        FrameSource("pick", {"front": View(16, 12)}),
        FrameSource("pick", {**SOURCE.views, "wrist": View(8, 8)}),
        FrameSource("pick", SOURCE.views, ("failure", "held", "success")),
    ],
    ids=["task", "cameras", "crop", "stages"],
)
def test_frames_of_another_source_do_not_get_into_a_file(tmp_path, other):
    path = write(tmp_path / "a.frames", build([0, 1]))
    with pytest.raises((DataError, SegmentError), match="expected"), RewardDataFile(path, other):
        pass
    with pytest.raises(DataError, match="expected frames of"):
        read_reward_data([path, write(tmp_path / "b.frames", build([0, 1], other))])


def test_the_header_of_a_file_says_what_its_frames_are(tmp_path):
    path = write(tmp_path / "a.frames", build([0, 1]))
    (size,) = struct.unpack_from("<I", path.read_bytes(), 8)
    assert json.loads(path.read_bytes()[16 : 16 + size]) == {
        "kind": "reward frames",
        "source": {
            "task": "pick",
            "views": {"front": [16, 12, None], "wrist": [8, 8, [0.0, 0.5, 0.5, 0.5]]},
            "stages": ["failure", "success"],
        },
    }


def test_a_file_without_an_episode_is_one_of_its_source(tmp_path):
    path = tmp_path / "a.frames"
    with RewardDataFile(path, SOURCE):
        pass
    other = FrameSource("pick", {**SOURCE.views, "wrist": View(8, 8)})
    with pytest.raises(DataError, match=r"a\.frames: expected frames of"), RewardDataFile(path, other):
        pass
    write(path, build([0, 1]))
    assert len(read_reward_data([path])) == 1


@pytest.mark.parametrize("about", [{}, {"source": 1}, {"source": {"task": "pick"}}, {"spec": {"observation": [1]}}])
def test_a_header_that_describes_no_frames_is_refused(tmp_path, about):
    create(tmp_path / "a.frames", "reward frames", about)
    with pytest.raises(SegmentError, match=r"a\.frames: expected a header with the source of the frames"):
        read_reward_data([tmp_path / "a.frames"])


def test_a_file_whose_header_and_episode_differ_is_refused(tmp_path):
    path = write(tmp_path / "a.frames", build([0, 1]))
    (size,) = struct.unpack_from("<I", path.read_bytes(), 8)
    records = path.read_bytes()[16 + size :]
    source = replace(SOURCE, task="place")
    create(path, "reward frames", {"source": json.loads(source.to_json())})
    with path.open("ab") as file:
        file.write(records)
    with pytest.raises(SegmentError, match=r"a\.frames: holds an episode that cannot be read: header: expected"):
        read_reward_data([path])


OLD = Path(__file__).with_name("frames_of_an_older_version.bin")
OLD_SOURCE = FrameSource("pick", {"front": View(8, 6, (0.0, 0.0, 0.5, 0.75)), "wrist": View(8, 8)})


def test_a_file_of_an_older_version_is_read_and_continued(tmp_path):
    """Written when headers said of frames only the shapes of their pictures; values as they were recorded."""
    path = tmp_path / "old.frames"
    path.write_bytes(OLD.read_bytes())
    (episode,) = read_reward_data([path])
    assert (episode.id, episode.labelled_by, episode.labels.tolist()) == ("8fcd8a83a4fc3f58", "keys", [0, 1])
    assert episode.source == OLD_SOURCE
    for index in range(2):
        np.testing.assert_allclose(episode.decode("front")[index], 40 * index + 10, atol=1)
        np.testing.assert_allclose(episode.decode("wrist")[index], 200 - 50 * index, atol=1)
    added = build([0, 1, 1], OLD_SOURCE)
    write(path, added)
    assert path.read_bytes().startswith(OLD.read_bytes())
    assert [found.id for found in read_reward_data([path])] == [episode.id, added.id]


def test_a_file_says_of_each_episode_what_world_it_shows(tmp_path):
    unknown, simulated = build([0, 1], seed=1), build([0, 1], replace(SOURCE, world="table"), seed=2)
    path = write(tmp_path / "a.frames", unknown, simulated)
    assert [episode.source.world for episode in read_reward_data([path])] == ["", "table"]
    assert "world" not in json.loads(SOURCE.to_json())  # as files had it that knew no worlds


@pytest.mark.parametrize("empty", [False, True])
def test_a_file_of_an_older_version_takes_no_frames_of_another_source(tmp_path, empty):
    path = tmp_path / "old.frames"
    content = OLD.read_bytes()
    (size,) = struct.unpack_from("<I", content, 8)
    path.write_bytes(content[: 16 + size] if empty else content)
    others = [FrameSource("pick", {**OLD_SOURCE.views, "wrist": View(8, 9)})]
    if not empty:  # of a file without episodes nobody knows the crops
        others.append(FrameSource("pick", {**OLD_SOURCE.views, "wrist": View(8, 8, (0.0, 0.5, 0.5, 0.5))}))
    before = path.read_bytes()
    for other in others:
        with pytest.raises(DataError, match=r"old\.frames: expected"), RewardDataFile(path, other):
            pass
    assert path.read_bytes() == before


def test_an_episode_that_is_there_twice_is_an_error(tmp_path):
    path = write(tmp_path / "a.frames", build([0, 1]))
    copy = tmp_path / "copy.frames"
    copy.write_bytes(path.read_bytes())
    with pytest.raises(DataError, match=r"which is in .*a\.frames too"):
        read_reward_data([path, copy])


@given(
    kinds=st.lists(st.booleans(), min_size=2, max_size=40),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 10),
)
def test_no_episode_is_ever_on_both_sides(kinds, share, seed):
    template = build([0])
    episodes = [
        replace(template, id=str(number), labels=np.array([int(kind)], np.uint8)) for number, kind in enumerate(kinds)
    ]
    train, held_out = split_episodes(episodes, share, seed)
    sides = [{episode.id for episode in side} for side in (train, held_out)]
    assert not sides[0] & sides[1]
    assert len(train) + len(held_out) == len(episodes)
    for kind in (False, True):
        if kinds.count(kind) >= 2:
            assert all(any(episode.succeeds == kind for episode in side) for side in (train, held_out))


def test_data_that_cannot_make_or_judge_a_classifier_are_refused():
    good = [build([0, 1] * 20, seed=seed) for seed in range(2)]
    check_split(good[:1], good[1:])
    with pytest.raises(DataError, match="held-out frames: expected at least 5 of each stage, found 0 of success"):
        check_split(good[:1], [build([0] * 30)])
    with pytest.raises(DataError, match="training frames: expected at least 20 of each stage, found 4 of failure"):
        check_split([build([0] * 4 + [1] * 30)], good[1:])
    with pytest.raises(DataError, match="validation: expected episodes that training has not seen"):
        check_split(good, good[1:])
    with pytest.raises(DataError, match="held-out frames"):
        check_split(good, [])
