# SPDX-License-Identifier: Apache-2.0
"""What the cells of a suite say together: a row for each task and setting, and success over env steps.

Intervals are Wilson's (Wilson 1927, J. Am. Stat. Assoc. 22, 209-212) of the episodes of all seeds taken together. They
say how well the episodes tell the mean success of the policies that these seeds gave; how much seeds differ is another
question, which the worst seed beside them answers better than an interval of three values could.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from serl_rl.success_rate import needed_successes, wilson_interval

from serl_bench.suite.cell_files import CellResult, Evaluation
from serl_bench.suite.settings import TEACHER

SOLVED = 0.95


@dataclass(frozen=True)
class Row:
    """One task with one setting, over the seeds. A value is None where nothing was there to compute it from."""

    task: str
    setting: str
    seeds: int  # finished cells, failed ones among them
    failures: tuple[str, ...]  # "seed N: reason" of each cell that failed
    success: float | None  # of the last policies, all episodes taken together
    interval: tuple[float, float] | None
    worst: float | None  # success of the worst seed
    solved: int  # seeds whose last policy succeeds in 95 % of its episodes
    steps: float | None  # median env steps to 95 %; a seed that did not get there counts as infinitely many
    seconds: float | None  # the same for wall seconds from the start of the graph
    reached: int  # seeds in which an evaluation reached 95 %
    interventions: float | None  # mean share of the training steps that the person led
    cycle: float | None  # [control steps] of successful episodes of the last policy, median over the seeds
    cycle_ratio: float | None  # that over the expert's


def rows(results: Iterable[CellResult]) -> list[Row]:
    """A row for each task and setting, in the order in which they first appear."""
    groups: dict[tuple[str, str], list[CellResult]] = {}
    for result in results:
        groups.setdefault((result.cell.task, result.cell.setting), []).append(result)
    return [_row(*key, group, _cycle(groups.get((key[0], TEACHER), []))) for key, group in groups.items()]


def _row(task: str, setting: str, group: Sequence[CellResult], expert: float | None) -> Row:
    finals = [result.final for result in group if result.final is not None]
    trainings = [result.training for result in group if result.training is not None]
    successes, episodes = sum(final.successes for final in finals), sum(final.episodes for final in finals)
    failed = len(group) - len(finals)
    cycle = _cycle(group)
    return Row(
        task=task,
        setting=setting,
        seeds=len(group),
        failures=tuple(f"seed {each.cell.seed}: {each.failure}" for each in group if each.failure),
        success=successes / episodes if episodes else None,
        interval=wilson_interval(successes, episodes) if episodes else None,
        # A seed that failed has no policy at all.
        worst=min((final.success_rate for final in finals), default=0.0) if not failed else 0.0,
        solved=sum(final.successes >= needed_successes(final.episodes, SOLVED) for final in finals),
        steps=_median_to_goal([(t.env_steps if t.reached else None) for t in trainings], failed),
        seconds=_median_to_goal([(t.wall_seconds if t.reached else None) for t in trainings], failed),
        reached=sum(training.reached for training in trainings),
        interventions=statistics.fmean(t.interventions for t in trainings) if trainings else None,
        cycle=cycle,
        cycle_ratio=cycle / expert if cycle is not None and expert else None,
    )


def _median_to_goal(values: Sequence[float | None], failed: int) -> float | None:
    """Median where what did not get there is infinite; None where that is the median."""
    ordered = sorted(float("inf") if value is None else float(value) for value in values) + [float("inf")] * failed
    middle = statistics.median_high(ordered) if ordered else float("inf")
    return None if middle == float("inf") else statistics.median(ordered)


def _cycle(group: Sequence[CellResult]) -> float | None:
    lengths = [each.final.mean_length for each in group if each.final is not None and each.final.successes]
    return statistics.median(lengths) if lengths else None


@dataclass(frozen=True)
class CurvePoint:
    """Success of the policies of all seeds at one number of env steps."""

    env_steps: int
    success: float
    low: float
    high: float
    seeds: int


def curve(group: Iterable[CellResult], *, every: int, last: int) -> list[CurvePoint]:
    """Success over env steps, of one task and one setting.

    Each seed counts with the newest evaluation that it has had, from the first grid point on at which all have one.
    Behind its end it counts with the evaluation of its last policy: a seed that has reached the goal learns no more.

    Args:
        group: cells; failed ones and teachers do not count.
        every: distance of the points [env steps].
        last: env steps of the last point.
    """
    seeds = [(each.training, each.final) for each in group if each.training is not None and each.final is not None]
    points = []
    for steps in range(0, last + 1, every):
        successes = episodes = 0.0
        heard = 0
        for training, final in seeds:
            newest = _newest(training.evaluations, steps)
            if steps >= training.env_steps:
                newest = Evaluation(steps, final.episodes, final.success_rate, 0.0)
            if newest is None:
                continue
            heard += 1
            successes += newest.success_rate * newest.episodes
            episodes += newest.episodes
        if seeds and heard == len(seeds):
            low, high = wilson_interval(round(successes), round(episodes))
            points.append(CurvePoint(steps, successes / episodes, low, high, heard))
    return points


def _newest(evaluations: Iterable[Evaluation], env_steps: int) -> Evaluation | None:
    return max((each for each in evaluations if each.env_steps <= env_steps), key=lambda e: e.env_steps, default=None)
