# SPDX-License-Identifier: Apache-2.0
"""The figure of a sweep: a panel for each task, a line with its interval for each setting."""

import math
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from serl_launch.errors import CommandError

from serl_cli.sweep.statistics import Curve

_PANEL = (5.6, 3.2)  # [inch]
_RESOLUTION = 110  # [dpi]


def draw(path: Path, curves: Mapping[str, Mapping[str, Curve]]) -> None:
    """Draw success over env steps: interquartile means over trials, with their bootstrap intervals.

    Args:
        path: of the picture.
        curves: by task and setting.

    Raises:
        CommandError: the picture cannot be written.
    """
    columns = 1 if len(curves) < 2 else 2
    lines = max(1, math.ceil(len(curves) / columns))
    figure = Figure(figsize=(_PANEL[0] * columns, _PANEL[1] * lines + 0.7), layout="constrained")
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    settings = list(dict.fromkeys(setting for by_setting in curves.values() for setting in by_setting))
    names = {}
    for panel, (task, by_setting) in zip(panels, curves.items(), strict=False):
        panel.set_title(task)
        for setting, curve in by_setting.items():
            colour = f"C{settings.index(setting) % 10}"
            low, high = [point.low for point in curve.success], [point.high for point in curve.success]
            panel.fill_between(curve.env_steps, low, high, color=colour, alpha=0.15, linewidth=0, step="post")
            means = [point.mean for point in curve.success]
            names[setting] = panel.step(curve.env_steps, means, color=colour, where="post")[0]
        panel.set_ylim(-0.02, 1.02)
        panel.set_xlim(left=0)
        panel.yaxis.set_major_formatter(PercentFormatter(1.0))
        panel.set_xlabel("env steps")
        panel.set_ylabel("success")
        panel.grid(alpha=0.3)
    for panel in panels[len(curves) :]:
        panel.set_axis_off()
    if not curves:
        panels[0].text(0.5, 0.5, "nothing has been evaluated yet", ha="center", va="center")
    if names:
        figure.legend(
            names.values(), names.keys(), loc="outside upper center", ncols=min(3, len(names)), fontsize="small"
        )
    try:
        figure.savefig(path, dpi=_RESOLUTION)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from error
