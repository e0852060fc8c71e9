# SPDX-License-Identifier: Apache-2.0
"""What a sweep has found: a row for each task and setting, as table, CSV and JSON, and a figure of success."""

import csv
import io
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from serl_config.text import printable
from serl_launch.runs import write_atomically
from serl_training.learner.run_log import RunLogError, read_metrics

from serl_cli.sweep.folder import SweepFolder
from serl_cli.sweep.settings import Sweep, Trial
from serl_cli.sweep.statistics import Curve, estimate, held

TABLE, ROWS, TRIALS, FIGURE = "table.md", "rows.csv", "trials.json", "success.png"
ALL = "all tasks"
_POINTS = 60  # of a curve
_HEAD = (
    "task",
    "setting",
    "trials",
    "success (95 %)",
    "worst",
    "reached",
    "env steps to the goal",
    "wall [s]",
    "failed",
)


@dataclass(frozen=True)
class Row:
    """One task, or all of them, with one setting. A value is None where nothing was there to compute it from."""

    task: str
    setting: str
    trials: int  # finished ones
    success: float | None  # interquartile mean of the last evaluations
    low: float | None
    high: float | None
    worst: float | None
    reached: int  # trials that reached their goal
    steps: float | None  # median env steps to the goal, of those
    seconds: float | None  # median wall time of the finished trials
    failed: int


def write_report(sweep: Sweep, folder: SweepFolder, console: Console) -> None:
    """Print the table and write all files of the report into the folder.

    Raises:
        CommandError: a result is damaged, or a file cannot be written.
    """
    found = rows(sweep, folder)
    console.print(_printed(found))
    lines = [f"| {' | '.join(_HEAD)} |", f"|{'---|' * len(_HEAD)}"]
    lines += [f"| {' | '.join(_cells(row))} |" for row in found]
    missing = [t for t in sweep.trials if folder.result(t) is None]
    lines += ["", *(f"- {t.name}: {folder.failure(t) or 'has not been run to its end'}" for t in missing)]
    write_atomically(folder.path / TABLE, "\n".join(printable(line, 2000) for line in lines).rstrip() + "\n")
    write_atomically(folder.path / ROWS, _as_csv([asdict(row) for row in found]))
    trials = {
        t.name: {**t.definition(), "result": folder.result(t), "failure": folder.failure(t)} for t in sweep.trials
    }
    write_atomically(folder.path / TRIALS, json.dumps(trials, indent=1, default=str) + "\n")
    from serl_cli.sweep.figure import draw

    draw(folder.path / FIGURE, curves(sweep, folder, console))
    console.print(f"{folder.path}: {TABLE}, {ROWS}, {TRIALS}, {FIGURE}", highlight=False, markup=False, soft_wrap=True)


def rows(sweep: Sweep, folder: SweepFolder) -> list[Row]:
    """A row for each setting and task, and one over all tasks where there are several."""
    tasks = list(dict.fromkeys(trial.task for trial in sweep.trials))
    found = []
    for setting in dict.fromkeys(trial.setting for trial in sweep.trials):
        mine = [trial for trial in sweep.trials if trial.setting == setting]
        by_task = {task: [trial for trial in mine if trial.task == task] for task in tasks}
        by_task = {task: trials for task, trials in by_task.items() if trials}
        found += [_row(task, setting, {task: trials}, folder) for task, trials in by_task.items()]
        if len(by_task) > 1:
            found.append(_row(ALL, setting, by_task, folder))
    return found


def _row(name: str, setting: str, by_task: Mapping[str, Sequence[Trial]], folder: SweepFolder) -> Row:
    results = {task: [r for t in trials if (r := folder.result(t)) is not None] for task, trials in by_task.items()}
    every = [result for each in results.values() for result in each]
    rates = [[float(r["success_rate"]) for r in each if r.get("success_rate") is not None] for each in results.values()]
    rates = [each for each in rates if each]
    success = estimate(rates) if rates else None
    steps = [r["env_steps_to_goal"] for r in every if r.get("success") and r.get("env_steps_to_goal") is not None]
    seconds = [r["wall_seconds"] for r in every if r.get("wall_seconds") is not None]
    return Row(
        task=name,
        setting=setting,
        trials=len(every),
        success=success.mean if success else None,
        low=success.low if success else None,
        high=success.high if success else None,
        worst=min((rate for each in rates for rate in each), default=None),
        reached=sum(bool(r.get("success")) for r in every),
        steps=statistics.median(steps) if steps else None,
        seconds=statistics.median(seconds) if seconds else None,
        failed=sum(bool(folder.failure(t)) for trials in by_task.values() for t in trials),
    )


def curves(sweep: Sweep, folder: SweepFolder, console: Console) -> dict[str, dict[str, Curve]]:
    """Success over env steps by task and setting, of what has been evaluated so far; damaged numbers are told.

    A trial counts with the newest evaluation that it has had; behind its end, with its last one.
    """
    evaluated: dict[str, dict[str, list[tuple[Any, Any]]]] = {}
    for trial in sweep.trials:
        try:
            series = read_metrics(folder.run(trial).path).get("eval/success_rate")
        except RunLogError as error:
            console.print(
                f"left out of the figure: {error}", style="yellow", highlight=False, markup=False, soft_wrap=True
            )
            continue
        if series is not None and len(series.value):
            by_setting = evaluated.setdefault(trial.task, {})
            by_setting.setdefault(trial.setting, []).append((series.env_steps, series.value))
    return {
        task: {setting: _curve(series) for setting, series in by_setting.items()}
        for task, by_setting in evaluated.items()
    }


def _curve(series: Sequence[tuple[Any, Any]]) -> Curve:
    """The curve of some trials, beginning where each of them has an evaluation."""
    first = max(steps[0] for steps, _ in series)
    last = max(steps[-1] for steps, _ in series)
    grid = sorted({first + (last - first) * index / _POINTS for index in range(_POINTS + 1)})
    values = [held(steps, rates, grid) for steps, rates in series]
    points = [estimate([[each[index] for each in values]]) for index in range(len(grid))]
    return Curve(grid, points)


def _cells(row: Row) -> list[str]:
    interval = "" if row.low is None or row.high is None else f" ({row.low:.0%} to {row.high:.0%})"
    return [
        row.task,
        row.setting,
        str(row.trials),
        "-" if row.success is None else f"{row.success:.0%}{interval}",
        "-" if row.worst is None else f"{row.worst:.0%}",
        str(row.reached),
        "-" if row.steps is None else f"{row.steps:,.0f}",
        "-" if row.seconds is None else f"{row.seconds:.0f}",
        str(row.failed),
    ]


def _printed(found: Sequence[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for number, head in enumerate(_HEAD):
        table.add_column(head, no_wrap=number < 2)  # the names of task and setting stay whole
    for row in found:
        table.add_row(*_cells(row))
    return table


def _as_csv(found: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    if found:
        writer = csv.DictWriter(text, fieldnames=list(found[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)
    return text.getvalue()
