# SPDX-License-Identifier: Apache-2.0
"""Demonstration files: whole or not at all, and nothing but data."""

import threading
from pathlib import Path

import numpy as np
import pytest
from serl_rl.spec import ArraySpec, TransitionSpec
from serl_rl.storage import segment
from serl_rl.storage.chunk import Chunk
from serl_rl.storage.demonstrations import (
    DemonstrationError,
    DemonstrationFile,
    read_demonstrations,
    readable_demonstrations,
)
from serl_rl.storage.segment import create, read_header, scan
from serl_rl.storage.spec_header import with_spec

SPEC = TransitionSpec({"state": ((3,), "float32")}, 2)


def episode(number: int, length: int) -> Chunk:
    rng = np.random.default_rng(number)
    return Chunk(
        observation={"state": rng.standard_normal((length + 1, 3), dtype=np.float32)},
        action=rng.uniform(-1, 1, (length, 2)).astype(np.float32),
        reward=np.zeros(length, np.float32),
        mask=np.array([1.0] * (length - 1) + [0.0], np.float32),
        truncated=np.zeros(length, np.bool_),
        intervention=np.ones(length, np.bool_),
        policy_version=np.zeros(length, np.uint64),
        actor_id="person",
        episode=number,
        first_step=0,
        demonstration=True,
        last=True,
        success=True,
    )


def write(path: Path, count: int) -> None:
    with DemonstrationFile(path, SPEC) as file:
        for number in range(count):
            file.append(episode(number, 4 + number))


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write(tmp_path / "demo.serl", 3)
    chunks = list(read_demonstrations(tmp_path / "demo.serl", SPEC))
    assert [(chunk.episode, len(chunk)) for chunk in chunks] == [(0, 4), (1, 5), (2, 6)]
    for chunk in chunks:
        np.testing.assert_array_equal(chunk.action, episode(chunk.episode, len(chunk)).action)
    assert not list(tmp_path.glob("*.part"))


def test_an_interrupted_recording_leaves_the_older_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "demo.serl"
    write(path, 2)
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt), DemonstrationFile(path, SPEC) as file:
        file.append(episode(9, 5))
        raise KeyboardInterrupt
    assert path.read_bytes() == before


def interrupted(path: Path, *numbers: int) -> None:
    with pytest.raises(KeyboardInterrupt), DemonstrationFile(path, SPEC) as file:
        for number in numbers:
            file.append(episode(number, 5))
        raise KeyboardInterrupt


def test_what_interrupted_recordings_left_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "demo.serl"
    interrupted(path, 1, 2)
    interrupted(path)  # left nothing, so nothing of it is kept
    interrupted(path, 3)
    write(path, 2)
    held = {
        file.name: [chunk.episode for chunk, _ in readable_demonstrations(file, lambda _: None)]
        for file in tmp_path.iterdir()
    }
    assert held == {"demo.serl": [0, 1], "demo.serl.1.part": [1, 2], "demo.serl.2.part": [3]}


def test_two_recordings_do_not_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "demo.serl"
    with DemonstrationFile(path, SPEC) as file:
        file.append(episode(0, 4))
        with pytest.raises(DemonstrationError, match="another recording"):
            DemonstrationFile(path, SPEC)
        file.append(episode(1, 5))
    assert [chunk.episode for chunk in read_demonstrations(path, SPEC)] == [0, 1]


def test_two_recordings_that_begin_one_file_at_one_moment_do_not_replace_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[str] = []
    path, original = tmp_path / "demos.serl", segment.create

    def other() -> None:
        try:
            DemonstrationFile(path, SPEC).close(False)
        except DemonstrationError as error:
            refused.append(str(error))

    def slow(*args: object) -> None:  # the other one begins as this one has seen that there is no file yet
        monkeypatch.setattr(segment, "create", original)
        thread.start()
        thread.join(0.3)
        original(*args)  # type: ignore[arg-type]

    thread = threading.Thread(target=other)
    monkeypatch.setattr(segment, "create", slow)
    with DemonstrationFile(path, SPEC) as file:
        thread.join()
        file.append(episode(0, 4))
    (line,) = refused
    assert "another recording" in line and path.exists()


@pytest.mark.parametrize("damage", ["missing", "truncated", "changed", "foreign", "pickle"])
def test_files_that_are_not_whole_demonstrations_are_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "demo.serl"
    write(path, 2)
    data = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(data[:-5])
    elif damage == "changed":
        data[-20] ^= 1
        path.write_bytes(data)
    elif damage == "foreign":
        path.write_bytes(b"demonstrations of something else")
    else:
        path.write_bytes(b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00.")
    with pytest.raises(DemonstrationError, match=r"demo\.serl"):
        list(read_demonstrations(path, SPEC))


def test_demonstrations_of_another_task_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "demo.serl", 1)
    other = TransitionSpec({"state": ((4,), "float32")}, 2)
    with pytest.raises(DemonstrationError, match="another task"):
        list(read_demonstrations(tmp_path / "demo.serl", other))


def test_demonstrations_without_the_cameras_say_which_are_missing(tmp_path: Path) -> None:
    write(tmp_path / "demo.serl", 1)
    picture = ArraySpec((8, 6, 3), "uint8")
    wanted = TransitionSpec(dict(SPEC.observation) | {"front": picture, "wrist": picture}, 2)
    with pytest.raises(DemonstrationError) as error:
        list(read_demonstrations(tmp_path / "demo.serl", wanted))
    expected = "demo.serl: expected front: uint8 (8, 6, 3), wrist: uint8 (8, 6, 3); found front: none, wrist: none; "
    assert expected in str(error.value)
    assert "make it again, or choose the task and the settings (--set vision...)" in str(error.value)


def test_demonstrations_of_another_encoder_name_both(tmp_path: Path) -> None:
    features = {"front": ArraySpec((2, 4, 4, 8), "float16")}
    with DemonstrationFile(tmp_path / "demo.serl", TransitionSpec(features, 2, "a" * 16)):
        pass
    with pytest.raises(DemonstrationError, match=f"expected encoder: {'b' * 16}; found encoder: {'a' * 16};"):
        list(read_demonstrations(tmp_path / "demo.serl", TransitionSpec(features, 2, "b" * 16)))


def test_a_file_that_ends_too_early_is_noticed_although_every_record_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "demo.serl"
    write(path, 3)
    whole = path.read_bytes()
    ends = [end for end, _ in scan(path, "demonstrations")]
    for end in (read_header(path, "demonstrations").end, *ends[:-1]):
        path.write_bytes(whole[:end])
        with pytest.raises(DemonstrationError, match=r"demo\.serl: ends behind \d chunks"):
            list(read_demonstrations(path, SPEC))
    path.write_bytes(whole[: ends[0]] + whole[ends[1] :])
    with pytest.raises(DemonstrationError, match=r"demo\.serl: ends behind 2 chunks"):
        list(read_demonstrations(path, SPEC))


def test_a_file_of_an_older_version_has_no_end(tmp_path: Path) -> None:
    path = tmp_path / "old.serl"
    create(path, "demonstrations", with_spec(SPEC))
    assert list(read_demonstrations(path, SPEC)) == []
