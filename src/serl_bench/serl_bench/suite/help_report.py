# SPDX-License-Identifier: Apache-2.0
"""The files of an experiment with a person's help: what it cost and what came of it."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from serl_launch.runs import write_atomically

from serl_bench.suite.cell_files import CellResult
from serl_bench.suite.help_course import HelpPoint, help_course, led_steps
from serl_bench.suite.plan import SuitePlan
from serl_bench.suite.report import CURVES, FIGURE, ROWS, TABLE, as_csv, curves_of, made_by, page, points_as_csv
from serl_bench.suite.settings import find_setting
from serl_bench.suite.statistics import Row, rows
from serl_tasks import get_task

COURSE = "help.csv"
_COLUMNS = (
    "task", "demonstrations", "help", "success without help (95 % interval)", "worst seed", "env steps to 95 %",
    "seeds that got there", "the person led [s]", "led at the end", "succeed untouched at the end",
)  # fmt: skip


def write_help_report(folder: Path, plan: SuitePlan, results: Sequence[CellResult]) -> None:
    """Writes all files of the report into `folder`.

    Raises:
        CommandError: one of them cannot be written.
    """
    found = rows(results)
    curves = curves_of(plan, results)
    courses = courses_of(plan, results)
    write_atomically(folder / TABLE, help_table(found, courses, plan, results))
    write_atomically(folder / ROWS, as_csv([asdict(row) for row in found]))
    write_atomically(folder / CURVES, points_as_csv(curves))
    write_atomically(folder / COURSE, points_as_csv(courses))
    from serl_bench.suite.help_figure import draw

    draw(folder / FIGURE, curves, courses, plan)


def courses_of(plan: SuitePlan, results: Sequence[CellResult]) -> dict[tuple[str, str], list[HelpPoint]]:
    """The person's part over env steps of each task and setting, as far as any of its task has gone."""
    found = {}
    for task in plan.tasks:
        mine = [each for each in results if each.cell.task == task and each.training is not None]
        ends = [each.training.course[-1].env_steps for each in mine if each.training and each.training.course]
        for setting in plan.settings:
            group = [each for each in mine if each.cell.setting == setting]
            found[task, setting] = help_course(group, every=plan.eval_every, last=max(ends, default=0))
    return found


def help_table(
    found: Iterable[Row],
    courses: dict[tuple[str, str], list[HelpPoint]],
    plan: SuitePlan,
    results: Sequence[CellResult],
) -> str:
    """The table in Markdown, with what it was made by, and every failure by its reason."""
    found = list(found)
    lines = [f"| {' | '.join(_COLUMNS)} |", f"|{'---|' * len(_COLUMNS)}"]
    for row in found:
        group = [each for each in results if (each.cell.task, each.cell.setting) == (row.task, row.setting)]
        cells = _cells(row, courses.get((row.task, row.setting), []), led_steps(group))
        lines.append(f"| {' | '.join(cells)} |")
    return page([*lines, "", _note(plan, results)], found, plan, results)


def _cells(row: Row, course: Sequence[HelpPoint], led: float | None) -> list[str]:
    setting = find_setting(row.setting)
    helper = (f"`{setting.person}`" if setting.interventions else "none") + (
        f", {len(row.failures)} failed" if row.failures else ""
    )
    interval = "" if row.interval is None else f" ({row.interval[0]:.0%} to {row.interval[1]:.0%})"
    return [
        f"`{row.task}`",
        str(setting.demonstrations),
        helper,
        "-" if row.success is None else f"{row.success:.0%}{interval}",
        "-" if row.worst is None else f"{row.worst:.0%}",
        "not reached" if row.steps is None else f"{row.steps:,.0f}",
        f"{row.reached} of {row.seeds}",
        "-" if led is None or not setting.interventions else f"{led * get_task(row.task).control_period:,.0f}",
        "-" if not course or not setting.interventions else f"{course[-1].led:.0%}",
        "-" if not course else f"{course[-1].alone:.0%}",
    ]


def _note(plan: SuitePlan, results: Sequence[CellResult]) -> str:
    return (
        f"Seeds {', '.join(map(str, plan.seeds))}; success of the last policy, without a person, in "
        f"{plan.final_episodes} episodes a seed, Wilson interval of all; env steps to the first evaluation of "
        f"{plan.eval_episodes} episodes with at least {plan.goal:.0%} that {plan.confirm} more confirmed, median of "
        f"the seeds, at most {plan.max_env_steps:,}; what the person led is the time of control steps in training, "
        f"median of the seeds, demonstrations not counted; the end is the last {plan.eval_every} env steps of a "
        f"training, and what succeeds untouched there a share of all its episodes; {made_by(results)}."
    )
