# SPDX-License-Identifier: Apache-2.0
"""Pickles of SERL and HIL-SERL: what they say is read, and nothing of them is ever run."""

import os
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_recording.convert import convert
from serl_recording.episode import RecordingError
from serl_recording.registry import ReadSettings, WriteSettings, format_of, open_recording

RATE = ReadSettings(rate=10.0, task="insert")


def transitions(lengths, *, seed=0, infos=True, success=True):
    """As HIL-SERL's record_demos writes them: an axis of one in front, float64 actions, dones of int."""
    rng = np.random.default_rng(seed)
    items = []
    for length in lengths:
        seen = [
            {"state": rng.normal(size=(1, 4)).astype(np.float32), "wrist": rng.integers(0, 256, (1, 8, 8, 3), np.uint8)}
            for _ in range(length + 1)
        ]
        for step in range(length):
            last = step == length - 1
            item = {
                "observations": seen[step],
                "actions": rng.uniform(-1, 1, 3),
                "next_observations": seen[step + 1],
                "rewards": int(last and success),
                "masks": 1.0 - last,
                "dones": int(last),
            }
            if infos:
                item["infos"] = {
                    "succeed": bool(last and success),
                    "left": False,
                    "original_state_obs": {"a": np.ones(2)},
                }
                if step % 2:
                    item["infos"]["intervene_action"] = np.zeros(3)
            items.append(item)
    return items


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_demonstrations_are_read_as_they_were_written(tmp_path, protocol):
    items = transitions([3, 5])
    path = tmp_path / "peg_2_demos.pkl"
    path.write_bytes(pickle.dumps(items, protocol))
    assert format_of(path) == "pickle"
    reader = open_recording(path, RATE)
    first, second = reader.episodes()
    assert (reader.spec.rate, reader.spec.task, reader.spec.cameras) == (10.0, "insert", ("wrist",))
    assert (len(first), len(second)) == (3, 5)
    np.testing.assert_array_equal(second.action, np.array([item["actions"] for item in items[3:]], np.float32))
    np.testing.assert_array_equal(
        second.observation["wrist"][:-1], [item["observations"]["wrist"][0] for item in items[3:]]
    )
    np.testing.assert_array_equal(second.observation["state"][-1], items[-1]["next_observations"]["state"][0])
    assert second.intervention.tolist() == [False, True, False, True, False]
    assert (second.terminated, second.truncated, second.success) == (True, False, True)
    assert second.reward.tolist() == [0, 0, 0, 0, 1]


def test_numbers_may_be_of_numpy_and_a_time_limit_is_no_termination(tmp_path):
    items = transitions([4], infos=False, success=False)
    for item in items:
        item["rewards"], item["dones"] = np.float64(item["rewards"]), np.bool_(item["dones"])
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(items))
    (episode,) = open_recording(tmp_path / "a.pkl", RATE).episodes()
    assert (episode.terminated, episode.truncated, episode.success) == (False, True, False)


def test_a_buffer_of_several_files_is_one_recording_in_the_order_of_its_steps(tmp_path):
    items = transitions([5, 6, 4], infos=False)
    for step, part in ((1000, items[:7]), (2000, items[7:9]), (10000, items[9:])):
        (tmp_path / f"transitions_{step}.pkl").write_bytes(pickle.dumps(part))
    assert [len(episode) for episode in open_recording(tmp_path, RATE).episodes()] == [5, 6, 4]
    (tmp_path / "transitions_2000.pkl").write_bytes(b"\x80\x04garbage")
    told = []
    lengths = [len(episode) for episode in open_recording(tmp_path, RATE).episodes(told.append)]
    assert lengths == [5, 2, 2, 4]
    assert len(told) == 1
    assert "transitions_2000.pkl" in str(told[0])


def test_they_become_demonstrations_that_training_reads(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(transitions([3, 5])))
    done = convert(tmp_path / "a.pkl", tmp_path / "a.serl", reading=RATE, writing=WriteSettings("raw"))
    assert (done.episodes, done.steps, done.successes, done.damaged) == (2, 8, 2, [])
    expected = list(open_recording(tmp_path / "a.pkl", RATE).episodes())
    for one, other in zip(open_recording(tmp_path / "a.serl").episodes(), expected, strict=True):
        np.testing.assert_array_equal(one.observation["wrist"], other.observation["wrist"])
        np.testing.assert_array_equal(one.action, other.action)


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil",)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (Evil(), "the name 'posix system'"),
        ([{"observations": Evil()}], "the name 'posix system'"),
        (np.array([{}, None], object), "a call of numpy's dtype"),
        (print, "the name 'builtins print'"),
        ({"a": 1}, "a value of type dict"),
        ([3], "transition 0: expected a dictionary, found a value of type int"),
        ([{"observations": {}}], "arrays by name"),
        ([], "a value of type list"),
    ],
)
def test_anything_else_is_refused_by_name_and_never_run(tmp_path, monkeypatch, content, found):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(RecordingError) as raised:
        open_recording(tmp_path / "a.pkl", RATE)
    assert found in str(raised.value)
    assert not (tmp_path / "evil").exists()


def test_an_array_that_claims_more_than_it_holds_is_refused(tmp_path):
    data = pickle.dumps(transitions([1]), 2).replace(b"K\x08K\x08K\x03", b"K\xffK\xffK\xff")
    (tmp_path / "a.pkl").write_bytes(data)
    with pytest.raises(RecordingError, match="an array of shape"):
        open_recording(tmp_path / "a.pkl", RATE)


@given(place=st.floats(0.0, 1.0, exclude_max=True), value=st.integers(0, 255))
@settings(max_examples=150, deadline=None)
def test_changed_bytes_are_episodes_or_one_line(tmp_path_factory, place, value):
    data = bytearray(pickle.dumps(transitions([2])))
    data[int(place * len(data))] = value
    path = tmp_path_factory.mktemp("changed") / "a.pkl"
    path.write_bytes(data)
    try:
        found = list(open_recording(path, RATE).episodes(lambda _: None))
    except RecordingError as error:
        assert "\n" not in str(error)
    else:
        assert sum(map(len, found)) <= 2


def test_other_spaces_within_a_file_are_left_out_and_named(tmp_path):
    items = transitions([3, 3, 3])
    items[4]["observations"] = {"state": np.zeros((1, 5), np.float32), "wrist": items[4]["observations"]["wrist"]}
    items[4]["next_observations"] = items[4]["observations"]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(items))
    told = []
    assert [len(each) for each in open_recording(tmp_path / "a.pkl", RATE).episodes(told.append)] == [3, 1, 1, 3]
    assert len(told) == 1
    assert "transition 4.observations.state: expected float32 (4,), found float32 (5,)" in str(told[0])


def test_the_rate_has_to_be_given(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(transitions([1])))
    with pytest.raises(RecordingError, match="give --rate"):
        open_recording(tmp_path / "a.pkl")


def of_no_values(*sizes):
    """An array of these sizes that holds nothing."""
    dtype = b"cnumpy\ndtype\nX\x02\x00\x00\x00f4\x89\x88\x87R"
    shape = b"(" + b"".join(b"\x8a\x08" + size.to_bytes(8, "little") for size in sizes) + b"t"
    return b"\x80\x02]cnumpy.core.numeric\n_frombuffer\n(B\0\0\0\0" + dtype + shape + b"X\1\0\0\0CtRa."


def nested(depth):
    """A call of JAX's function with a call of it, and so on."""
    call = b"(cnumpy\ndtype\n))}t"
    for _ in range(depth):
        call = b"(cjax._src.array\n_reconstruct_array\n" + call + b")}t"
    return b"\x80\x02]cjax._src.array\n_reconstruct_array\n" + call + b"Ra."


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (of_no_values(0, 2**62, 2**62), "a shape that is none"),
        (nested(5000), "a call of JAX's"),
        (pickle.dumps([{**transitions([1])[0], "rewards": 2**1030}], 4), "rewards: expected a number"),
    ],
    ids=["sizes", "depth", "integer"],
)
def test_absurd_numbers_and_depths_are_one_line(tmp_path, content, found):
    path = tmp_path / "a.pkl"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=found):
        list(open_recording(path, RATE).episodes())
