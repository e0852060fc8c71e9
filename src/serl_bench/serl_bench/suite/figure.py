# SPDX-License-Identifier: Apache-2.0
"""Success over env steps: a panel for each task, a line for each setting."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from serl_launch.errors import CommandError

from serl_bench.suite.plan import SuitePlan
from serl_bench.suite.settings import TEACHER
from serl_bench.suite.statistics import CurvePoint, Row

_FEW = 20  # tasks for which two columns of panels are no tower
_PANEL, _SMALL_PANEL = (5.6, 3.0), (2.6, 1.9)  # [inch]
_RESOLUTION = 110  # [dpi]
_COLOURS = ("#1f6fb4", "#d9730d", "#2b8a3e", "#9467bd", "#b8336a", "#8c6d31", "#17becf", "#5f6b7a")
_GREY = "#8a8f98"


def draw(
    path: Path, curves: Mapping[tuple[str, str], Sequence[CurvePoint]], found: Sequence[Row], plan: SuitePlan
) -> None:
    """Draws the figure.

    What learns has a line with its Wilson interval; cloning, which has but one policy, and the teacher have a level.

    Raises:
        CommandError: the picture cannot be written.
    """
    few = len(plan.tasks) <= _FEW
    columns, (width, height) = (min(2, len(plan.tasks)), _PANEL) if few else (5, _SMALL_PANEL)
    lines = math.ceil(len(plan.tasks) / columns)
    figure = Figure(figsize=(width * columns, height * lines + 0.6), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).flat
    colours = {s: _COLOURS[i % len(_COLOURS)] for i, s in enumerate(plan.settings)}
    levels = {(row.task, row.setting): row.success for row in found}
    names = {}
    for task, panel in zip(plan.tasks, panels, strict=False):
        panel.set_title(task, fontsize="large" if few else "x-small")
        panel.axhline(plan.goal, color=_GREY, linestyle=":", linewidth=1)
        for setting in plan.settings:
            points, level, colour = curves.get((task, setting), ()), levels.get((task, setting)), colours[setting]
            if points and plan.learns_online(setting):
                steps = [point.env_steps for point in points]
                panel.fill_between(
                    steps, [p.low for p in points], [p.high for p in points], color=colour, alpha=0.15, linewidth=0
                )
                line = panel.plot(steps, [point.success for point in points], color=colour, marker=".")
                names[setting] = line[0]
            elif level is not None:
                names[setting] = panel.axhline(level, color=_GREY if setting == TEACHER else colour, linestyle="--")
        panel.set_ylim(-0.02, 1.02)
        panel.set_xlim(left=0)
        panel.yaxis.set_major_formatter(PercentFormatter(1.0))
        panel.grid(alpha=0.3)
        panel.set_xlabel("env steps", fontsize="medium" if few else "xx-small")
        panel.tick_params(labelsize="medium" if few else "xx-small")
    for panel in list(figure.axes)[len(plan.tasks) :]:
        panel.set_axis_off()
    if names:
        figure.legend(names.values(), names.keys(), loc="outside upper center", ncols=min(6, len(names)))
    try:
        figure.savefig(path, dpi=_RESOLUTION)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from error
