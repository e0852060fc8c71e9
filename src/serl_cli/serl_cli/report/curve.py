# SPDX-License-Identifier: Apache-2.0
"""The learning curve of a run as one picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeGuard

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from serl_launch.errors import CommandError
from serl_training.learner.run_log import Series

SIZE = (10.0, 6.5)  # [inch]
RESOLUTION = 110  # [dpi]
WINDOW = 20  # episodes in a moving average
_BLUE, _ORANGE, _GREEN, _GREY = "#1f6fb4", "#d9730d", "#2b8a3e", "#8a8f98"


def plot_learning_curve(metrics: Mapping[str, Series], path: Path, *, title: str, goal: float) -> None:
    """Draws evaluations with their interval, training return, interventions, autonomy and losses over the env steps.

    Args:
        metrics: as ``serl_training.learner.run_log.read_metrics`` returns them; what is missing leaves its panel empty.
        path: of the PNG.
        title: above the picture.
        goal: success rate in [0, 1] that ends the training.

    Raises:
        CommandError: the picture cannot be written.
    """
    figure = Figure(figsize=SIZE, layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(2, 2, sharex=True)
    _success(panels[0, 0], metrics, goal)
    _average(panels[0, 1], metrics.get("train/episode_return"), "return of training episodes", _GREEN)
    _average(panels[1, 0], metrics.get("train/intervention_rate"), "steps led by the person", _ORANGE)
    panels[1, 0].yaxis.set_major_formatter(PercentFormatter(1.0))
    panels[1, 0].set_ylim(-0.02, 1.02)
    _autonomy(panels[1, 0], metrics)
    _losses(panels[1, 1], metrics)
    for panel in panels[1]:
        panel.set_xlabel("online env steps")
    for panel in panels.flat:
        panel.grid(alpha=0.3)
        panel.set_xlim(left=0)
    try:
        figure.savefig(path, dpi=RESOLUTION)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from error


def _success(panel: Axes, metrics: Mapping[str, Series], goal: float) -> None:
    panel.set_title("success in evaluations, 95 % Wilson interval")
    panel.yaxis.set_major_formatter(PercentFormatter(1.0))
    panel.set_ylim(-0.02, 1.02)
    panel.axhline(goal, color=_GREY, linestyle="--", linewidth=1, label=f"goal {goal:.0%}")
    rate = metrics.get("eval/success_rate")
    if not _has_data(rate, panel):
        return
    low, high = metrics.get("eval/interval_low"), metrics.get("eval/interval_high")
    if low is not None and high is not None and len(low.value) == len(high.value) == len(rate.value):
        panel.fill_between(rate.env_steps, low.value, high.value, color=_BLUE, alpha=0.2, linewidth=0)
    panel.plot(rate.env_steps, rate.value, color=_BLUE, marker="o", markersize=4, label="success")
    episodes = metrics.get("eval/episodes")
    if episodes is not None and len(episodes.value) == len(rate.value):
        early = episodes.value < episodes.value.max()
        if early.any():
            panel.plot(
                rate.env_steps[early], rate.value[early], "o", markersize=4, color="white", markeredgecolor=_BLUE,
                label="broken off early",
            )  # fmt: skip
    panel.legend(loc="upper left")


def _average(panel: Axes, series: Series | None, title: str, color: str) -> None:
    panel.set_title(f"{title}, mean of {WINDOW}")
    if not _has_data(series, panel):
        return
    panel.plot(series.env_steps, series.value, ".", color=color, alpha=0.15, markersize=3)
    panel.plot(series.env_steps, moving_average(series.value, WINDOW), color=color)


def _autonomy(panel: Axes, metrics: Mapping[str, Series]) -> None:
    """Where a person led at all: in how many episodes nobody did, and how many of those succeeded."""
    led = metrics.get("train/intervention_rate")
    if led is None or not led.value.any():
        return
    lines = (
        ("autonomy/untouched", "episodes nobody touched", _BLUE),
        ("autonomy/success_alone", "of those succeed", _GREEN),
    )
    shown = [(metrics[name], label, color) for name, label, color in lines if name in metrics]
    for series, label, color in shown:
        panel.plot(series.env_steps, series.value, color=color, label=label)
    if shown:
        panel.legend(loc="best")


def _losses(panel: Axes, metrics: Mapping[str, Series]) -> None:
    panel.set_title("losses")
    critic, actor = metrics.get("learner/critic_loss"), metrics.get("learner/actor_loss")
    if not _has_data(critic, panel):
        return
    lines = panel.plot(critic.env_steps, critic.value, color=_BLUE, label="critic")
    if np.all(critic.value > 0):
        panel.set_yscale("log")
    if actor is not None:
        right = panel.twinx()
        lines += right.plot(actor.env_steps, actor.value, color=_ORANGE, label="actor (right)")
    panel.legend(handles=lines, loc="upper right")


def _has_data(series: Series | None, panel: Axes) -> TypeGuard[Series]:
    if series is not None and len(series.value):
        return True
    panel.text(0.5, 0.5, "nothing recorded", color=_GREY, ha="center", va="center", transform=panel.transAxes)
    return False


def moving_average(values: npt.NDArray[np.float64], window: int) -> npt.NDArray[np.float64]:
    """Mean of each value and up to ``window - 1`` before it; shape ``(n,)`` as `values`."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - window)
    means: npt.NDArray[np.float64] = (sums[ends] - sums[starts]) / (ends - starts)
    return means
