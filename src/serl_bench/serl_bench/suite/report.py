# SPDX-License-Identifier: Apache-2.0
"""The files of a suite: a table in Markdown, the same and the curves as CSV, one figure."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from serl_config.text import printable
from serl_launch.runs import write_atomically

from serl_bench.suite.cell_files import CellResult
from serl_bench.suite.plan import SuitePlan
from serl_bench.suite.settings import find_setting
from serl_bench.suite.statistics import CurvePoint, Row, curve, rows

TABLE, ROWS, CURVES, FIGURE = "table.md", "rows.csv", "curves.csv", "success.png"
_COLUMNS = (
    "task", "setting", "success (95 % interval)", "worst seed", "solved", "env steps to 95 %", "wall to 95 %",
    "led by the person", "cycle [steps]", "cycle / expert's",
)  # fmt: skip


def write_report(folder: Path, plan: SuitePlan, results: Sequence[CellResult]) -> None:
    """Writes all files of the report into `folder`.

    Raises:
        CommandError: one of them cannot be written.
    """
    found = rows(results)
    write_atomically(folder / TABLE, table(found, plan, results))
    write_atomically(folder / ROWS, as_csv([asdict(row) for row in found]))
    curves = curves_of(plan, results)
    write_atomically(folder / CURVES, points_as_csv(curves))
    from serl_bench.suite.figure import draw

    draw(folder / FIGURE, curves, found, plan)


def curves_of(plan: SuitePlan, results: Sequence[CellResult]) -> dict[tuple[str, str], list[CurvePoint]]:
    """Success over env steps of each task and setting that learns, as far as any of its task has gone."""
    found = {}
    for task in plan.tasks:
        mine = [each for each in results if each.cell.task == task and each.training is not None]
        longest = max((each.training.env_steps for each in mine if each.training is not None), default=0)
        last = -(-longest // plan.eval_every) * plan.eval_every
        for setting in plan.settings:
            group = [each for each in mine if each.cell.setting == setting]
            if group:
                found[task, setting] = curve(group, every=plan.eval_every, last=last)
    return found


def table(found: Iterable[Row], plan: SuitePlan, results: Sequence[CellResult]) -> str:
    """The table in Markdown, with what it was made by, and every failure by its reason."""
    found = list(found)
    lines = [f"| {' | '.join(_COLUMNS)} |", f"|{'---|' * len(_COLUMNS)}"]
    lines += [f"| {' | '.join(_cells(row))} |" for row in found]
    return page([*lines, "", _note(plan, results)], found, plan, results)


def page(lines: Iterable[str], found: Iterable[Row], plan: SuitePlan, results: Sequence[CellResult]) -> str:
    """A table with what was said of it, and below it every failure by its reason, and how much is missing."""
    lines = list(lines)
    failures = [f"- `{row.task}`, `{row.setting}`, {each}" for row in found for each in row.failures]
    if failures:
        lines += ["", "Failed:", "", *failures]
    missing = len(plan.cells) - len(results)
    if missing:
        lines += ["", f"{missing} of {len(plan.cells)} cells have not been run."]
    return "\n".join(printable(line, 2000) for line in lines) + "\n"


def _cells(row: Row) -> list[str]:
    interval = "" if row.interval is None else f" ({row.interval[0]:.0%} to {row.interval[1]:.0%})"
    failed = f", {len(row.failures)} failed" if row.failures else ""
    learns = find_setting(row.setting).learns_online
    return [
        f"`{row.task}`",
        f"`{row.setting}`",
        "-" if row.success is None else f"{row.success:.0%}{interval}",
        "-" if row.worst is None else f"{row.worst:.0%}",
        f"{row.solved} of {row.seeds}{failed}",
        f"{row.steps:,.0f}" if row.steps is not None else "not reached" if learns else "-",
        f"{row.seconds:,.0f} s" if row.seconds is not None else "not reached" if learns else "-",
        f"{row.interventions:.0%}" if row.interventions else "-",
        "-" if row.cycle is None else f"{row.cycle:.1f}",
        "-" if row.cycle_ratio is None else f"{row.cycle_ratio:.2f}",
    ]


def made_by(results: Sequence[CellResult]) -> str:
    """Machines and commits."""
    machines = sorted({each.system.get("machine", "?") for each in results})
    commits = sorted({each.system.get("commit", "?") for each in results})
    return f"{'; '.join(machines) or 'no machine'}; commit {', '.join(commits) or '-'}"


def _note(plan: SuitePlan, results: Sequence[CellResult]) -> str:
    seeds = ", ".join(map(str, plan.seeds))
    return (
        f"Seeds {seeds}; success of the last policy in {plan.final_episodes} episodes a seed, Wilson interval of all "
        "episodes; solved: at least 95 % of them; steps and wall (from the start of the graph) to the first evaluation "
        f"of {plan.eval_episodes} episodes with at least {plan.goal:.0%} that {plan.confirm} more confirmed, median of "
        "the seeds, at most "
        f"{plan.max_env_steps:,} env steps; {made_by(results)}."
    )


def points_as_csv(lines: Mapping[tuple[str, str], Sequence[Any]]) -> str:
    """The points, dataclasses, of the lines of a figure, which have the names of a task and a setting."""
    return as_csv(
        [
            {"task": task, "setting": setting, **asdict(point)}
            for (task, setting), line in lines.items()
            for point in line
        ]
    )


def as_csv(content: Sequence[dict[str, object]]) -> str:
    """Rows with the same keys, below a line of these."""
    text = io.StringIO()
    if content:
        writer = csv.DictWriter(text, content[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(content)
    return text.getvalue()
