# SPDX-License-Identifier: Apache-2.0
"""A run says by itself what its task was: the task's file may change or go."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from serl_cli.app import main
from serl_cli.run_config import (
    RunConfig,
    check_unchanged,
    members,
    read_run_config,
    resolved_task,
    task_changes,
    task_of_run,
    tasks_of_run,
    write_run_config,
)  # fmt: skip
from serl_cli.training_plan import TrainingPlan
from serl_launch.errors import CommandError

from serl_launch import runs
from serl_rl import backends
from serl_tasks import task_names

TASK = "pick_cube"


def plan(task: str = TASK) -> TrainingPlan:
    return TrainingPlan(
        task=task,
        seed=0,
        demos=1,
        demo_file="",
        max_steps=10,
        eval_every=10,
        eval_episodes=1,
        goal=1.0,
        interventions=False,
        rtf=0.0,
        learning="rlpd_state",
        settings=(),
        viewer=False,
    )


@pytest.fixture
def run(tmp_path: Path) -> runs.Run:
    """A run of `pick_cube` as it is written today."""
    run = runs.create_run(tmp_path, "x")
    runs.write_atomically(run.learning_file, "utd_ratio: 4\n")
    write_run_config(run, plan())
    return run


def edit(run: runs.Run, **changes: Any) -> RunConfig:
    """The run's config.yaml with other values, None for no such key, as it is read."""
    config = runs.read_config(run) | changes
    runs.write_config(run, {key: value for key, value in config.items() if value is not None})
    return read_run_config(run)


def spawned(code: str) -> str:
    """What another process prints, which has loaded no task yet; it finds files by the environment alone."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout


# One variant stands for all of its file.
NAMES = [name for name in task_names() if not name.startswith("metaworld-") or name == "metaworld-reach-v3"]


@pytest.mark.parametrize("name", NAMES)
def test_a_resolved_task_is_the_same_task_when_it_is_read_as_a_file(name: str, tmp_path: Path) -> None:
    values = resolved_task(name)
    own = tmp_path / "config/tasks"
    own.mkdir(parents=True)
    (own / f"{name}.yaml").write_text(yaml.safe_dump(values))
    os.environ["SERL_SHARE"] = str(tmp_path)
    code = f"from serl_cli.run_config import resolved_task; import json; print(json.dumps(resolved_task({name!r})))"
    assert yaml.safe_load(spawned(code)) == values


def test_a_task_that_is_as_it_was_has_no_changes(run: runs.Run) -> None:
    config = read_run_config(run)
    assert task_changes(config) == []
    with task_of_run(config) as notes:
        assert notes == []


def test_a_task_that_has_changed_is_told_value_by_value(run: runs.Run) -> None:
    task = resolved_task(TASK)
    config = edit(run, task={**task, "horizon": task["horizon"] + 7})
    with task_of_run(config) as notes:
        (note,) = notes
    assert f"horizon: expected {task['horizon'] + 7}, found {task['horizon']}" in note


def test_a_task_whose_file_is_gone_is_taken_from_the_run(run: runs.Run) -> None:
    name = "task_of_last_year"
    task = {**resolved_task(TASK), "name": name, "horizon": 43}
    config = edit(run, task=task, plan={**runs.read_config(run)["plan"], "task": name})
    before = os.environ.get("SERL_SHARE")
    with task_of_run(config) as notes:
        assert f"no file of the task {name}" in notes[0]
        code = f"from serl_tasks import get_task; print(get_task({name!r}).horizon)"
        assert spawned(code).strip() == "43"
    assert os.environ.get("SERL_SHARE") == before


def test_both_tasks_of_a_pair_are_taken_from_its_run_where_their_files_are_gone(tmp_path: Path) -> None:
    pair = replace(plan("there_last_year"), partner="back_last_year")
    run = runs.create_run(tmp_path, "x")
    for horizon, (member, own) in enumerate(members(run, pair), start=43):
        member.path.mkdir()
        runs.write_atomically(member.learning_file, "utd_ratio: 4\n")
        write_run_config(member, replace(own, task=TASK))
        stored = runs.read_config(member)["plan"] | {"task": own.task}
        edit(member, task={**resolved_task(TASK), "name": own.task, "horizon": horizon}, plan=stored)
    with tasks_of_run(run, pair) as notes:
        assert [name for note, name in zip(notes, pair.tasks, strict=True) if name in note] == [*pair.tasks]
        code = f"from serl_tasks import get_task; print([get_task(name).horizon for name in {pair.tasks!r}])"
        assert spawned(code).strip() == "[43, 44]"
    assert "SERL_SHARE" not in os.environ


def test_a_run_of_an_older_version_holds_no_task_and_opens(run: runs.Run) -> None:
    config = edit(run, task=None)
    assert config.task is None
    assert config.plan == plan()
    assert task_changes(config) == []


def test_a_run_of_an_older_version_needs_the_file_of_its_task(run: runs.Run) -> None:
    with pytest.raises(CommandError, match=r"config\.yaml: no task 'gone'; .*restore the file of the task"):
        edit(run, task=None, plan={**runs.read_config(run)["plan"], "task": "gone"})


@pytest.mark.parametrize("task", [{"name": "other"}, {}, "pick_cube", 3])
def test_a_task_that_is_not_that_of_the_plan_is_refused(run: runs.Run, task: object) -> None:
    with pytest.raises(CommandError, match=r"config\.yaml: .*task.*this run cannot be used"):
        edit(run, task=task)


def test_a_run_is_converted_to_another_backend_and_only_its_settings_change(run, monkeypatch, capsys) -> None:
    monkeypatch.setenv("SERL_RUNS", str(run.path.parent))
    monkeypatch.setattr(backends, "is_installed", lambda name: True)
    assert main(["checkpoint", "convert", "x", "--backend", "torch"]) == 0
    assert "backend torch now, jax before; go on: ./serl train --resume x" in capsys.readouterr().out
    assert yaml.safe_load(run.learning_file.read_text()) == {"utd_ratio": 4, "backend": "torch"}
    assert read_run_config(run).learning == {"utd_ratio": 4, "backend": "torch"}
    check_unchanged(run, plan())


def test_a_run_is_converted_to_another_number_of_devices(run, monkeypatch, capsys) -> None:
    monkeypatch.setenv("SERL_RUNS", str(run.path.parent))
    monkeypatch.setattr(backends, "find_jax_devices", lambda: ["cuda:0", "cuda:1"])
    assert main(["checkpoint", "convert", "x", "--devices", "3"]) == 1
    assert "divisor of batch_size" in capsys.readouterr().err
    assert main(["checkpoint", "convert", "x", "--devices", "4"]) == 1
    assert "devices: expected at most 2, for JAX finds cuda:0, cuda:1, found 4" in capsys.readouterr().err
    assert main(["checkpoint", "convert", "x"]) == 2
    assert yaml.safe_load(run.learning_file.read_text()) == {"utd_ratio": 4}
    assert main(["checkpoint", "convert", "x", "--devices", "all"]) == 0
    assert "devices all now, 1 before; go on: ./serl train --resume x" in capsys.readouterr().out
    check_unchanged(run, plan())


def test_a_conversion_that_was_killed_is_done_again(run, monkeypatch) -> None:
    """The settings were written, and config.yaml, which says that they are the run's, was not."""
    monkeypatch.setenv("SERL_RUNS", str(run.path.parent))
    monkeypatch.setattr(backends, "is_installed", lambda name: True)
    run.learning_file.write_text("utd_ratio: 4\nbackend: torch\n")
    with pytest.raises(CommandError, match="was changed since the run was begun: backend"):
        check_unchanged(run, plan())
    assert main(["checkpoint", "convert", "x", "--backend", "torch"]) == 0
    check_unchanged(run, plan())
    run.learning_file.write_text("utd_ratio: 5\nbackend: torch\n")
    assert main(["checkpoint", "convert", "x", "--backend", "jax"]) == 1


def test_a_run_is_not_converted_to_a_backend_that_is_not_installed(run, monkeypatch, capsys) -> None:
    monkeypatch.setenv("SERL_RUNS", str(run.path.parent))
    monkeypatch.setattr(backends, "is_installed", lambda name: False)
    before = run.learning_file.read_text(), run.config_file.read_text()
    assert main(["checkpoint", "convert", "x", "--backend", "torch"]) == 1
    assert "./serl setup torch" in capsys.readouterr().err
    assert (run.learning_file.read_text(), run.config_file.read_text()) == before
