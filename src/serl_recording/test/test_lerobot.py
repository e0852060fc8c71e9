# SPDX-License-Identifier: Apache-2.0
"""LeRobot datasets. That LeRobot's own class reads them shows scripts/check_recordings_with_real_readers."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_recording.episode import RecordingError, RecordingSpec
from serl_recording.registry import WriteSettings, create_recording, format_of, open_recording
from serl_rl.spec import ArraySpec, TransitionSpec

pa = pytest.importorskip("pyarrow", reason="./serl setup recordings")
pytest.importorskip("av", reason="./serl setup recordings")


def write(path, spec, episodes, pictures="png"):
    with create_recording(path, "lerobot", spec, WriteSettings(pictures)) as writer:
        for episode in episodes:
            writer.append(episode)


@given(
    seeds=st.lists(st.integers(0, 2**32), min_size=1, max_size=3), stamped=st.booleans(), rate=st.floats(0.1, 1000.0)
)
@settings(max_examples=12, deadline=None)
def test_every_value_comes_back(tmp_path_factory, make_spec, make_episode, reads_back, seeds, stamped, rate):
    folder = tmp_path_factory.mktemp("set") / "set"
    spec = make_spec(rate=rate)
    episodes = [make_episode(spec, seed, stamped=stamped, success=seed % 2 == 0) for seed in seeds]
    write(folder, spec, episodes)
    assert format_of(folder) == "lerobot"
    reads_back(folder, spec, episodes)


def test_videos_differ_by_what_the_codec_takes(tmp_path, make_spec, make_episode, same):
    spec = make_spec()
    spec = replace(
        spec,
        transitions=replace(
            spec.transitions,
            observation={
                "front": ArraySpec((64, 96, 3), "uint8"),
                "wrist": ArraySpec((64, 64, 3), "uint8"),
                "state": ArraySpec((1,), "float32"),
            },
        ),
    )
    episodes = [make_episode(spec, seed, steps=12) for seed in range(2)]
    write(tmp_path / "set", spec, episodes, "video")
    found = list(open_recording(tmp_path / "set").episodes())
    for one, other in zip(found, episodes, strict=True):
        same(one, other, pictures=3.0)
        np.testing.assert_array_equal(one.observation["front"][-1], other.observation["front"][-1])


def test_statistics_are_those_of_all_rows(tmp_path, make_spec, make_episode):
    spec = make_spec(cameras=1)
    episodes = [make_episode(spec, seed, steps=7 + seed) for seed in range(3)]
    write(tmp_path / "set", spec, episodes)
    stats = json.loads((tmp_path / "set/meta/stats.json").read_text())
    state = np.concatenate([episode.observation["state"][:-1] for episode in episodes]).astype(np.float64)
    picture = np.concatenate([episode.observation["front"][:-1] for episode in episodes]) / 255.0
    found = stats["observation.state"]
    np.testing.assert_allclose(found["mean"], state.mean(axis=0))
    np.testing.assert_allclose(found["std"], state.std(axis=0))
    np.testing.assert_allclose(found["min"], state.min(axis=0))
    assert found["count"] == [24]
    found = stats["observation.images.front"]
    assert np.shape(found["mean"]) == (3, 1, 1)
    np.testing.assert_allclose(np.ravel(found["mean"]), picture.mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(np.ravel(found["std"]), picture.std(axis=(0, 1, 2)))


def test_a_damaged_file_costs_its_episode_and_no_other(tmp_path, make_spec, make_episode):
    spec = make_spec(cameras=1)
    write(tmp_path / "set", spec, [make_episode(spec, seed, steps=4) for seed in range(5)])
    first = tmp_path / "set/data/chunk-000/file-001.parquet"
    first.write_bytes(first.read_bytes()[:-50])
    (tmp_path / "set/data/chunk-000/file-002.parquet").unlink()
    rest = tmp_path / "set/meta/serl/chunk-000/episode-000003.safetensors"
    data = bytearray(rest.read_bytes())
    data[-3] ^= 1
    rest.write_bytes(data)
    told = []
    assert [episode.number for episode in open_recording(tmp_path / "set").episodes(told.append)] == [0, 4]
    assert len(told) == 3
    for error, file in zip(told, (first, "file-002.parquet", rest), strict=True):
        assert str(file) in str(error)
    with pytest.raises(RecordingError, match="episode 1 was left out"):
        list(open_recording(tmp_path / "set").episodes())


@given(place=st.floats(0.0, 1.0, exclude_max=True), bit=st.integers(0, 7), which=st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_a_flipped_bit_is_one_line_or_changes_one_value_at_most(tmp_path_factory, lerobot_set, place, bit, which):
    """Parquet and video have no checksums of their own: a value may change, but nothing else happens."""
    files, folder = lerobot_set
    path = files[which % len(files)]
    before = path.read_bytes()
    data = bytearray(before)
    data[int(place * len(data))] ^= 1 << bit
    path.write_bytes(data)
    try:
        found = list(open_recording(folder).episodes(lambda _: None))
    except RecordingError as error:
        assert "\n" not in str(error)
    else:
        assert len(found) <= 2
    finally:
        path.write_bytes(before)


@pytest.fixture(scope="module")
def lerobot_set(tmp_path_factory, make_spec, make_episode):
    folder = tmp_path_factory.mktemp("flipped") / "set"
    spec = make_spec(cameras=1)
    write(folder, spec, [make_episode(spec, seed, steps=3) for seed in range(2)])
    return sorted(path for path in folder.rglob("*") if path.is_file()), folder


def test_features_of_an_encoder_are_refused_with_the_way_out(tmp_path):
    entries = {"front": ArraySpec((2, 4, 4, 8), "float16"), "state": ArraySpec((3,), "float32")}
    spec = RecordingSpec(TransitionSpec(entries, 2, encoder="abc"), 10.0)
    with pytest.raises(RecordingError, match="--without front"):
        create_recording(tmp_path / "set", "lerobot", spec)
    create_recording(tmp_path / "other", "lerobot", spec.without(frozenset({"front"})))


def others_dataset(folder, version):
    """A dataset as LeRobot writes it for a follower arm: names by group, degrees, nothing of reinforcement learning."""
    import pyarrow.parquet as pq

    names = ["shoulder.pos", "gripper.pos"]
    old = version == "v2.1"
    features = {
        "action": {"dtype": "float32", "shape": [2], "names": {"motors": names} if old else names},
        "observation.state": {"dtype": "float32", "shape": [2], "names": names},
        **{
            name: {"dtype": "float32" if name == "timestamp" else "int64", "shape": [1], "names": None}
            for name in ("timestamp", "frame_index", "episode_index", "index", "task_index")
        },
    }
    data = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
    info = {
        "codebase_version": version, "fps": 30, "features": features, "total_episodes": 2, "total_frames": 7,
        "data_path": data if old else "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet", "video_path": None,
    }  # fmt: skip
    (folder / "meta").mkdir(parents=True)
    (folder / "meta/info.json").write_text(json.dumps(info))
    action = np.arange(14, dtype=np.float32).reshape(7, 2) * 10
    episode = np.array([0, 0, 0, 1, 1, 1, 1])
    table = pa.table(
        {
            "action": pa.FixedSizeListArray.from_arrays(action.reshape(-1), 2),
            "observation.state": pa.FixedSizeListArray.from_arrays((action - 1).reshape(-1), 2),
            "episode_index": episode,
        }
    )
    if old:
        for index in range(2):
            (folder / "data/chunk-000").mkdir(parents=True, exist_ok=True)
            part = table.filter(pa.array(episode == index))
            pq.write_table(part, folder / f"data/chunk-000/episode_{index:06d}.parquet")
        lines = [{"episode_index": i, "tasks": ["pick"], "length": n} for i, n in enumerate((3, 4))]
        (folder / "meta/episodes.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    else:
        (folder / "data/chunk-000").mkdir(parents=True)
        pq.write_table(table, folder / "data/chunk-000/file-000.parquet")
        rows = {
            "episode_index": [0, 1], "tasks": [["pick"], ["pick"]], "length": [3, 4],
            "data/chunk_index": [0, 0], "data/file_index": [0, 0],
        }  # fmt: skip
        (folder / "meta/episodes/chunk-000").mkdir(parents=True)
        pq.write_table(pa.table(rows), folder / "meta/episodes/chunk-000/file-000.parquet")
    return action


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_a_dataset_of_others_is_read(tmp_path, version):
    action = others_dataset(tmp_path / "set", version)
    reader = open_recording(tmp_path / "set")
    assert reader.spec.task == "pick"
    assert reader.spec.rate == 30.0
    assert reader.spec.action_names == reader.spec.entry_names("state") == ("shoulder.pos", "gripper.pos")
    first, second = reader.episodes()
    np.testing.assert_array_equal(np.concatenate([first.action, second.action]), action)
    np.testing.assert_array_equal(second.observation["state"], np.concatenate([action[3:], action[-1:]]) - 1)
    assert (second.terminated, second.truncated, second.success, second.stamped) == (False, True, False, False)


@pytest.mark.parametrize("version", ["v1.6", "v3.1"])
def test_other_versions_are_refused_by_name(tmp_path, version):
    others_dataset(tmp_path / "set", "v3.0")
    info = tmp_path / "set/meta/info.json"
    info.write_text(info.read_text().replace("v3.0", version))
    with pytest.raises(RecordingError, match=f"expected version v3.0 or v2.1, found '{version}'"):
        open_recording(tmp_path / "set")


def test_a_killed_recording_is_a_dataset_of_what_was_appended(
    tmp_path, kill_while_writing, make_spec, make_episode, same
):
    appended = kill_while_writing(tmp_path / "set", "lerobot", 3)
    found = list(open_recording(tmp_path / "set").episodes())
    assert [episode.number for episode in found[: appended + 1]] == list(range(appended + 1))
    spec = make_spec()
    for seed, episode in enumerate(found):
        same(episode, make_episode(spec, seed, steps=5), pictures=8.0)
