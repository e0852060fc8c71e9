# SPDX-License-Identifier: Apache-2.0
"""How far a robot gets without a person, counted over its last training episodes."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from serl_rl.success_rate import difference_interval

from serl_training.actor.rollout import EpisodeSummary

WINDOW = 20
"""Training episodes that count."""
MOST_LED = 0.8
"""Share of the steps beyond which the person who leads does the task, not the policy."""

RETURN_WINDOW = 100
"""Training episodes among which the return of help is looked for."""
NEAR = 10
"""Training episodes before and after a helped one that count to it."""


@dataclass(frozen=True)
class HelpReturn:
    """Return of help: how much higher success without help is after help than before it."""

    value: float
    """Difference of two success rates, in [-1, 1]."""
    low: float
    """Lower end of its 95 % interval."""
    high: float
    """Upper end of its 95 % interval."""


def return_of_help(episodes: Sequence[EpisodeSummary], near: int = NEAR) -> HelpReturn | None:
    """Whether success rises after help: the success rate of untouched episodes after helped ones minus that before.

    An untouched episode counts to the helped episode that is nearest, at most `near` episodes away: as *after* if that
    lies behind it in time, as *before* if it is still to come; to neither if both are as near, so none counts twice.
    With s of n episodes successful on either side, the return is s_after / n_after - s_before / n_before, the interval
    that of `difference_interval`.

    What it cannot say: that the help did it. It is a comparison of neighbours in time, not an experiment.

    - A policy that learns gets better without help, too. `near` is small so that this is little between the two sides.
    - Help comes when it goes badly. If chance made it so, it goes better afterwards by itself (regression to the mean).
    - Who helps in every episode in need leaves those untouched that would have succeeded anyway, before and after.
    - Learning from help takes time: what comes of it later than `near` episodes is not seen.

    What help is worth is measured by trainings with and without it: ``./serl experiment interventions``.

    Args:
        episodes: of a training, in their order.
        near: the largest distance that counts.

    Returns:
        None where nothing lies on one of the two sides.
    """
    helped = [index for index, episode in enumerate(episodes) if episode.interventions]
    successes, counts = [0, 0], [0, 0]  # before, after
    last, coming = -near - 1, 0  # index of the newest helped episode, and which of `helped` comes next
    for index, episode in enumerate(episodes):
        if episode.interventions:
            last, coming = index, coming + 1
            continue
        since = index - last
        until = helped[coming] - index if coming < len(helped) else near + 1
        if since == until or min(since, until) > near:
            continue
        side = int(since < until)
        counts[side] += 1
        successes[side] += episode.success
    if not all(counts):
        return None
    (before, after) = zip(successes, counts, strict=True)
    return HelpReturn(after[0] / after[1] - before[0] / before[1], *difference_interval(before, after))


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
        self._history: deque[EpisodeSummary] = deque(maxlen=RETURN_WINDOW)
        self._quiet = window  # episodes until a warning may come

    def add(self, episode: EpisodeSummary) -> None:
        """Count a training episode, the oldest one no more where the window is full."""
        self._episodes.append(episode)
        self._history.append(episode)
        self._quiet = max(0, self._quiet - 1)

    @property
    def led_steps(self) -> float:
        """Share of the steps in which a person led; 0 without an episode."""
        steps = sum(episode.length for episode in self._episodes)
        return sum(episode.interventions for episode in self._episodes) / steps if steps else 0.0

    def numbers(self) -> dict[str, float]:
        """What is reported of the window, by name; nothing before the first episode.

        `autonomy/success_alone` is the success rate of the episodes in which nobody led; it is missing where there are
        none, since nothing is known of it. So is `autonomy/return_of_help`, with the ends of its interval, where there
        is nothing to compare: see `return_of_help`; it is of the last `RETURN_WINDOW` episodes.
        """
        count = len(self._episodes)
        if not count:
            return {}
        alone = [episode.success for episode in self._episodes if not episode.interventions]
        found = {"autonomy/success_alone": sum(alone) / len(alone)} if alone else {}
        if (help_return := return_of_help(self._history)) is not None:
            found |= {
                "autonomy/return_of_help": help_return.value,
                "autonomy/return_of_help_low": help_return.low,
                "autonomy/return_of_help_high": help_return.high,
            }
        return found | {
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
