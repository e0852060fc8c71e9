# SPDX-License-Identifier: Apache-2.0
"""Runs what is missing of a suite. A cell is finished when its file is there, so it goes on after any end."""

import fcntl
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from serl_launch.errors import CommandError, Interrupted
from serl_launch.runs import read_json_object, write_atomically

from serl_bench.suite.cell_files import CellResult, read_cell, write_cell
from serl_bench.suite.plan import Cell, SuitePlan, code_hash, compiles_as
from serl_bench.suite.run_cell import CellRunner
from serl_bench.suite.settings import TEACHER

_PLAN = "plan.json"
_LARGEST_PLAN = 2**20  # [bytes]


@dataclass(frozen=True)
class Suite:
    """A folder with a plan and what was found so far."""

    folder: Path

    @property
    def cells(self) -> Path:
        """Folder of the files of finished cells."""
        return self.folder / "cells"

    @property
    def trainings(self) -> Path:
        """Folder of the run directories."""
        return self.folder / "trainings"

    def read_plan(self) -> dict[str, Any] | None:
        """The plan that was followed last, None where the folder is new.

        Raises:
            CommandError: its file is damaged.
        """
        path = self.folder / _PLAN
        return read_json_object(path, _LARGEST_PLAN, "is no plan of a suite", "delete it to begin with a new one")

    def write_plan(self, plan: SuitePlan) -> None:
        """Replaces the plan in one step."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / _PLAN, json.dumps(plan.to_json(), indent=1) + "\n")

    def planned(self) -> SuitePlan:
        """The plan of a suite that was begun.

        Raises:
            CommandError: it was not, or the plan is damaged or names what there is no more.
        """
        values = self.read_plan()
        if values is None:
            raise CommandError(f"{self.folder} is no suite: it has no {_PLAN}; run it without --report-only first")
        try:
            return SuitePlan.from_json(values)
        except (ValueError, TypeError) as error:
            raise CommandError(f"{self.folder / _PLAN} is no plan of a suite: {error}") from error

    def results(self, plan: SuitePlan) -> list[CellResult]:
        """What is finished of a plan, in its order; a cell that was made by other settings is not."""
        found = (read_cell(self.cells, cell) for cell in plan.cells)
        return [each for each in found if each is not None and each.settings_hash == plan.settings_hash(each.cell)]


def run_suite(suite: Suite, plan: SuitePlan, console: Console, *, redo: bool = False) -> list[CellResult]:
    """Runs the cells of a plan that are missing or were made by other settings, and returns all.

    Args:
        suite: where it is kept.
        plan: to follow.
        console: says what goes on.
        redo: run again what failed, and what other code has made.

    Raises:
        CommandError: the folder cannot be used, or another process runs this suite.
        Interrupted: a person pressed Ctrl-C; nothing runs any more.
    """
    suite.cells.mkdir(parents=True, exist_ok=True)
    with _alone(suite.folder):
        for line in plan.changes(suite.read_plan() or plan.to_json()):
            console.print(f"the plan has changed since: {line}", style="yellow", highlight=False, markup=False)
        suite.write_plan(plan)
        missing = _missing(suite, plan, console, redo)
        console.print(
            f"{len(plan.cells)} cells, {len(plan.cells) - len(missing)} finished; {suite.folder}", highlight=False
        )
        try:
            _run(suite, plan, missing, console)
        except KeyboardInterrupt:
            left = len([cell for cell in missing if read_cell(suite.cells, cell) is None])
            raise Interrupted(f"interrupted with {left} cells left; the same command goes on") from None
    return suite.results(plan)


def _missing(suite: Suite, plan: SuitePlan, console: Console, redo: bool) -> list[Cell]:
    """Cells to run; says why where a file is there."""
    missing, others, failed = [], 0, 0
    for cell in plan.cells:
        result = read_cell(suite.cells, cell)
        if result is not None and result.settings_hash != plan.settings_hash(cell):
            console.print(f"{cell.name} was made by other settings: it is run again", style="yellow", highlight=False)
            result = None
        if result is not None:
            differs = result.code_hash != code_hash(cell.task)
            others, failed = others + differs, failed + bool(result.failure)
            if redo and (differs or result.failure):
                result = None
        if result is None:
            missing.append(cell)
    advice = "they are run again" if redo else "--redo runs them again"
    for count, what in ((others, "were made by other code"), (failed, "failed")):
        if count:
            console.print(f"{count} finished cells {what}; {advice}", style="yellow", highlight=False)
    return missing


def _run(suite: Suite, plan: SuitePlan, missing: Sequence[Cell], console: Console) -> None:
    started, warm = time.monotonic(), set[tuple[str, str]]()
    with console.status("") as status:
        for number, cell in enumerate(missing):

            def tell(what: str, cell: Cell = cell, number: int = number) -> None:
                status.update(f"{_head(number, len(missing), cell)}: {what}; {_clock(started, number, len(missing))}")

            runner = CellRunner(plan, suite.trainings, tell)
            kind = (compiles_as(cell.task), plan.setting(cell).learning)
            if plan.warm_up and kind not in warm and cell.setting != TEACHER:
                tell("compiling")
                runner.warm_up(cell)
            warm.add(kind)
            begun = time.monotonic()
            result = runner.run(cell)
            write_cell(suite.cells, result)
            console.print(
                f"{_head(number, len(missing), cell)}: {describe_result(result)}, "
                f"{time.monotonic() - begun:.0f} s in all; {_clock(started, number + 1, len(missing))}",
                style="red" if result.failure else None,
                highlight=False,
                markup=False,
            )


def _head(number: int, count: int, cell: Cell) -> str:
    return f"[{number + 1}/{count}] {cell.task} {cell.setting} seed {cell.seed}"


def _clock(started: float, done: int, count: int) -> str:
    minutes = (time.monotonic() - started) / 60.0
    if not done or done == count:
        return f"{minutes:.1f} min"
    return f"{minutes:.1f} min, about {minutes / done * (count - done):.0f} to go"


def describe_result(result: CellResult) -> str:
    """What a finished cell found, in a few words."""
    if result.final is None:
        return f"failed: {result.failure}"
    found = f"{result.final.success_rate:.0%} of {result.final.episodes} episodes"
    if result.training is None:
        return found
    steps = f"{result.training.env_steps:,} env steps, {result.training.wall_seconds:.0f} s"
    return f"{found} after {steps}"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Refuses two processes that run one suite; the lock ends with the process, in whatever way that ends."""
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(f"another process runs the suite in {folder}: wait, or choose another --out") from None
        yield
