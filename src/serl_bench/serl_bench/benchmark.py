# SPDX-License-Identifier: Apache-2.0
"""What a benchmark is, what it is given, and what it finds."""

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from serl_launch.errors import CommandError


@dataclass(frozen=True)
class Bench:
    """What a benchmark is given."""

    seeds: tuple[int, ...]  # for what depends on chance; one run for each
    scratch: Path  # a folder for this start of the benchmarks, deleted at the end
    say: Callable[[str], None]  # tells the person what goes on


@dataclass(frozen=True)
class Measurement:
    """What a benchmark found."""

    value: float
    spread: str  # how much the repetitions differ, in words that a table has room for
    details: Mapping[str, Any] = field(default_factory=dict)  # plain values, for the report file


@dataclass(frozen=True)
class Benchmark:
    """One number: its key, meaning and goal."""

    key: str
    what: str
    unit: str
    better: Literal["more", "less"]
    goal: float
    function: str  # module:function
    by_default: bool = True  # False: runs only when asked for by key

    def reached(self, value: float) -> bool:
        """Whether a value meets the goal; NaN does not."""
        return value >= self.goal if self.better == "more" else value <= self.goal

    @property
    def goal_text(self) -> str:
        """The goal as in a table."""
        return f"{'≥' if self.better == 'more' else '≤'} {self.goal:,g}"

    def run(self, bench: Bench) -> Measurement:
        """Measures it.

        Raises:
            CommandError: the value is not a number.
        """
        module, _, name = self.function.partition(":")
        measurement: Measurement = getattr(importlib.import_module(module), name)(bench)
        if math.isnan(measurement.value):
            raise CommandError(f"benchmark {self.key} measured no number: {measurement.spread}")
        return measurement
