# SPDX-License-Identifier: Apache-2.0
"""How a training goes on: a few numbers of `metrics`, thinned out so that a page can draw them."""

import math
from collections.abc import Mapping

SHOWN = {
    "train/success": "success, while it learns",
    "eval/success_rate": "success, evaluated",
    "autonomy/led_steps": "share of steps led by a person",
    "autonomy/untouched": "share of episodes nobody touched",
    "autonomy/success_alone": "success of episodes nobody touched",
    "learner/critic_loss": "critic loss",
    "train/policy_lag": "age of the policy [env steps]",
}
"""What is drawn, by its name on `metrics`."""

MOST_POINTS = 400
"""Points of a curve, beyond which every second one is left out."""
_WINDOW = 20  # episodes over which success is averaged: an episode's own is 0 or 1


class Curves:
    """Points (env_steps, value) by name."""

    def __init__(self) -> None:
        """Begin without any."""
        self.version = 0
        self._points: dict[str, list[tuple[int, float]]] = {}
        self._recent: list[float] = []

    def add(self, env_steps: int, values: Mapping[str, float]) -> None:
        """Take what a message on `metrics` says."""
        for name in SHOWN.keys() & values.keys():
            value = values[name]
            if not math.isfinite(value):
                continue
            if name == "train/success":
                self._recent = [*self._recent[1 - _WINDOW :], value]
                value = sum(self._recent) / len(self._recent)
            points = self._points.setdefault(name, [])
            if points and env_steps < points[-1][0]:  # another run
                points.clear()
            points.append((env_steps, value))
            if len(points) > MOST_POINTS:
                del points[1:-1:2]
            self.version += 1

    def as_json(self) -> list[dict[str, object]]:
        """What a page draws: name, title and points of each curve."""
        return [
            {"name": name, "title": title, "points": [[x, round(y, 5)] for x, y in self._points[name]]}
            for name, title in SHOWN.items()
            if name in self._points
        ]
