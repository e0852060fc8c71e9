# SPDX-License-Identifier: Apache-2.0
"""What help is worth, over env steps: a row of panels for each task, a line for each number of demonstrations."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter
from serl_launch.errors import CommandError

from serl_bench.suite.help_course import HelpPoint
from serl_bench.suite.plan import SuitePlan
from serl_bench.suite.settings import find_setting
from serl_bench.suite.statistics import CurvePoint

_PANEL = (3.6, 2.9)  # [inch]
_RESOLUTION = 110  # [dpi]
_COLOURS = ("#5f6b7a", "#d9730d", "#2b8a3e", "#1f6fb4", "#9467bd", "#b8336a")
_GREY = "#8a8f98"
_TITLES = (
    "success, no help in training",
    "success, with help in training",
    "steps led by the person",
    "untouched and successful",
)

Curves = Mapping[tuple[str, str], Sequence[CurvePoint]]
Courses = Mapping[tuple[str, str], Sequence[HelpPoint]]


def draw(path: Path, curves: Curves, courses: Courses, plan: SuitePlan) -> None:
    """Draws the figure into a file.

    Raises:
        CommandError: the picture cannot be written.
    """
    try:
        figure_of(curves, courses, plan).savefig(path, dpi=_RESOLUTION)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from error


def figure_of(curves: Curves, courses: Courses, plan: SuitePlan) -> Figure:
    """The figure.

    Success is that of evaluations, without a person, with its Wilson interval. The last two panels are of the training
    episodes in which the person helps where there is need; the last one is the share of all of them.
    """
    settings = [find_setting(name) for name in plan.settings]
    counts = sorted({setting.demonstrations for setting in settings})
    colours = {count: _COLOURS[index % len(_COLOURS)] for index, count in enumerate(counts)}
    size = (_PANEL[0] * len(_TITLES), _PANEL[1] * len(plan.tasks) + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    for task, panels in zip(plan.tasks, figure.subplots(len(plan.tasks), len(_TITLES), squeeze=False), strict=True):
        for panel, title in zip(panels, _TITLES, strict=True):
            _prepare(panel, f"{task}: {title}")
        for panel in panels[:2]:
            panel.axhline(plan.goal, color=_GREY, linestyle=":", linewidth=1)
        for setting in settings:
            colour, key = colours[setting.demonstrations], (task, setting.name)
            _success(panels[int(setting.interventions)], curves.get(key, ()), colour)
            if setting.interventions:
                _share(panels[2], courses.get(key, ()), lambda point: point.led, colour)
                _share(panels[3], courses.get(key, ()), lambda point: point.alone, colour)
        for panel in panels:  # once all lines are there: a limit that is set keeps the others as they are then
            panel.set_xlim(left=0)
    names = [f"{count} demonstration{'' if count == 1 else 's'}" for count in counts]
    lines = [Line2D([], [], color=colours[count]) for count in counts]
    figure.legend(lines, names, loc="outside upper center", ncols=min(6, len(names)))
    return figure


def _prepare(panel: Axes, title: str) -> None:
    panel.set_title(title, fontsize=9)
    panel.set_ylim(-0.02, 1.02)
    panel.yaxis.set_major_formatter(PercentFormatter(1.0))
    panel.grid(alpha=0.3)
    panel.set_xlabel("env steps")


def _success(panel: Axes, points: Sequence[CurvePoint], colour: str) -> None:
    steps = [point.env_steps for point in points]
    panel.fill_between(steps, [p.low for p in points], [p.high for p in points], color=colour, alpha=0.15, linewidth=0)
    panel.plot(steps, [point.success for point in points], color=colour)


def _share(panel: Axes, points: Sequence[HelpPoint], value: Callable[[HelpPoint], float], colour: str) -> None:
    panel.plot([point.env_steps for point in points], [value(point) for point in points], color=colour)
