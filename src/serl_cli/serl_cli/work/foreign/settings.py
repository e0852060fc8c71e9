# SPDX-License-Identifier: Apache-2.0
"""Collects what becomes of each setting of another stack: a value of our task or learning settings, or nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from serl_cli.work.foreign.errors import SettingError


@dataclass(frozen=True)
class Outcome:
    """What became of one setting.

    setting: its path, "outer.inner"
    value: as it was
    target: what it became, as "learning: sac.discount = 0.99"; empty: nothing
    reason: why, where it became nothing or something else than it says
    """

    setting: str
    value: Any
    target: str
    reason: str


@dataclass
class Translation:
    """Our settings, as far as they are known, and what became of each setting of the other stack."""

    task: dict[str, Any]
    """Values of the task's file; they begin as those of the task that is extended."""
    learning: dict[str, Any] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)
    """Keys of the task that are no longer those of the task that is extended."""

    def learn(self, setting: str, value: Any, target: str, ours: Any, reason: str = "") -> None:
        """A setting became a value of the learning settings."""
        _put(self.learning, target, ours)
        self.outcomes.append(Outcome(setting, value, f"learning: {target} = {ours}", reason))

    def perform(self, setting: str, value: Any, target: str, ours: Any, reason: str = "") -> None:
        """A setting became a value of the task."""
        _put(self.task, target, ours)
        self.changed.add(target.split(".")[0])
        self.outcomes.append(Outcome(setting, value, f"task: {target} = {ours}", reason))

    def option(self, setting: str, value: Any, target: str, reason: str = "") -> None:
        """A setting became an option of a command."""
        self.outcomes.append(Outcome(setting, value, f"command: {target}", reason))

    def drop(self, setting: str, value: Any, reason: str) -> None:
        """A setting has no counterpart."""
        self.outcomes.append(Outcome(setting, value, "", reason))


def leaves(tree: Mapping[str, Any], whole: frozenset[str], path: str = "") -> Iterator[tuple[str, Any]]:
    """Settings of a tree by their paths; those that are named `whole`, and empty ones, are not looked into."""
    for name, value in tree.items():
        inner = f"{path}.{name}" if path else name
        if isinstance(value, dict) and value and inner not in whole:
            yield from leaves(value, whole, inner)
        else:
            yield inner, value


def number(setting: str, value: Any, low: float, high: float) -> float:
    """A finite number in a range. Raises SettingError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise SettingError(setting, f"a number from {low:g} to {high:g}", value)
    return value


def numbers(setting: str, value: Any, count: int) -> list[float]:
    """A list of so many numbers. Raises SettingError."""
    if not isinstance(value, list) or len(value) != count:
        raise SettingError(setting, f"a list of {count} numbers", value)
    return [number(setting, each, -1e6, 1e6) for each in value]


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    *outer, last = path.split(".")
    for name in outer:
        tree = tree.setdefault(name, {})
    tree[last] = value
