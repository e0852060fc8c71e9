# SPDX-License-Identifier: Apache-2.0
"""What the person did while policies learned, and how far these got alone; over the seeds of a task and a setting."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from serl_bench.suite.cell_files import CellResult, Stretch


@dataclass(frozen=True)
class HelpPoint:
    """Training episodes of all seeds at one number of env steps."""

    env_steps: int
    led: float  # share of the steps in which a person led
    untouched: float  # share of the episodes in which nobody led
    alone: float  # share of the episodes that succeeded so
    seeds: int


def help_course(group: Iterable[CellResult], *, every: int, last: int) -> list[HelpPoint]:
    """The person's part over env steps, of one task and one setting.

    Each seed counts with the newest stretch of its training, from the first grid point on at which all have one; behind
    its end with the last one. A stretch shorter than half of `every`, as the rest at the end of a training, is passed
    over where there are longer ones: its few episodes say little.

    Args:
        group: cells; those that have no course do not count.
        every: distance of the points [env steps].
        last: env steps of the last point.
    """
    courses = [
        [stretch for stretch in each.training.course if 2 * stretch.steps >= every] or each.training.course
        for each in group
        if each.training is not None and each.training.course
    ]
    points = []
    for steps in range(every, last + 1, every):
        newest = [_newest(course, steps) for course in courses]
        known = [each for each in newest if each is not None]
        if known and len(known) == len(courses):
            points.append(_point(steps, known))
    return points


def led_steps(group: Iterable[CellResult]) -> float | None:
    """Steps that the person led in a whole training, median of the seeds; None where no course is known."""
    sums = [
        sum(stretch.led_steps for stretch in each.training.course)
        for each in group
        if each.training is not None and each.training.course
    ]
    return statistics.median(sums) if sums else None


def _newest(course: Iterable[Stretch], env_steps: int) -> Stretch | None:
    return max((each for each in course if each.env_steps <= env_steps), key=lambda s: s.env_steps, default=None)


def _point(env_steps: int, seeds: Sequence[Stretch]) -> HelpPoint:
    episodes = sum(each.episodes for each in seeds)
    return HelpPoint(
        env_steps=env_steps,
        led=sum(each.led_steps for each in seeds) / sum(each.steps for each in seeds),
        untouched=sum(each.untouched for each in seeds) / episodes,
        alone=sum(each.untouched_successes for each in seeds) / episodes,
        seeds=len(seeds),
    )
