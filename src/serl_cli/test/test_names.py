# SPDX-License-Identifier: Apache-2.0
"""A name that nothing has is refused in one line, with those that there are and the nearest; no process is started."""

import signal
from pathlib import Path

import pytest
from serl_cli.app import main
from serl_cli.names import check_effect


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERL_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path / "log"))
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # pytest keeps its own handlers


@pytest.mark.parametrize(
    ("words", "known", "near"),
    [
        ("launch real.launch.xml robot:=so1O1", "fr3", "so101"),
        ("launch real.launch.xml task:=pick_cbue", "insert_peg", "pick_cube"),
        ("launch real.launch.xml robot:=so101 task:=pick_cbue", "insert_peg", "pick_cube"),
        ("launch real.launch.xml hardware:=emulatd", "mock", "emulated"),
        ("launch real.launch.xml robot:=so101 driver:=so1O1", "fr3_robotiq", "so101"),
        ("launch real.launch.xml low_level:=cartesan", "forward_position", "cartesian"),
        ("launch real.launch.xml planner:=ompll", "moveit", "ompl"),
        ("launch real.launch.xml teleop:=spacemuse", "gamepad", "spacemouse"),
        ("launch real.launch.xml reward:=humen", "classifier", "human"),
        ("launch real.launch.xml learning:=rlpd_stat", "drqv2", "rlpd_state"),
        ("launch real.launch.xml scene:=tabel", "table_with_posts", "table"),
        ("launch sim.launch.xml robot:=so1O1", "fr3", "so101"),
        ("launch sim.launch.xml partner:=relocate_bakward", "insert_peg", "relocate_backward"),
        ("launch bench.launch.xml robot:=so1O1", "fr3", "so101"),
        ("train pick_cbue", "no task 'pick_cbue'", "pick_cube"),
        ("train pick_cube --robot so1O1", "fr3", "so101"),
        ("train pick_cube robot:=so1O1", "fr3", "so101"),
        ("train pick_cube --hardware emulatd", "real", "emulated"),
        ("train pick_cube --teleop spacemuse", "gamepad", "spacemouse"),
        ("train pick_cube --learning rlpd_stat", "drqv2", "rlpd_state"),
        ("train pick_cube --person frehs", "tired", "fresh"),
        ("record pick_cube --robot so1O1 --out never.serl", "fr3", "so101"),
        ("record pick_cube --hardware emulatd --out never.serl", "real", "emulated"),
        ("doctor --port a --calibration b --robot so1O1", "fr3", "so101"),
        ("bench ik_sm", "plan_success", "ik_ms"),
        ("driver hodl", "release", "hold"),
        ("teleop lead spacemuse", "gamepad", "spacemouse"),
    ],
)
def test_a_name_that_nothing_has_is_refused_with_the_nearest(words, known, near, capfd, tmp_path) -> None:
    assert main(words.split()) == 2
    out, err = capfd.readouterr()
    said = err.strip()
    assert "process started" not in out
    assert len(said.splitlines()) == 1, said
    assert known in said
    assert f"did you mean '{near}'" in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("file", ["sim.launch.xml", "real.launch.xml", "bench.launch.xml"])
def test_a_robot_whose_task_it_is_anyway_needs_no_version_of_its_own(file: str, capfd) -> None:
    assert main(["launch", file, "robot:=panda", "task:=pick_cube", "--print"]) == 0
    assert "pick_cube_panda" not in capfd.readouterr().out


def test_the_robot_of_tasks_without_one_in_their_names_is_not_that_of_every_task(capfd) -> None:
    assert main(["launch", "sim.launch.xml", "robot:=panda", "task:=pick_cube_so101"]) == 2
    assert "expected a robot that there is a version of 'pick_cube_so101' for" in capfd.readouterr().err


def test_a_launch_file_of_somebody_else_names_its_arguments_as_it_likes(tmp_path, capfd) -> None:
    file = tmp_path / "mine.launch.xml"
    file.write_text('<launch><arg name="robot" default="wally"/><log message="$(var robot)"/></launch>')
    assert main(["launch", str(file)]) == 0
    assert "wally" in capfd.readouterr().out


def test_a_path_of_learning_settings_is_no_name(capfd) -> None:
    assert main(["launch", "learner.launch.xml", "learning:=nowhere/my.yaml", "task:=pick_cbue"]) == 2
    said = capfd.readouterr().err
    assert "pick_cbue" in said and "learning:=" not in said


@pytest.mark.parametrize("more", ["", "learner:=false", "trainer:=agentlace://127.0.0.1:5488"])
def test_an_argument_of_what_is_not_started_is_refused(more: str, capfd) -> None:
    words = f"launch sim.launch.xml task:=pick_cube agentlace:=true {more}"
    assert main(words.split()) == 2
    out, err = capfd.readouterr()
    assert "process started" not in out
    assert err.strip().splitlines() == [
        "serl: error: agentlace:=: what takes this is not started with these arguments; learner.launch.xml has it, and "
        "side:=learner"
    ]


def test_of_two_machines_one_takes_the_arguments_of_both() -> None:
    assert check_effect((), "all") == ""
    assert check_effect(["agentlace", "agentlace_port"], "robot") == (
        "agentlace:=, agentlace_port:=: what takes this is not started with these arguments, but perhaps on the other "
        "machine"
    )
