# SPDX-License-Identifier: Apache-2.0
"""``./serl convert``, ``data`` and ``record``, as a person calls them and what they say."""

import io
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from serl_cli.app import main
from serl_recording.episode import Episode, RecordingSpec, nominal_stamps
from serl_recording.registry import create_recording, open_recording
from serl_rl.spec import ArraySpec, TransitionSpec

SPEC = RecordingSpec(TransitionSpec({"state": ArraySpec((2,), "float32")}, 2), 10.0, "reach")
STEPS = 30


def episode(number: int, *, constant: bool = False) -> Episode:
    rng = np.random.default_rng(number)
    reward = np.zeros(STEPS, np.float32)
    reward[-1] = number % 2
    action = rng.uniform(-1, 1, (STEPS, 2)).astype(np.float32)
    return Episode(
        observation={"state": rng.normal(size=(STEPS + 1, 2)).astype(np.float32)},
        action=0 * action if constant else action,
        reward=reward,
        intervention=np.zeros(STEPS, np.bool_),
        policy_version=np.zeros(STEPS, np.uint64),
        stamp=nominal_stamps(STEPS + 1, 10.0),
        stamped=True,
        terminated=number % 2 == 1,
        truncated=number % 2 == 0,
        success=number % 2 == 1,
        demonstration=True,
        actor="actor",
        number=number,
    )


@pytest.fixture
def recording(tmp_path):
    with create_recording(tmp_path / "in.serl", "serl", SPEC) as writer:
        for number in range(4):
            writer.append(episode(number))
    return tmp_path / "in.serl"


def test_only_successes_are_converted_where_they_are_asked_for(recording, capsys):
    out = recording.with_name("out.serl")
    assert main(["convert", str(recording), str(out), "--successes"]) == 0
    assert "2 episodes, 2 of them successful, 60 steps, 2 not selected" in capsys.readouterr().out
    assert [each.number for each in open_recording(out).episodes()] == [1, 3]


def test_damage_is_named_and_everything_else_converted(recording, capsys):
    data = recording.read_bytes()
    recording.write_bytes(data[: len(data) - 200])
    out = recording.with_name("out.serl")
    assert main(["convert", str(recording), str(out)]) == 1
    output = capsys.readouterr()
    assert "3 episodes" in output.out
    assert "left out" in output.err
    assert len(list(open_recording(out).episodes())) == 3


def test_info_says_what_is_in_it(recording, capsys):
    assert main(["data", "info", str(recording)]) == 0
    output = capsys.readouterr().out
    for expected in ("demonstration file", "reach", "10 Hz", "state float32 (2,)", "4: 2 successful", "120 (12 s)"):
        assert expected in output


def test_check_ends_with_status_1_where_something_is_wrong(recording, capsys):
    assert main(["data", "check", str(recording)]) == 0
    assert "nothing wrong in 4 episodes" in capsys.readouterr().out
    worse = recording.with_name("worse.serl")
    with create_recording(worse, "serl", SPEC) as writer:
        writer.append(episode(1))
        writer.append(episode(2, constant=True))
    assert main(["data", "check", str(worse)]) == 1
    assert "episode 2 of actor: the action is the same in all 30 steps" in capsys.readouterr().out


def test_a_recording_is_drawn_as_a_picture_or_a_page(recording, capsys):
    page, picture = recording.with_name("a.html"), recording.with_name("a.png")
    assert main(["data", "plot", str(recording), "--out", str(picture)]) == 0
    assert "4 episodes, 120 steps" in capsys.readouterr().out
    height, width, _ = decode(picture.read_bytes()).shape
    assert height > 600 and width > 1000
    worse = recording.with_name("<worse>.serl")
    with create_recording(worse, "serl", SPEC) as writer:
        writer.append(episode(2, constant=True))
    assert main(["data", "plot", str(worse), "--out", str(page)]) == 0
    text = page.read_text()
    assert "<li>episode 2 of actor: the action is the same in all 30 steps</li>" in text
    assert "<h1>&lt;worse&gt;.serl</h1>" in text
    assert "http" not in text, "it needs nothing from elsewhere"
    assert main(["data", "plot", str(recording), "--out", "a.pdf"]) == 2
    assert "expected a name that ends in .html or .png" in capsys.readouterr().err


def decode(data):
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture)


@pytest.mark.parametrize("arguments", [["convert", "missing", "out.serl"], ["data", "info", "missing"]])
def test_what_is_not_there_is_one_line(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    assert capsys.readouterr().err.splitlines() == ["serl: error: missing: expected a recording, found nothing"]


def test_the_size_in_the_end_is_told_and_a_disk_that_is_too_small(tmp_path, monkeypatch):
    pytest.importorskip("rclpy", reason="needs ROS")
    from serl_cli.work.record_demonstrations import needed_room

    path = tmp_path / "a.serl"
    assert needed_room(path, 1, 20) == ""
    path.with_name("a.serl.part").write_bytes(bytes(2_000_000))
    assert needed_room(path, 0, 20) == ""
    assert needed_room(path, 4, 20) == "; about 10.0 MB in the end"
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5_000_000))
    assert needed_room(path, 4, 20) == "; about 10.0 MB in the end, and the disk has room for 5 MB more"
