# SPDX-License-Identifier: Apache-2.0
"""Numbers of the registry that are read off cells of a suite."""

import functools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from rich.console import Console
from serl_launch.errors import CommandError
from serl_launch.worlds import gym_python
from serl_rl.success_rate import needed_successes

from serl_bench.benchmark import Bench, Measurement
from serl_bench.suite.cell_files import CellResult
from serl_bench.suite.plan import FIRST_SEED, METAWORLD, TASKS, VISION, SuitePlan, metaworld_plan
from serl_bench.suite.run_suite import Suite, run_suite
from serl_bench.suite.settings import TEACHER
from serl_bench.suite.statistics import SOLVED
from serl_tasks import task_names

MAIN = "insert_peg_vision"
PEG = "insert_peg"
INSERTIONS = ("insert_peg", "insert_connector")
TEACHER_GAIN_STEPS = 4_000
VISION_SECONDS = 600.0  # of a training from two cameras
AS_TRAINED = 1  # confirming evaluations of ./serl train
HELPED = "rlpd+interventions"
PICK = "pick_cube_vision"
ONE, ONE_HELPED = "rlpd-1", "rlpd-1+interventions"
ONE_DEMO_STEPS = 4_000
SPEEDUP_SEEDS = 3
_LARGEST_PLAN = 15_000

Cells = Mapping[tuple[str, str], Sequence[CellResult]]
"""Results by task and setting, in the order of the seeds."""


def cloning_gap(bench: Bench) -> Measurement:
    """Success of the graph's policy minus that of cloning the same demonstrations, main task, worst seed [points]."""
    return gap(_cells(bench, (MAIN,), ("rlpd", "bc-20"), confirm=AS_TRAINED), MAIN, "rlpd", "bc-20")


def insert_main_wall_s(bench: Bench) -> Measurement:
    """Wall seconds from the start of the graph to the goal, main task, median seed."""
    return wall_seconds(_cells(bench, (MAIN,), ("rlpd", "bc-20"), confirm=AS_TRAINED), MAIN, "rlpd")


def teacher_gain(bench: Bench) -> Measurement:
    """Success of the learned policy minus the teacher's, peg from state, few env steps, worst seed [points]."""
    cells = _cells(bench, (PEG,), ("rlpd", TEACHER), max_env_steps=TEACHER_GAIN_STEPS)
    return gap(cells, PEG, "rlpd", TEACHER)


def suite_state_solved(bench: Bench) -> Measurement:
    """Tasks of the suite that every seed solves from state, with interventions."""
    return solved(_cells(bench, _available(TASKS), (HELPED,)), TASKS, HELPED)


def suite_vision_solved(bench: Bench) -> Measurement:
    """Tasks of the suite that every seed solves from two cameras, with interventions, in ten minutes each."""
    tasks = tuple(task + VISION for task in TASKS)
    return solved(_cells(bench, _available(tasks), (HELPED,)), tasks, HELPED, seconds=VISION_SECONDS)


def bc_gap(bench: Bench) -> Measurement:
    """Mean success of RL minus cloning of 100 demonstrations on the insertion tasks [points]."""
    tasks = _available(INSERTIONS)
    return mean_gap(_cells(bench, tasks, ("rlpd", "bc-100")), tasks, "rlpd", "bc-100")


def cycle_ratio(bench: Bench) -> Measurement:
    """Cycle time of the learned policy over the expert's, smallest over the tasks from state of the median seeds."""
    tasks = _available(TASKS)
    return smallest_cycle_ratio(_cells(bench, tasks, (HELPED, TEACHER)), tasks, HELPED)


def metaworld_solved(bench: Bench) -> Measurement:
    """Meta-World's tasks that the last policy of every seed solves.

    Raises:
        CommandError: Meta-World is not set up; a hundred failures would look like a number.
    """
    gym_python(METAWORLD.rstrip("-"))
    plan = metaworld_plan(seeds=len(bench.seeds))
    suite = Suite(bench.scratch / "suite-metaworld")
    cells = by_task_and_setting(run_suite(suite, plan, Console(stderr=True)))
    return solved(cells, plan.tasks, "rlpd")


def pick_one_demo_steps(bench: Bench) -> Measurement:
    """Env steps to the goal from two cameras with one demonstration and help, worst seed."""
    cells = _cells(bench, (PICK,), (ONE_HELPED, ONE), max_env_steps=ONE_DEMO_STEPS, confirm=0)
    return most_steps(cells, PICK, ONE_HELPED, ONE, ONE_DEMO_STEPS)


def help_speedup(bench: Bench) -> Measurement:
    """Env steps to the goal without help over those with it, peg from state, medians of three seeds."""
    few = replace(bench, seeds=bench.seeds[:SPEEDUP_SEEDS])
    cells = _cells(few, (PEG,), (HELPED, "rlpd"), confirm=0)
    return speedup(cells, PEG, HELPED, "rlpd", _LARGEST_PLAN)


def most_steps(cells: Cells, task: str, ours: str, other: str, limit: int) -> Measurement:
    """Most env steps that a seed of `ours` needs to the goal, beside those of `other`; `limit` where one did not."""
    steps = _steps(cells, task, ours, limit)
    return Measurement(
        max(steps), f"{_steps_text(steps, limit)}; {other}: {_steps_text(_steps(cells, task, other, limit), limit)}",
        _details(cells),
    )  # fmt: skip


def speedup(cells: Cells, task: str, ours: str, other: str, limit: int) -> Measurement:
    """Median env steps of `other` to the goal over those of `ours`.

    A seed that did not get there counts with `limit`. So where the median of `other` is one of these, the speed-up is
    at least what is said; where that of `ours` is, it is at most 1, and no goal is met.
    """
    mine, others = (_steps(cells, task, setting, limit) for setting in (ours, other))
    spread = f"{other}: {_steps_text(others, limit)}; {ours}: {_steps_text(mine, limit)}"
    return Measurement(statistics.median(others) / statistics.median(mine), spread, _details(cells))


def _steps(cells: Cells, task: str, setting: str, limit: int) -> list[int]:
    trainings = [each.training for each in _succeeded(cells, task, setting)]
    return [each.env_steps if each is not None and each.reached else limit for each in trainings]


def _steps_text(steps: Sequence[int], limit: int) -> str:
    reached = sum(each < limit for each in steps)
    low, middle, high = min(steps), statistics.median(steps), max(steps)
    return f"{low:,} / {middle:,.0f} / {high:,}, {reached} of {len(steps)} got there"


def gap(cells: Cells, task: str, ours: str, theirs: str) -> Measurement:
    """Difference of success rates of two settings, seed by seed, worst seed [percentage points]."""
    pairs = list(zip(_rates(cells, task, ours), _rates(cells, task, theirs), strict=True))
    gaps = [100.0 * (mine - other) for mine, other in pairs]
    spread = ", ".join(f"{mine:.0%} - {other:.0%}" for mine, other in pairs)
    return Measurement(min(gaps), f"{spread} ({len(gaps)} seeds)", _details(cells))


def mean_gap(cells: Cells, tasks: Sequence[str], ours: str, theirs: str) -> Measurement:
    """Difference of mean success rates over tasks and seeds [percentage points]."""
    means = {
        task: (statistics.fmean(_rates(cells, task, ours)), statistics.fmean(_rates(cells, task, theirs)))
        for task in tasks
    }
    value = 100.0 * statistics.fmean(mine - other for mine, other in means.values())
    spread = ", ".join(f"{task}: {mine:.0%} - {other:.0%}" for task, (mine, other) in means.items())
    return Measurement(value, spread, _details(cells))


def wall_seconds(cells: Cells, task: str, setting: str) -> Measurement:
    """Median wall time to the goal; there is none where a seed did not get there."""
    times = []
    for result in _succeeded(cells, task, setting):
        if result.training is None or not result.training.reached:
            raise CommandError(f"{result.cell.name} did not reach the goal: there is no time to it")
        times.append(result.training.wall_seconds)
    spread = f"{min(times):.1f} to {max(times):.1f} s, {len(times)} seeds"
    return Measurement(statistics.median(times), spread, _details(cells))


def solved(cells: Cells, tasks: Sequence[str], setting: str, seconds: float = float("inf")) -> Measurement:
    """Number of tasks that the last policy of every seed solves; a task that is not there is not solved."""
    done = [task for task in tasks if _is_solved(cells.get((task, setting), ()), seconds)]
    others = [task for task in tasks if task not in done]
    return Measurement(len(done), f"not: {', '.join(others) or 'none'}", _details(cells))


def smallest_cycle_ratio(cells: Cells, tasks: Sequence[str], setting: str) -> Measurement:
    """Smallest over the tasks of: median over the seeds of mean cycle time, over the expert's."""
    ratios = {}
    for task in tasks:
        mine, expert = _cycle(cells.get((task, setting), ())), _cycle(cells.get((task, TEACHER), ()))
        if mine is not None and expert is not None:
            ratios[task] = mine / expert
    if not ratios:
        raise CommandError("no task has both a policy and an expert that succeed: there is no cycle time")
    return Measurement(
        min(ratios.values()), ", ".join(f"{task}: {ratio:.2f}" for task, ratio in ratios.items()), _details(cells)
    )


def by_task_and_setting(results: Sequence[CellResult]) -> Cells:
    """Results by task and setting."""
    found: dict[tuple[str, str], list[CellResult]] = {}
    for result in results:
        found.setdefault((result.cell.task, result.cell.setting), []).append(result)
    return found


def _rates(cells: Cells, task: str, setting: str) -> list[float]:
    return [each.final.success_rate for each in _succeeded(cells, task, setting) if each.final is not None]


def _succeeded(cells: Cells, task: str, setting: str) -> Sequence[CellResult]:
    found = cells.get((task, setting), ())
    if not found:
        raise CommandError(f"there is no cell of {task} with {setting}")
    for each in found:
        if each.failure:
            raise CommandError(f"{each.cell.name} failed: {each.failure}")
    return found


def _is_solved(found: Sequence[CellResult], seconds: float) -> bool:
    return bool(found) and all(
        each.final is not None
        and each.final.successes >= needed_successes(each.final.episodes, SOLVED)
        and (each.training is None or each.training.wall_seconds <= seconds)
        for each in found
    )


def _cycle(found: Sequence[CellResult]) -> float | None:
    lengths = [each.final.mean_length for each in found if each.final is not None and each.final.successes]
    return statistics.median(lengths) if lengths else None


def _details(cells: Cells) -> dict[str, object]:
    return {each.cell.name: asdict(each) for found in cells.values() for each in found}


def _available(tasks: Sequence[str]) -> tuple[str, ...]:
    found = tuple(task for task in tasks if task in task_names())
    if not found:
        raise CommandError(f"none of the tasks {', '.join(tasks)} is there")
    return found


@functools.cache
def _cells(
    bench: Bench,
    tasks: tuple[str, ...],
    settings: tuple[str, ...],
    max_env_steps: int = _LARGEST_PLAN,
    confirm: int = SuitePlan.confirm,
) -> Cells:
    """Runs the cells, or takes those that another number has needed already."""
    seeds = tuple(FIRST_SEED + seed for seed in bench.seeds)
    plan = SuitePlan(tasks=tasks, settings=settings, seeds=seeds, max_env_steps=max_env_steps, confirm=confirm)
    suite = Suite(bench.scratch / f"suite-{max_env_steps}-{confirm}")
    return by_task_and_setting(run_suite(suite, plan, Console(stderr=True)))
