# SPDX-License-Identifier: Apache-2.0
"""The suite: what its plan says, when a cell is run again, and what the files of cells may be."""

import dataclasses
import io
import json
import shutil
import sys
from pathlib import Path

import pytest
from rich.console import Console
from serl_bench.benchmark import Bench
from serl_bench.suite.cell_files import CellResult, Final, read_cell, write_cell
from serl_bench.suite.help_report import write_help_report
from serl_bench.suite.numbers import metaworld_solved
from serl_bench.suite.plan import (
    FIRST_SEED,
    Cell,
    SuitePlan,
    code_hash,
    default_tasks,
    interventions_plan,
    metaworld_plan,
)
from serl_bench.suite.report import write_report
from serl_bench.suite.run_suite import Suite, run_suite
from serl_bench.suite.settings import find_setting
from serl_config.resources import SHARE_VARIABLE, find
from serl_launch.errors import CommandError, UsageError

TEACHERS = SuitePlan(tasks=("pick_cube",), settings=("teacher",), seeds=(100, 101), final_episodes=2)
CELL = Cell("pick_cube", "rlpd", 100)


def run(suite: Suite, plan: SuitePlan, *, redo: bool = False) -> tuple[list[CellResult], str]:
    """Results, and what a person reads meanwhile."""
    text = io.StringIO()
    results = run_suite(suite, plan, Console(file=text, width=200), redo=redo)
    return results, text.getvalue()


@pytest.fixture
def share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose files come before those of the workspace."""
    monkeypatch.setenv(SHARE_VARIABLE, str(tmp_path / "share"))
    for file in ("config/learning/rlpd_state.yaml", "config/tasks/pick_cube.yaml"):
        copy = tmp_path / "share" / file
        copy.parent.mkdir(parents=True)
        shutil.copy(find(file), copy)
    return tmp_path / "share" / "config"


@pytest.mark.parametrize(
    ("name", "learning", "demonstrations", "interventions", "learns"),
    [
        ("rlpd", "rlpd", 20, False, True),
        ("rlpd+interventions", "rlpd", 20, True, True),
        ("bc-100", "bc", 100, False, False),
        ("hg-dagger", "bc", 20, True, True),
        ("drqv2-5+interventions", "drqv2", 5, True, True),
        ("teacher", "teacher", 20, False, False),
        ("rlpd-0", "rlpd", 0, False, True),
        ("rlpd-1+tired", "rlpd", 1, True, True),
    ],
)
def test_a_setting_is_read_off_its_name(
    name: str, learning: str, demonstrations: int, interventions: bool, learns: bool
) -> None:
    setting = find_setting(name)
    assert (setting.learning, setting.demonstrations, setting.interventions) == (
        learning,
        demonstrations,
        interventions,
    )
    assert setting.learns_online is learns


@pytest.mark.parametrize(
    "name",
    [
        "",
        "rldp",
        "bc-0",
        "bc-",
        "bc 20",
        "bc+help",
        "teacher-5",
        "../rlpd",
        "rlpd-20-20",
        "vice-0",
        "rlpd-01",
        "rlpd+fresh",
        "rlpd+",
    ],
)
def test_what_is_no_setting_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="setting"):
        find_setting(name)


def test_another_person_has_a_hash_of_their_own_and_the_fresh_one_that_from_before(share: Path) -> None:
    plan = dataclasses.replace(TEACHERS, settings=("rlpd+interventions", "rlpd+tired"))
    fresh, tired = (plan.settings_hash(Cell("pick_cube", setting, 100)) for setting in plan.settings)
    assert find_setting("rlpd+tired").person == "tired" and find_setting("rlpd+interventions").person == "fresh"
    (share / "people").mkdir()
    text = find("config/people/tired.yaml").read_text()
    (share / "people" / "tired.yaml").write_text(text.replace("endurance: 600.0", "endurance: 60.0"))
    (share / "people" / "fresh.yaml").write_text(text)
    assert plan.settings_hash(Cell("pick_cube", "rlpd+tired", 100)) != tired
    assert plan.settings_hash(Cell("pick_cube", "rlpd+interventions", 100)) == fresh


def test_rlpd_is_what_the_task_names() -> None:
    assert find_setting("rlpd").learning_of("pick_cube") == "rlpd_state"
    assert find_setting("rlpd").learning_of("pick_cube_vision") == "rlpd_vision"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": ("pick_cub",)}, "no task pick_cub"),
        ({"settings": ("sca",)}, "no setting 'sca'"),
        ({"seeds": ()}, "no seed"),
        ({"tasks": ("pick_cube", "pick_cube")}, "task pick_cube is named twice"),
    ],
)
def test_a_plan_that_nobody_can_follow_is_refused(change: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(TEACHERS, **change)


def test_a_plan_survives_its_file_and_every_change_is_named() -> None:
    assert SuitePlan.from_json(json.loads(json.dumps(TEACHERS.to_json()))) == TEACHERS
    changed = dataclasses.replace(TEACHERS, seeds=(100,), goal=0.9)
    assert changed.changes(TEACHERS.to_json()) == ["seeds: [100, 101] → [100]", "goal: 0.95 → 0.9"]
    with pytest.raises(ValueError, match="expected the fields"):
        SuitePlan.from_json({"tasks": []})


def test_the_suite_begins_with_what_is_easy_and_has_no_task_twice() -> None:
    tasks = default_tasks()
    assert tasks[0] == "pick_cube"
    assert len(set(tasks)) == len(tasks)
    assert not any(task.endswith("_vision") for task in default_tasks(vision=False))


def test_other_cells_do_not_change_the_hash_of_one() -> None:
    more = dataclasses.replace(TEACHERS, seeds=(100, 7), settings=("teacher", "bc-20"), tasks=("pick_cube_vision",))
    assert TEACHERS.settings_hash(CELL) == more.settings_hash(CELL)


@pytest.mark.parametrize("field", ["max_env_steps", "eval_every", "eval_episodes", "final_episodes", "goal"])
def test_every_number_of_the_plan_changes_the_hash(field: str) -> None:
    changed = dataclasses.replace(TEACHERS, **{field: getattr(TEACHERS, field) / 2})
    assert changed.settings_hash(CELL) != TEACHERS.settings_hash(CELL)


def test_cells_have_hashes_of_their_own() -> None:
    plan = dataclasses.replace(TEACHERS, settings=("rlpd", "bc-20", "bc-100", "hg-dagger", "bc", "teacher"))
    assert len({plan.settings_hash(cell) for cell in plan.cells}) == len(plan.cells)


def test_a_learning_rate_changes_the_hash_and_a_comment_does_not(share: Path) -> None:
    before = TEACHERS.settings_hash(CELL)
    file = share / "learning" / "rlpd_state.yaml"
    file.write_text(file.read_text() + "# a comment\n")
    assert TEACHERS.settings_hash(CELL) == before
    file.write_text(file.read_text().replace("actor_lr: 0.002", "actor_lr: 0.003"))
    assert TEACHERS.settings_hash(CELL) != before


def test_what_a_task_extends_changes_the_hash_and_a_description_does_not(share: Path) -> None:
    cell = Cell("pick_cube_vision", "rlpd", 100)
    before = TEACHERS.settings_hash(cell)
    file = share / "tasks" / "pick_cube.yaml"
    file.write_text(file.read_text().replace("description: Pick", "description: Please pick"))
    assert TEACHERS.settings_hash(cell) == before
    file.write_text(file.read_text().replace("horizon: 50", "horizon: 49"))
    assert TEACHERS.settings_hash(cell) != before


def test_a_cell_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_cell(tmp_path, CELL) is None
    result = CellResult(CELL, "a", "b", final=Final(50, 49, 12.5), system={"machine": "mine"})
    write_cell(tmp_path, result)
    assert read_cell(tmp_path, CELL) == result
    failed = CellResult(CELL, "a", "b", failure="it was too hot")
    write_cell(tmp_path, failed)
    assert read_cell(tmp_path, CELL) == failed


def test_a_cell_without_result_and_reason_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="either a final evaluation or the reason"):
        CellResult(CELL, "a", "b")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1}', '{"format": 2}', '{"format": 1, "cell": 3}'])
def test_a_damaged_file_of_a_cell_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / f"{CELL.name}.json").write_text(text)
    with pytest.raises(CommandError, match=r"pick_cube\.rlpd\.100\.json is no result .*delete it"):
        read_cell(tmp_path, CELL)


def test_a_file_under_the_name_of_another_cell_is_refused(tmp_path: Path) -> None:
    write_cell(tmp_path, CellResult(CELL, "a", "b", failure="x"))
    other = Cell("pick_cube", "rlpd", 101)
    (tmp_path / f"{CELL.name}.json").rename(tmp_path / f"{other.name}.json")
    with pytest.raises(CommandError, match="expected the cell"):
        read_cell(tmp_path, other)


def test_only_what_is_missing_or_set_differently_is_run(tmp_path: Path) -> None:
    suite = Suite(tmp_path)
    results, said = run(suite, TEACHERS)
    assert [each.cell.seed for each in results] == [100, 101]
    assert all(each.final is not None and each.final.episodes == 2 for each in results)
    assert "2 cells, 0 finished" in said

    first, second = (suite.cells / f"{cell.name}.json" for cell in TEACHERS.cells)
    before = first.stat().st_ino
    second.unlink()
    again, said = run(suite, TEACHERS)
    assert again == results, "the same seeds give the same episodes"
    assert first.stat().st_ino == before, "a finished cell is not touched"
    assert "2 cells, 1 finished" in said

    changed = dataclasses.replace(TEACHERS, final_episodes=3)
    assert suite.results(changed) == []
    results, said = run(suite, changed)
    assert "the plan has changed since: final_episodes: 2 → 3" in said
    assert said.count("was made by other settings: it is run again") == 2
    assert [each.final.episodes for each in results if each.final is not None] == [3, 3]


def test_a_cell_of_other_code_is_kept_and_said_until_it_shall_be_redone(tmp_path: Path) -> None:
    suite, plan = Suite(tmp_path), dataclasses.replace(TEACHERS, seeds=(100,))
    (result,), _ = run(suite, plan)
    write_cell(suite.cells, dataclasses.replace(result, code_hash="of another time"))
    (kept,), said = run(suite, plan)
    assert kept.code_hash == "of another time"
    assert "1 finished cells were made by other code; --redo" in said
    (redone,), _ = run(suite, plan, redo=True)
    assert redone == result


def test_a_cell_that_fails_is_a_row_with_its_reason(tmp_path: Path) -> None:
    suite, plan = Suite(tmp_path), dataclasses.replace(TEACHERS, seeds=(100,), timeout=0.05)
    (result,), said = run(suite, plan)
    assert result.final is None
    assert "did not end within 0 s" in result.failure
    assert result.failure in said
    write_report(tmp_path, plan, [result])
    assert f"`teacher`, seed 100: {result.failure}" in (tmp_path / "table.md").read_text()
    (kept,), said = run(suite, plan)
    assert kept == result, "it is not tried again by itself"
    assert "1 finished cells failed; --redo" in said


def test_two_processes_do_not_run_one_suite(tmp_path: Path) -> None:
    import fcntl

    suite = Suite(tmp_path)
    suite.cells.mkdir(parents=True)
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(CommandError, match="another process runs the suite"):
            run(suite, TEACHERS)


def test_a_folder_without_a_plan_is_no_suite(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"is no suite: it has no plan\.json"):
        Suite(tmp_path).planned()
    (tmp_path / "plan.json").write_text("[1")
    with pytest.raises(CommandError, match="is no plan of a suite"):
        Suite(tmp_path).planned()


def test_the_plan_for_help_has_each_number_of_demonstrations_with_and_without() -> None:
    plan = interventions_plan()
    assert plan.settings == tuple(f"rlpd-{count}{end}" for count in (0, 1, 5, 20) for end in ("", "+interventions"))
    assert (plan.tasks, len(plan.seeds), len(plan.cells)) == (("pick_cube",), 3, 24)
    other = interventions_plan(("insert_peg",), (3,), person="tired", seeds=2, max_env_steps=100)
    assert [cell.name for cell in other.cells] == [
        f"insert_peg.rlpd-3{end}.{seed}" for seed in (100, 101) for end in ("", "+tired")
    ]
    assert other.max_env_steps == 100
    with pytest.raises(UsageError, match="is named twice"):
        interventions_plan((), (1, 1))


@pytest.mark.graph
@pytest.mark.slow
def test_a_training_through_the_graph_becomes_a_cell_and_a_report(tmp_path: Path) -> None:
    plan = SuitePlan(
        tasks=("pick_cube",), settings=("rlpd-0+tired",), seeds=(FIRST_SEED,), max_env_steps=101, eval_every=50,
        eval_episodes=2, final_episodes=3, warm_up=False,
    )  # fmt: skip
    (result,), said = run(Suite(tmp_path), plan)
    assert not result.failure
    assert result.training is not None
    assert result.training.env_steps >= 101, "an episode has 50 steps at most, so the first evaluation is not the end"
    assert min(each.env_steps for each in result.training.evaluations) >= 50
    assert sum(stretch.steps for stretch in result.training.course) == result.training.env_steps
    assert 0.0 < result.training.evaluations[0].seconds < result.training.wall_seconds
    assert result.final is not None
    assert result.final.episodes == 3
    assert "of 3 episodes after" in said
    assert not (tmp_path / "trainings" / result.cell.name / "journal").exists()
    write_report(tmp_path, plan, [result])
    write_help_report(tmp_path, plan, [result])
    files = {"table.md", "rows.csv", "curves.csv", "help.csv", "success.png"}
    assert files <= {path.name for path in tmp_path.iterdir()}


def test_the_plan_for_metaworld_has_all_fifty_tasks_next_to_cloning() -> None:
    plan = metaworld_plan()
    assert (len(plan.tasks), plan.settings, plan.max_env_steps) == (50, ("rlpd", "bc-20"), 10_000)
    assert metaworld_plan(("assembly", "hammer-v3"), 2).tasks == ("metaworld-assembly-v3", "metaworld-hammer-v3")
    assert metaworld_plan(("assembly",), 2).seeds == (FIRST_SEED, FIRST_SEED + 1)
    with pytest.raises(UsageError, match="no task metaworld-assemble-v3"):
        metaworld_plan(("assemble",))


def test_the_code_of_another_ones_world_has_a_hash_without_a_world_of_ours() -> None:
    assert code_hash("metaworld-assembly-v3") == code_hash("metaworld-hammer-v3") != code_hash("pick_cube")


def test_a_world_that_is_not_set_up_gives_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    with pytest.raises(CommandError, match=r"run \./serl setup gym metaworld"):
        metaworld_solved(Bench(seeds=(100,), scratch=tmp_path, say=print))
    assert not (tmp_path / "suite-metaworld").exists()
