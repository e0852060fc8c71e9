# SPDX-License-Identifier: Apache-2.0
"""What the cells of a suite say together, against other ways to get it."""

import csv
import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serl_bench.suite.cell_files import CellResult, Evaluation, Final, Stretch, Training, read_cell, write_cell
from serl_bench.suite.help_course import HelpPoint, help_course, led_steps
from serl_bench.suite.help_figure import figure_of
from serl_bench.suite.help_report import write_help_report
from serl_bench.suite.numbers import (
    by_task_and_setting,
    gap,
    mean_gap,
    most_steps,
    smallest_cycle_ratio,
    solved,
    speedup,
    wall_seconds,
)
from serl_bench.suite.plan import Cell, SuitePlan, interventions_plan
from serl_bench.suite.report import table, write_report
from serl_bench.suite.run_cell import course
from serl_bench.suite.statistics import curve, rows
from serl_launch.errors import CommandError
from serl_training.learner.run_log import Series

TASK = "pick_cube"
Z = 1.959963984540054


def cell(
    setting: str,
    seed: int,
    successes: int = 50,
    *,
    steps: int = 1000,
    reached: bool = True,
    evaluations: tuple[tuple[int, int, float], ...] = (),
    length: float = 10.0,
    seconds: float = 30.0,
    task: str = TASK,
) -> CellResult:
    """A finished cell with 50 episodes of its last policy."""
    training = Training(
        reached, steps, seconds, 0.25, tuple(Evaluation(at, count, rate, 0.0) for at, count, rate in evaluations)
    )
    return CellResult(Cell(task, setting, seed), "s", "c", Final(50, successes, length if successes else 0.0), training)


def teacher(successes: int = 50, length: float = 20.0, seed: int = 100) -> CellResult:
    return CellResult(Cell(TASK, "teacher", seed), "s", "c", Final(50, successes, length))


def failed(setting: str, seed: int) -> CellResult:
    return CellResult(Cell(TASK, setting, seed), "s", "c", failure="training: the learner died")


@given(st.lists(st.integers(0, 50), min_size=1, max_size=5))
def test_the_interval_holds_the_rates_that_the_episodes_do_not_exclude(successes: list[int]) -> None:
    """Wilson's limits are the rates p whose distance from the found one is z standard deviations of p itself."""
    (row,) = rows([cell("rlpd", 100 + i, count) for i, count in enumerate(successes)])
    n, rate = 50 * len(successes), sum(successes) / (50 * len(successes))
    assert row.success == pytest.approx(rate)
    assert row.interval is not None
    # (rate - p)² = z² p (1 - p) / n, as a polynomial in p
    low, high = sorted(np.roots([1.0 + Z**2 / n, -2.0 * rate - Z**2 / n, rate**2]).real)
    assert row.interval == pytest.approx((max(0.0, low), min(1.0, high)), abs=1e-6)
    assert row.worst == min(successes) / 50
    assert row.solved == sum(count >= 47.5 for count in successes)


@given(st.lists(st.one_of(st.none(), st.integers(1, 9999)), min_size=1, max_size=6), st.integers(0, 2))
def test_the_median_counts_what_did_not_get_there_as_never(values: list[int | None], dead: int) -> None:
    results = [
        cell("rlpd", i, steps=value or 9999, reached=value is not None, seconds=float(value or 9999))
        for i, value in enumerate(values)
    ] + [failed("rlpd", 100 + i) for i in range(dead)]
    (row,) = rows(results)
    expected = float(np.median([math.inf if value is None else value for value in values] + [math.inf] * dead))
    assert row.steps == (expected if math.isfinite(expected) else None)
    assert row.seconds == row.steps
    assert row.reached == sum(value is not None for value in values)
    assert len(row.failures) == dead


def test_cycle_time_is_compared_with_the_expert_of_the_same_task() -> None:
    results = [
        cell("rlpd", 100, length=8.0),
        cell("rlpd", 101, length=12.0),
        cell("rlpd", 102, 0),
        teacher(length=20.0),
    ]
    row, expert = rows(results)
    assert row.cycle == 10.0, "the seed without a success has no cycle time"
    assert row.cycle_ratio == 0.5
    assert expert.cycle_ratio == 1.0
    (alone,) = rows(results[:1])
    assert alone.cycle_ratio is None


def test_a_curve_takes_the_newest_evaluation_and_the_last_policy_behind_the_end() -> None:
    quick = cell("rlpd", 100, 48, steps=510, evaluations=((250, 10, 0.5), (510, 50, 0.96)))
    slow = cell(
        "rlpd", 101, 30, steps=1010, reached=False, evaluations=((260, 40, 0.25), (505, 50, 0.5), (760, 50, 0.6))
    )
    points = curve([quick, slow, failed("rlpd", 102), teacher()], every=250, last=1250)
    assert [point.env_steps for point in points] == [500, 750, 1000, 1250], "at 250 one seed has no evaluation yet"
    expected = [(5 + 10) / 50, (48 + 25) / 100, (48 + 30) / 100, (48 + 30) / 100]
    assert [point.success for point in points] == pytest.approx(expected)
    assert all(point.low <= point.success <= point.high for point in points)
    assert curve([failed("rlpd", 1)], every=250, last=1000) == []


def test_the_table_says_everything_that_was_asked_for() -> None:
    plan = SuitePlan(tasks=(TASK,), settings=("rlpd", "bc-20", "teacher"), seeds=(100, 101))
    results = [
        cell("rlpd", 100, 50, steps=1500), cell("rlpd", 101, 46, steps=2500, reached=False, seconds=70.0),
        cell("bc-20", 100, 10, steps=0, reached=False), failed("bc-20", 101), teacher(40),
    ]  # fmt: skip
    text = table(rows(results), plan, results)
    lines = {line.split(" | ")[1]: line.split(" | ") for line in text.splitlines() if line.startswith("| `")}
    assert lines["`rlpd`"][2:6] == ["96% (90% to 98%)", "92%", "1 of 2", "not reached"]
    assert lines["`rlpd`"][-1] == "0.50 |"
    assert lines["`bc-20`"][3:6] == ["0%", "0 of 2, 1 failed", "-"], "a seed that failed has no policy"
    assert lines["`teacher`"][2] == "80% (67% to 89%)"
    assert "- `pick_cube`, `bc-20`, seed 101: training: the learner died" in text
    assert "1 of 6 cells have not been run." in text
    assert len({len(cells) for cells in lines.values()}) == 1


def test_the_files_of_a_report_hold_the_same_rows(tmp_path: Path) -> None:
    plan = SuitePlan(tasks=(TASK,), settings=("rlpd", "teacher"), seeds=(100,))
    results = [cell("rlpd", 100, 40, steps=500, evaluations=((250, 50, 0.5),)), teacher()]
    write_report(tmp_path, plan, results)
    with (tmp_path / "rows.csv").open() as file:
        found = list(csv.DictReader(file))
    assert [(row["setting"], float(row["success"])) for row in found] == [("rlpd", 0.8), ("teacher", 1.0)]
    with (tmp_path / "curves.csv").open() as file:
        points = [(int(row["env_steps"]), float(row["success"])) for row in csv.DictReader(file)]
    assert points == [(250, 0.5), (500, 0.8)]
    assert (tmp_path / "success.png").read_bytes().startswith(b"\x89PNG")


def test_gaps_are_of_the_same_seed_and_the_worst_counts() -> None:
    cells = by_task_and_setting(
        [cell("rlpd", 100, 50), cell("rlpd", 101, 45), cell("bc-20", 100, 20), cell("bc-20", 101, 25)]
    )
    assert gap(cells, TASK, "rlpd", "bc-20").value == pytest.approx(40.0)
    assert mean_gap(cells, (TASK,), "rlpd", "bc-20").value == pytest.approx(50.0)
    with pytest.raises(CommandError, match="there is no cell of pick_cube with bc-100"):
        gap(cells, TASK, "rlpd", "bc-100")
    with pytest.raises(CommandError, match=r"pick_cube\.bc-20\.7 failed: training: the learner died"):
        gap(by_task_and_setting([cell("rlpd", 7), failed("bc-20", 7)]), TASK, "rlpd", "bc-20")


def test_wall_time_is_the_median_and_needs_every_seed_at_the_goal() -> None:
    times = [cell("rlpd", i, seconds=seconds) for i, seconds in enumerate((50.0, 20.0, 90.0))]
    assert wall_seconds(by_task_and_setting(times), TASK, "rlpd").value == 50.0
    with pytest.raises(CommandError, match="did not reach the goal"):
        wall_seconds(by_task_and_setting([*times, cell("rlpd", 9, reached=False)]), TASK, "rlpd")


def test_a_task_is_solved_when_every_seed_is_and_it_is_there() -> None:
    tasks = ("a", "b", "c", "d", "e")
    cells = by_task_and_setting(
        [
            *(cell("rlpd", seed, 48, task="a") for seed in range(3)),
            *(cell("rlpd", seed, 48 - (seed == 2), task="b") for seed in range(3)),
            *(cell("rlpd", seed, 50, task="c", seconds=700.0) for seed in range(3)),
            CellResult(Cell("d", "rlpd", 0), "s", "c", failure="training: no"),
        ]
    )
    assert solved(cells, tasks, "rlpd").value == 2.0
    limited = solved(cells, tasks, "rlpd", seconds=600.0)
    assert limited.value == 1.0
    assert limited.spread == "not: b, c, d, e"


def test_the_smallest_cycle_ratio_counts() -> None:
    cells = by_task_and_setting([cell("rlpd", 100, length=8.0), cell("rlpd", 101, length=10.0), teacher(length=12.0)])
    assert smallest_cycle_ratio(cells, (TASK, "another"), "rlpd").value == pytest.approx(0.75)
    with pytest.raises(CommandError, match="no task has both"):
        smallest_cycle_ratio(by_task_and_setting([cell("rlpd", 1)]), (TASK,), "rlpd")


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 60), st.booleans()), min_size=1, max_size=60))
def test_the_course_of_a_training_counts_its_episodes_once(episodes: list[tuple[int, int, bool]]) -> None:
    """Of (length, steps led, success); the counts are those of a loop over them."""
    lengths, led, successes = zip(*((n, min(n, k), success) for n, k, success in episodes), strict=True)
    ends = np.cumsum(lengths)
    values = {
        "train/episode_length": lengths,
        "train/intervention_rate": np.divide(led, lengths),
        "train/success": successes,
    }
    series = {name: Series(np.zeros(len(ends)), ends, np.asarray(each, float)) for name, each in values.items()}
    expected: dict[int, list[int]] = {}
    for end, length, steps, success in zip(ends.tolist(), lengths, led, successes, strict=True):
        counts = expected.setdefault(math.ceil(end / 50) * 50, [0] * 5)
        for index, count in enumerate((1, length, steps, steps == 0, steps == 0 and success)):
            counts[index] += count
    assert course(series, 50) == tuple(Stretch(at, *counts) for at, counts in expected.items())
    assert course({"train/success": series["train/success"]}, 50) == ()


def helped(setting: str, seed: int, *stretches: Stretch, **more: int) -> CellResult:
    result = cell(setting, seed, **more)
    assert result.training is not None
    return dataclasses.replace(result, training=dataclasses.replace(result.training, course=stretches))


def test_a_seed_that_has_ended_counts_with_the_last_of_its_help() -> None:
    quick = helped("rlpd-1+interventions", 100, Stretch(50, 4, 100, 50, 1, 1))
    slow = helped("rlpd-1+interventions", 101, Stretch(100, 2, 100, 100, 0, 0), Stretch(150, 6, 100, 0, 6, 3))
    points = help_course([quick, slow, cell("rlpd-1", 102)], every=50, last=150)
    assert points == [HelpPoint(100, 150 / 200, 1 / 6, 1 / 6, 2), HelpPoint(150, 50 / 200, 7 / 10, 4 / 10, 2)]
    assert led_steps([quick, slow]) == 75.0
    assert led_steps([cell("rlpd-1", 102)]) is None


def test_a_course_is_kept_with_its_cell_and_older_files_have_none(tmp_path: Path) -> None:
    result = helped("rlpd-1+interventions", 100, Stretch(50, 4, 100, 50, 1, 1), Stretch(100, 2, 50, 0, 2, 2))
    write_cell(tmp_path, result)
    assert read_cell(tmp_path, result.cell) == result
    file = tmp_path / f"{result.cell.name}.json"
    content = json.loads(file.read_text())
    del content["training"]["course"]
    file.write_text(json.dumps(content))
    older = read_cell(tmp_path, result.cell)
    assert older is not None and older.training is not None and older.training.course == ()


def test_the_report_of_help_says_what_it_cost_and_what_came_of_it(tmp_path: Path) -> None:
    plan = interventions_plan((), (0, 1), seeds=2)
    results = [
        cell("rlpd-0", 100, 0, steps=6000, reached=False, evaluations=((250, 50, 0.0),)),
        failed("rlpd-0", 101),
        helped(
            "rlpd-0+interventions", 100, Stretch(250, 10, 200, 100, 2, 1), steps=2000, evaluations=((250, 50, 0.5),)
        ),
        helped("rlpd-0+interventions", 101, Stretch(250, 10, 200, 60, 4, 4), steps=3000, evaluations=((250, 50, 0.7),)),
    ]
    write_help_report(tmp_path, plan, results)
    text = (tmp_path / "table.md").read_text()
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `pick_cube`")]
    assert lines[0] == [
        "`pick_cube`",
        "0",
        "none, 1 failed",
        "0% (0% to 7%)",
        "0%",
        "not reached",
        "0 of 2",
        "-",
        "-",
        "-",
    ]
    assert lines[1][1:3] == ["0", "`fresh`"]
    assert lines[1][4:] == ["100%", "2,500", "2 of 2", "8", "40%", "25%"], "80 steps of 0.1 s"
    assert "- `pick_cube`, `rlpd-0`, seed 101: training: the learner died" in text
    assert "4 of 8 cells have not been run." in text
    with (tmp_path / "help.csv").open() as file:
        (point,) = csv.DictReader(file)
    assert (point["setting"], float(point["led"]), float(point["alone"])) == ("rlpd-0+interventions", 0.4, 0.25)
    assert (tmp_path / "success.png").read_bytes().startswith(b"\x89PNG")


def test_one_demonstration_counts_with_its_worst_seed_and_help_by_the_medians() -> None:
    cells = by_task_and_setting(
        [
            *(cell("helped", seed, steps=steps) for seed, steps in enumerate((900, 1800, 1200))),
            *(cell("alone", seed, steps=4000 + seed, reached=seed == 3) for seed in range(3)),
        ]
    )
    found = most_steps(cells, TASK, "helped", "alone", 4000)
    assert found.value == 1800
    assert found.spread == ("900 / 1,200 / 1,800, 3 of 3 got there; alone: 4,000 / 4,000 / 4,000, 0 of 3 got there")
    assert speedup(cells, TASK, "helped", "alone", 4000).value == pytest.approx(4000 / 1200)
    assert speedup(cells, TASK, "alone", "helped", 4000).value < 1.0
    with pytest.raises(CommandError, match="failed: training: the learner died"):
        speedup(by_task_and_setting([failed("helped", 1)]), TASK, "helped", "alone", 4000)


def test_the_figure_of_help_shows_all_of_each_curve() -> None:
    plan = interventions_plan((TASK,), (0, 1))
    setting = plan.settings[1]
    points = curve([cell(setting, 100, evaluations=((250, 10, 0.4), (4000, 50, 0.98)))], every=250, last=4000)
    led = [HelpPoint(at, 0.3, 0.5, 0.4, 1) for at in (250, 4000)]
    for panel in figure_of({(TASK, setting): points}, {(TASK, setting): led}, plan).axes[1:]:
        lines = [line for line in panel.lines if len(line.get_xdata()) > 0 and line.get_linestyle() == "-"]
        assert lines, panel.get_title()
        low, high = panel.get_xlim()
        assert low == 0.0 and high >= 4000.0


def test_the_rest_at_the_end_of_a_training_says_nothing_of_it() -> None:
    long, short = Stretch(250, 10, 250, 50, 5, 5), Stretch(256, 1, 6, 6, 0, 0)
    result = cell("rlpd", 100)
    assert result.training is not None
    result = dataclasses.replace(result, training=dataclasses.replace(result.training, course=(long, short)))
    assert [point.led for point in help_course([result], every=250, last=500)] == [0.2, 0.2]
    assert led_steps([result]) == 56
