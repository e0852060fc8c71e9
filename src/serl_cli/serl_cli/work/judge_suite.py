# SPDX-License-Identifier: Apache-2.0
"""The suite of tasks from the command line: its plan, its trainings, its report."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from serl_bench.suite.cell_files import CellResult
from serl_bench.suite.plan import ANCHOR, FIRST_SEED, QUICK_SETTINGS, SETTINGS, SuitePlan, default_tasks
from serl_bench.suite.report import FIGURE, TABLE, write_report
from serl_bench.suite.run_suite import Suite, run_suite
from serl_config.files import read_text
from serl_launch.errors import CommandError

from serl_launch import runs

QUICK_TASKS = ("insert_peg", "insert_peg_vision")
QUICK_ENV_STEPS = 4_000
SEEDS = 3
_TABLE_LIMIT = 2**22  # [bytes]
_WIDTH = 180  # of what goes into a file: a table there has no reason to be as narrow as a terminal

WriteReport = Callable[[Path, SuitePlan, Sequence[CellResult]], None]


def judge(
    *,
    tasks: tuple[str, ...],
    settings: tuple[str, ...],
    seeds: int,
    max_env_steps: int,
    quick: bool,
    folder: Path | None,
    redo: bool,
    report_only: bool,
) -> None:
    """Runs what is missing of the suite, writes its report and shows the table.

    Args:
        tasks: to learn; empty: those of the suite.
        settings: to learn them with; empty: those of the comparison.
        seeds: number of runs of each; 0: the plan's own.
        max_env_steps: after which a training gives up; 0: the plan's own.
        quick: few tasks and settings, one seed unless told otherwise.
        folder: of the suite; None: the usual one.
        redo: run again what failed, and what other code has made.
        report_only: run nothing; the plan is that of the folder.

    Raises:
        CommandError: the plan cannot be followed, a file cannot be written, or nothing is there to report.
        Interrupted: a person pressed Ctrl-C.
    """
    plan = None if report_only else make_plan(tasks, settings, seeds, max_env_steps, quick=quick)
    follow(folder or runs.runs_root() / f"suite-{'quick' if quick else 'full'}", plan, redo=redo)


def follow(folder: Path, plan: SuitePlan | None, *, redo: bool = False, report: WriteReport = write_report) -> None:
    """Runs what is missing of a plan, writes its report and shows the table.

    Args:
        folder: of the suite.
        plan: to follow; None: run nothing, and report what there is of the folder's own.
        redo: run again what failed, and what other code has made.
        report: writes `TABLE`, `FIGURE` and what else there is to say into the folder.

    Raises:
        CommandError: the plan cannot be followed, a file cannot be written, or nothing is there to report.
        Interrupted: a person pressed Ctrl-C.
    """
    suite = Suite(folder)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    if plan is None:
        plan = suite.planned()
        results = suite.results(plan)
    else:
        results = run_suite(suite, plan, console, redo=redo)
    if not results:
        raise CommandError(f"nothing of the suite in {suite.folder} is finished: there is nothing to report")
    report(suite.folder, plan, results)
    console.print(Markdown(read_text(suite.folder / TABLE, _TABLE_LIMIT)))
    console.print(f"{suite.folder / TABLE}, {suite.folder / FIGURE}", highlight=False, soft_wrap=True)


def make_plan(
    tasks: tuple[str, ...], settings: tuple[str, ...], seeds: int, max_env_steps: int, *, quick: bool
) -> SuitePlan:
    """The plan that a person asks for; see `judge`. Raises UsageError where there is no such task or setting."""
    usual = default_tasks()
    few = tuple(task for task in QUICK_TASKS if task in usual) or ANCHOR
    plan = SuitePlan(
        tasks=tasks or (few if quick else usual),
        settings=settings or (QUICK_SETTINGS if quick else SETTINGS),
        seeds=tuple(range(FIRST_SEED, FIRST_SEED + (seeds or (1 if quick else SEEDS)))),
    )
    if quick:
        plan = replace(plan, max_env_steps=QUICK_ENV_STEPS, warm_up=False)
    return replace(plan, max_env_steps=max_env_steps) if max_env_steps else plan
