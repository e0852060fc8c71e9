# SPDX-License-Identifier: Apache-2.0
"""A recording as one figure: lengths, rates, actions, what the cameras saw."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import PercentFormatter
from serl_recording.sketch import BINS, Sketch, Thumbnails

_WIDTH, _PANELS, _ROW = 11.0, 6.5, 1.5  # [inch]
_RESOLUTION = 110  # [dpi]
_MOST_COMPONENTS = 32
_BLUE, _ORANGE, _GREEN, _GREY = "#1f6fb4", "#d9730d", "#2b8a3e", "#8a8f98"
_AT_A_BOUND = slice(None, None, BINS - 1)  # the outermost bins


def draw(sketch: Sketch, title: str) -> bytes:
    """The figure as PNG.

    Args:
        sketch: of at least one episode.
        title: above it.
    """
    cameras = sketch.spec.cameras
    rows = len(cameras) * len(sketch.thumbnails)
    below = _ROW * (rows + 1) / 2 if rows else 0.0
    figure = Figure(figsize=(_WIDTH, _PANELS + below), layout="constrained")
    figure.suptitle(title, parse_math=False)
    top, bottom = _halves(figure, below)
    panels = top.subplots(2, 2)
    _lengths(panels[0, 0], sketch)
    _intervals(panels[0, 1], sketch)
    _actions(panels[1, 0], sketch)
    _saturation(panels[1, 1], sketch)
    if bottom is not None:
        _thumbnails(bottom, cameras, sketch.thumbnails)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=_RESOLUTION)
    return out.getvalue()


def _halves(figure: Figure, below: float) -> tuple[Figure | SubFigure, SubFigure | None]:
    if not below:
        return figure, None
    both = figure.subfigures(2, 1, squeeze=False, height_ratios=[_PANELS, below])
    return both[0, 0], both[1, 0]


def _lengths(panel: Axes, sketch: Sketch) -> None:
    numbers, lengths, good = np.arange(len(sketch.lengths)), np.array(sketch.lengths), np.array(sketch.succeeded)
    panel.set_title("length of episodes [steps]")
    for mask, color, label in ((good, _GREEN, "success"), (~good, _ORANGE, "failure")):
        if mask.any():
            panel.plot(numbers[mask], lengths[mask], ".", color=color, label=label)
    led = np.array(sketch.led)
    if led.any():
        right = panel.twinx()
        right.plot(numbers, led, color=_GREY, linewidth=0.8)
        right.set_ylim(-0.02, 1.02)
        right.yaxis.set_major_formatter(PercentFormatter(1.0))
        right.set_ylabel("led by a person", color=_GREY)
    panel.set_ylim(bottom=0)
    panel.set_xlabel("episode")
    panel.legend(loc="best")
    panel.grid(alpha=0.3)


def _intervals(panel: Axes, sketch: Sketch) -> None:
    intervals, nominal = 1e3 * sketch.intervals, 1e3 / sketch.spec.rate
    panel.set_title("time between observations [ms], by their stamps")
    panel.axhline(nominal, color=_GREY, linestyle="--", linewidth=1, label=f"{sketch.spec.rate:g} Hz")
    if len(intervals):
        panel.plot(np.arange(len(intervals)), intervals, ".", color=_BLUE, markersize=2)
        panel.set_yscale("symlog", linthresh=10 * nominal)
    else:
        panel.text(0.5, 0.5, "no stamps were measured", color=_GREY, ha="center", transform=panel.transAxes)
    panel.set_xlabel("step")
    panel.legend(loc="upper right")
    panel.grid(alpha=0.3)


def _actions(panel: Axes, sketch: Sketch) -> None:
    names = sketch.spec.action_names[:_MOST_COMPONENTS]
    counts = sketch.actions[: len(names)]
    shares = counts / np.maximum(counts.max(axis=1, keepdims=True), 1)
    panel.set_title("values of the actions")
    panel.imshow(shares, aspect="auto", cmap="Blues", extent=(-1, 1, len(names) - 0.5, -0.5), vmin=0, vmax=1)
    _name(panel, names)


def _saturation(panel: Axes, sketch: Sketch) -> None:
    names = sketch.spec.action_names[:_MOST_COMPONENTS]
    places, steps = np.arange(len(names)), max(sum(sketch.lengths), 1)
    bound = sketch.actions[: len(names), _AT_A_BOUND].sum(axis=1) / steps
    panel.set_title(f"actions within {2 / BINS:g} of a bound, and outside of [-1, 1]")
    panel.barh(places, bound, color=_BLUE, label="at a bound")
    outside = sketch.outside[: len(names)] / steps
    if outside.any():
        panel.barh(places, outside, left=bound, color=_ORANGE, label="outside")
        panel.legend(loc="lower right")
    panel.set_xlim(0, 1)
    panel.xaxis.set_major_formatter(PercentFormatter(1.0))
    panel.invert_yaxis()
    _name(panel, names)


def _name(panel: Axes, names: Sequence[str]) -> None:
    panel.set_yticks(range(len(names)), [name[:24] for name in names], parse_math=False)


def _thumbnails(figure: SubFigure, cameras: Sequence[str], thumbnails: Sequence[Thumbnails]) -> None:
    """Two episodes beside each other, a row for each camera: first, middle and last picture."""
    lines = (len(thumbnails) + 1) // 2
    panels = figure.subplots(lines * len(cameras), 6, squeeze=False)
    for panel in panels.flat:
        panel.set_axis_off()
    for index, each in enumerate(thumbnails):
        for place, name in enumerate(cameras):
            row = panels[index // 2 * len(cameras) + place, 3 * (index % 2) :]
            for panel, picture in zip(row, each.pictures[name], strict=False):
                panel.imshow(picture if picture.shape[2] == 3 else picture[:, :, 0], cmap="gray", vmin=0, vmax=255)
            row[0].set_title(f"{name[:24]}: {each.title[:40]}", fontsize=8, loc="left", parse_math=False)
