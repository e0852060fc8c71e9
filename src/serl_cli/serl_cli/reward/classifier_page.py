# SPDX-License-Identifier: Apache-2.0
"""One self-contained page about a classifier: rates, thresholds, reliability, and the worst mistakes."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from serl_rl.reward.calibration import choose_threshold, rates, reliability
from serl_rl.reward.classifier_file import ClassifierInfo

from serl_cli.report.page import STYLE, table

if TYPE_CHECKING:  # it imports JAX, which only who has judged has loaded
    from serl_rl.reward.judging import Predictions, Report

MOST_MISTAKES = 24  # shown of each kind
_WANTED_RATES = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
_PLOT = 240  # [pixels]


def render(name: str, info: ClassifierInfo, predictions: "Predictions", report: "Report") -> str:
    """The page, as HTML that needs no other file.

    Args:
        name: of the classifier.
        info: what it says of itself.
        predictions: what it says of episodes that it has not seen.
        report: its rates there.
    """
    last = len(info.source.stages) - 1
    probabilities, labels = predictions.probabilities(info.temperature), predictions.labels
    scores, positive = probabilities[:, last], labels == last
    episodes = len(predictions.episodes)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(name)}</title><style>{STYLE}</style></head><body>
<h1>{escape(name)}</h1>
<p>Task {escape(info.source.task)}; cameras {escape(", ".join(info.cameras))}; stages
{escape(", ".join(info.source.stages))}. Encoder {escape(info.encoder)} {escape(info.encoder_hash)}. Temperature
{info.temperature:.2f}; {info.consecutive} frames in a row count. Judged here: {episodes} episodes,
{len(labels)} frames that it was not trained with.</p>
{table(("", "rate", "count", "95 % interval (Wilson)"), _summary(report))}
<p class="note">Frames of an episode are alike, so that intervals over frames are too narrow; those over
episodes are not.</p>
<div class="sides"><div><h2>Thresholds</h2>{_thresholds(scores, positive, info.thresholds[-1])}</div>
<div><h2>ROC, area {report.area:.4f}</h2>{_roc(scores, positive, info.thresholds[-1])}</div>
<div><h2>Reliability</h2>{_reliability(scores, positive)}</div></div>
<h2>Failures that look most like success</h2>{_mistakes(info, predictions, scores, ~positive, -1)}
<h2>Successes that look most like failure</h2>{_mistakes(info, predictions, scores, positive, 1)}
</body></html>
"""


def _summary(report: "Report") -> Iterable[Sequence[str]]:
    for what, rate in (
        ("frames taken for success that are not", report.false_positives),
        ("frames of success that are found", report.true_positives),
        ("episodes that succeed too early", report.false_successes),
        ("successes that are found", report.found_successes),
    ):
        low, high = rate.interval
        yield what, f"{rate.value:.2%}", f"{rate.count} of {rate.total}", f"{low:.2%} to {high:.2%}"


def _thresholds(scores: NDArray[np.float64], positive: NDArray[np.bool_], chosen: float) -> str:
    wanted = {choose_threshold(scores, positive, rate) for rate in _WANTED_RATES} if (~positive).any() else set()
    values = sorted({chosen, *wanted}, reverse=True)
    rows = []
    for value in values:
        false, true = rates(scores, positive, value)
        rows.append((f"{value:.4f}", f"{false.value:.2%} ({false.count})", f"{true.value:.2%} ({true.count})"))
    return table(("threshold", "false positives", "true positives"), rows, values.index(chosen))


def _roc(scores: NDArray[np.float64], positive: NDArray[np.bool_], chosen: float) -> str:
    points = []
    for threshold in np.unique(np.quantile(scores, np.linspace(0.0, 1.0, 400)))[::-1]:
        false, true = rates(scores, positive, float(threshold))
        points.append((false.value, true.value))
    line = " ".join(f"{_PLOT * x:.1f},{_PLOT * (1.0 - y):.1f}" for x, y in [(0.0, 0.0), *points, (1.0, 1.0)])
    false, true = rates(scores, positive, chosen)
    return f"""<svg width="{_PLOT + 60}" height="{_PLOT + 40}" viewBox="-40 -10 {_PLOT + 60} {_PLOT + 45}"
 role="img" aria-label="ROC curve">
<rect width="{_PLOT}" height="{_PLOT}" fill="#f4f6f9" stroke="#c3cad6"/>
<polyline points="{line}" fill="none" stroke="#1f5fa8" stroke-width="2"/>
<circle cx="{_PLOT * false.value:.1f}" cy="{_PLOT * (1.0 - true.value):.1f}" r="5" fill="#2e7d32"/>
<g font-size="12" fill="#4a5568"><text x="{_PLOT / 2}" y="{_PLOT + 28}" text-anchor="middle">false positives</text>
<text x="0" y="{_PLOT + 14}" text-anchor="middle">0</text>
<text x="{_PLOT}" y="{_PLOT + 14}" text-anchor="middle">1</text>
<text x="-8" y="8" text-anchor="end">1</text><text x="-16" y="{_PLOT / 2}" text-anchor="middle"
 transform="rotate(-90 -16 {_PLOT / 2})">true positives</text></g></svg>"""


def _reliability(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> str:
    rows = [
        (f"{found.low:.1f} to {found.high:.1f}", f"{found.predicted:.3f}", f"{found.observed.value:.3f}",
         str(found.observed.total))
        for found in reliability(scores, positive)
    ]  # fmt: skip
    return table(("probability", "mean", "true", "frames"), rows)


def _mistakes(
    info: ClassifierInfo,
    predictions: "Predictions",
    scores: NDArray[np.float64],
    among: NDArray[np.bool_],
    sign: int,
) -> str:
    """The frames `among` all with the highest (`sign` -1) or lowest (1) scores, with their pictures."""
    if not among.any():
        return "<p>There are none.</p>"
    places = [(episode, frame) for episode in predictions.episodes for frame in range(len(episode))]
    order = np.argsort(sign * scores, kind="stable")
    figures = []
    for index in order[among[order]][:MOST_MISTAKES]:
        episode, frame = places[index]
        pictures = "".join(
            f'<img alt="{escape(camera)}" src="data:image/jpeg;base64,'
            f'{base64.b64encode(episode.pictures[camera][frame]).decode()}"> '
            for camera in info.cameras
        )
        wrong = (scores[index] >= info.thresholds[-1]) == (sign == -1)
        figures.append(
            f"<figure>{pictures}<figcaption>probability <span{' class=p' if wrong else ''}>{scores[index]:.4f}</span>"
            f", {escape(episode.source.stages[int(episode.labels[frame])])}; frame {frame} of episode "
            f"{escape(episode.id)}</figcaption></figure>"
        )
    return f'<div class="grid">{"".join(figures)}</div>'
