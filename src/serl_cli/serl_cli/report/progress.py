# SPDX-License-Identifier: Apache-2.0
"""What a person sees while the robot learns: a live display in a terminal, plain lines elsewhere."""

import math
import time
from collections import deque
from collections.abc import Mapping
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

LINE_PERIOD = 10.0  # [s] between plain lines while nothing special happens
WINDOW = 20  # episodes over which training success is averaged
_AUTONOMY, _RATE = "autonomy/", "train/env_steps_per_s"
_FLEET = "fleet"  # name of the node that counts autonomy over all arms
REFRESH_RATE = 4  # [Hz]; the display shares two cores with the learning


class TrainingStatus:
    """The newest of everything that is known about a training."""

    def __init__(self, max_env_steps: int, goal: float, now: float | None = None, *, helped: bool = False) -> None:
        """Begin to know nothing.

        Args:
            max_env_steps: after which the training ends.
            goal: success rate that ends it earlier.
            now: time of the start, of the monotonic clock [s].
            helped: whether a person may lead in training; else their part is shown once somebody does.
        """
        self._helped = helped
        self.max_env_steps = max_env_steps
        self.goal = goal
        self.stage = "starting"
        self.waiting = ""
        """What a person is waited for; empty: for nothing."""
        self.env_steps = 0
        self.evaluations: list[tuple[int, float]] = []  # (env steps, success rate)
        self.values: dict[str, float] = {}
        self._rates: dict[str, float] = {}  # of each arm
        self._is_fleet = False
        self._episodes = {name: deque[float](maxlen=WINDOW) for name in ("train/success",)}
        self.started = time.monotonic() if now is None else now

    def update_metrics(self, env_steps: int, values: Mapping[str, float], node: str = "") -> None:
        """Takes a message that `node` has sent on the `metrics` topic.

        Rates of several arms are added; how far they get without a person counts as the node of their fleet tells it.
        """
        self.env_steps = max(self.env_steps, env_steps)
        counts_all = node.rpartition("/")[2] == _FLEET
        self._is_fleet |= counts_all
        if self._is_fleet and not counts_all:
            values = {name: value for name, value in values.items() if not name.startswith(_AUTONOMY)}
        if any(name.startswith(_AUTONOMY) for name in values):  # what is missing there is not known any more
            self.values = {name: value for name, value in self.values.items() if not name.startswith(_AUTONOMY)}
        self._helped |= values.get("train/intervention_rate", 0.0) > 0.0
        self.values.update(values)
        if _RATE in values:
            self._rates[node] = values[_RATE]
            self.values[_RATE] = sum(self._rates.values())
        for name in self._episodes.keys() & values.keys():
            self._episodes[name].append(values[name])
            self.values[name] = sum(self._episodes[name]) / len(self._episodes[name])
        if "eval/success_rate" in values:
            self.evaluations.append((env_steps, values["eval/success_rate"]))

    def update_feedback(self, stage: str, env_steps: int, waiting: str = "") -> None:
        """Takes feedback of the `train` action."""
        self.stage, self.waiting = stage, waiting
        self.env_steps = max(self.env_steps, env_steps)

    @property
    def doing(self) -> str:
        """What goes on, or what is waited for."""
        return self.waiting or self.stage

    def time_left(self) -> float | None:
        """Time to `max_env_steps` at the present rate [s]; None while there is no rate. The goal may hold earlier."""
        rate = self.values.get(_RATE, 0.0)
        if not rate > 0:
            return None
        return max(0, self.max_env_steps - self.env_steps) / rate

    def rows(self) -> list[tuple[str, str]]:
        """Name and value of everything worth showing, in a fixed order."""
        evaluation = "–"
        if self.evaluations:
            step, rate = self.evaluations[-1]
            low, high = self.values.get("eval/interval_low", math.nan), self.values.get("eval/interval_high", math.nan)
            evaluation = f"{rate:.0%} [{low:.0%}, {high:.0%}] at {step} (goal {self.goal:.0%})"
        return [
            ("evaluated success", evaluation),
            ("training success", self._show("train/success", ".0%")),
            ("interventions", self._show("autonomy/led_steps", ".0%")),
            ("episode length", self._show("autonomy/episode_length", ".0f", " steps")),
            *([("untouched", self._untouched()), ("return of help", self._return_of_help())] if self._helped else []),
            ("env steps/s", self._show(_RATE, ".0f")),
            ("updates/s", self._show("learner/updates_per_s", ".0f")),
            ("critic loss", self._show("learner/critic_loss", ".3g")),
            ("actor loss", self._show("learner/actor_loss", ".3g")),
            ("policy lag", self._show("train/policy_lag", ".0f", " steps")),
            ("time", duration(time.monotonic() - self.started)),
            ("left at most", duration(self.time_left())),
        ]

    def line(self) -> str:
        """Everything worth showing, in one line."""
        rows = [f"{name} {value}" for name, value in self.rows() if "–" not in value]
        return f"{self.doing} {self.env_steps}/{self.max_env_steps}: " + ", ".join(rows)

    def _untouched(self) -> str:
        """Share of the last training episodes in which nobody led, and how many of those succeeded."""
        share = self._show("autonomy/untouched", ".0%")
        if "autonomy/success_alone" not in self.values:
            return share  # of none the success is not known
        return f"{share} ({self._show('autonomy/success_alone', '.0%')} succeed)"

    def _return_of_help(self) -> str:
        """How much higher success without help is after help than before it, in points, with its interval."""
        name = "autonomy/return_of_help"
        if name not in self.values:
            return "–"
        value, low, high = (100.0 * self.values.get(name + end, math.nan) for end in ("", "_low", "_high"))
        return f"{value:+.0f} [{low:+.0f}, {high:+.0f}] points"

    def _show(self, name: str, form: str, unit: str = "") -> str:
        value = self.values.get(name, math.nan)
        return "–" if math.isnan(value) else f"{value:{form}}{unit}"


class Display(Protocol):
    """Something that shows a status while it changes."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...

    def update(self) -> None:
        """Called often; shows what changed."""
        ...


class LiveDisplay:
    """A bar and a small table at the bottom of a terminal."""

    def __init__(self, status: TrainingStatus, console: Console) -> None:
        self._status = status
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._next = 0.0

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.update(self._render())
        self._live.stop()

    def update(self) -> None:
        """Draws again when it is time to."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + 1 / REFRESH_RATE
            self._live.update(self._render(), refresh=True)

    def _render(self) -> RenderableType:
        status = self._status
        head = Table.grid(padding=(0, 1))
        head.add_row(
            Text(status.doing, style="bold yellow" if status.waiting else "bold cyan"),
            ProgressBar(total=status.max_env_steps, completed=status.env_steps, width=40),
            Text(f"{status.env_steps}/{status.max_env_steps} env steps"),
        )
        body = Table.grid(padding=(0, 2))
        for name, value in status.rows():
            body.add_row(Text(name, style="dim"), Text(value))
        return Group(head, body)


class LineDisplay:
    """One line when a stage is reached for the first time or an evaluation ends, and now and then, for logs and CI."""

    def __init__(self, status: TrainingStatus, console: Console, period: float = LINE_PERIOD) -> None:
        self._status = status
        self._console = console
        self._period = period
        self._stages: set[str] = set()
        self._evaluations = 0
        self._next = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def update(self) -> None:
        """Prints a line when there is something new to say."""
        status, now = self._status, time.monotonic()
        kind = status.doing.partition(" ")[0]  # what follows counts
        news = kind not in self._stages or len(status.evaluations) > self._evaluations
        if not news and now < self._next:
            return
        self._stages.add(kind)
        self._evaluations = len(status.evaluations)
        self._next = now + self._period
        self._console.print(status.line(), markup=False, highlight=False, soft_wrap=True)


def make_display(status: TrainingStatus, console: Console) -> Display:
    """The display that suits the console."""
    return LiveDisplay(status, console) if console.is_terminal else LineDisplay(status, console)


def duration(seconds: float | None) -> str:
    """``1:05:09`` or ``5:09``; a dash when unknown."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
