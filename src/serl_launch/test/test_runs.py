# SPDX-License-Identifier: Apache-2.0
"""Run directories: names, refusals, whole files."""

import json
import resource
from pathlib import Path

import pytest
import yaml
from serl_launch.errors import CommandError, UsageError
from serl_launch.runs import (
    Run,
    begin_run,
    create_run,
    default_name,
    find_run,
    read_config,
    run_names,
    runs_root,
    write_atomically,
    write_config,
    write_result,
)


def test_the_default_name_is_task_and_time() -> None:
    assert default_name("pick_cube", now=0.0).startswith("pick_cube-19")
    assert len(default_name("pick_cube")) == len("pick_cube-20260101-120000")


def test_a_new_run_is_an_empty_folder(tmp_path: Path) -> None:
    run = create_run(tmp_path / "runs", "first")
    assert run.path == tmp_path / "runs" / "first"
    assert list(run.path.iterdir()) == []


def test_a_folder_with_something_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "precious").write_text("data")
    with pytest.raises(CommandError, match=r"not empty.*--resume first"):
        create_run(tmp_path, "first")
    assert (tmp_path / "first" / "precious").read_text() == "data"


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", ".hidden", "with space", "new\nline"])
def test_a_name_that_is_no_folder_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="run name"):
        create_run(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_found_by_name_and_by_path(tmp_path: Path) -> None:
    run = create_run(tmp_path, "first")
    write_config(run, {"plan": {}})
    assert find_run(tmp_path, "first").path == run.path
    assert find_run(tmp_path / "elsewhere", str(run.path)).path == run.path


def test_an_unknown_run_names_those_there_are(tmp_path: Path) -> None:
    write_config(create_run(tmp_path, "first"), {})
    with pytest.raises(CommandError, match=r"no run 'second'.*first"):
        find_run(tmp_path, "second")


def test_an_unknown_run_says_in_which_folder_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CommandError, match=rf"no run 'mine' in {tmp_path}/runs: there is none .*SERL_RUNS"):
        find_run(Path("runs"), "mine")


def test_a_folder_without_a_configuration_is_no_run(tmp_path: Path) -> None:
    create_run(tmp_path, "first")
    with pytest.raises(CommandError, match=r"no config\.yaml"):
        find_run(tmp_path, "first")
    assert run_names(tmp_path) == []


def test_config_and_result_round_trip(tmp_path: Path) -> None:
    run = create_run(tmp_path, "first")
    write_config(run, {"plan": {"task": "pick_cube", "goal": 0.95, "settings": ["a=1"]}})
    write_result(run, {"success": True, "wall_seconds": 12.5})
    assert read_config(run)["plan"] == {"task": "pick_cube", "goal": 0.95, "settings": ["a=1"]}
    assert json.loads(run.result_file.read_text()) == {"success": True, "wall_seconds": 12.5}
    assert yaml.safe_load(run.config_file.read_text())


@pytest.mark.parametrize("content", ["[1, 2]", "a: [", "\xff"])
def test_a_damaged_configuration_is_one_readable_error(tmp_path: Path, content: str) -> None:
    run = create_run(tmp_path, "first")
    run.config_file.write_bytes(content.encode("latin-1"))
    with pytest.raises(CommandError, match=r"config\.yaml"):
        read_config(run)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(CommandError, match="cannot be written"):
            write_atomically(path, "new" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_runs_lie_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERL_RUNS", str(tmp_path))
    assert runs_root() == tmp_path
    monkeypatch.delenv("SERL_RUNS")
    assert runs_root() == Path("runs")


def test_everything_of_a_run_lies_in_its_folder(tmp_path: Path) -> None:
    run = Run(tmp_path / "x")
    files = [run.config_file, run.learning_file, run.result_file, run.log_dir, run.curve_file, run.video_file]
    assert all(file.parent == run.path for file in files)


def test_two_runs_of_one_second_have_different_folders(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    names = [begin_run(root, "pick_cube", now=0.0).name for _ in range(3)]
    assert names == [default_name("pick_cube", 0.0) + end for end in ("", "-2", "-3")]
    assert sorted(path.name for path in root.iterdir()) == sorted(names)
    (tmp_path / "file").touch()
    with pytest.raises(CommandError, match="cannot make the run directory"):
        begin_run(tmp_path / "file", "pick_cube")
