# SPDX-License-Identifier: Apache-2.0
"""How far a robot gets without a person, counted over its last training episodes."""

from __future__ import annotations

from collections import deque

from serl_training.actor.rollout import EpisodeSummary

WINDOW = 20
"""Training episodes that count."""
MOST_LED = 0.8
"""Share of the steps beyond which the person who leads does the task, not the policy."""


class Autonomy:
    """Counts who led in the last training episodes, and what came of it."""

    def __init__(self, window: int = WINDOW) -> None:
        """Begin without an episode.

        Args:
            window: episodes that count.

        Raises:
            ValueError: fewer than 1.
        """
        if window < 1:
            raise ValueError(f"window: expected at least 1 episode, found {window}")
        self._window = window
        self._episodes: deque[EpisodeSummary] = deque(maxlen=window)
        self._quiet = window  # episodes until a warning may come

    def add(self, episode: EpisodeSummary) -> None:
        """Count a training episode, the oldest one no more where the window is full."""
        self._episodes.append(episode)
        self._quiet = max(0, self._quiet - 1)

    @property
    def led_steps(self) -> float:
        """Share of the steps in which a person led; 0 without an episode."""
        steps = sum(episode.length for episode in self._episodes)
        return sum(episode.interventions for episode in self._episodes) / steps if steps else 0.0

    def numbers(self) -> dict[str, float]:
        """What is reported of the window, by name; nothing before the first episode.

        `autonomy/success_alone` is the success rate of the episodes in which nobody led; it is missing where there are
        none, since nothing is known of it.
        """
        count = len(self._episodes)
        if not count:
            return {}
        alone = [episode.success for episode in self._episodes if not episode.interventions]
        return ({"autonomy/success_alone": sum(alone) / len(alone)} if alone else {}) | {
            "autonomy/untouched": len(alone) / count,
            "autonomy/led_steps": self.led_steps,
            "autonomy/episode_length": sum(episode.length for episode in self._episodes) / count,
            "autonomy/episodes": float(count),
        }

    def concern(self) -> str:
        """What is wrong with how the person helps; empty while nothing is, or while the window is not full."""
        if len(self._episodes) < self._window or self.led_steps <= MOST_LED:
            return ""
        return (
            f"a person led in {self.led_steps:.0%} of the steps of the last {self._window} training episodes, so "
            "the policy hardly sees what its own actions lead to; take over where it fails, and give back early"
        )

    def warning(self) -> str:
        """The concern, once per window and not more often, for whoever asks after each episode; empty otherwise."""
        if self._quiet:
            return ""
        concern = self.concern()
        if concern:
            self._quiet = self._window
        return concern
