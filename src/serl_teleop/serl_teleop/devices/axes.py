# SPDX-License-Identifier: Apache-2.0
"""Which axis of a device moves which axis of the tool: dead band, order, sign and scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from serl_robots.control.action import ROTATION, TRANSLATION

from serl_teleop.devices.device import AXES

TOOL_AXES: Final = (*TRANSLATION, *ROTATION)
NONE: Final = "none"

Twist = tuple[float, float, float, float, float, float]


class MappingError(ValueError):
    """A mapping that cannot be meant so."""


def without_deadband(value: float, deadband: float) -> float:
    """Value of an axis in [-1, 1] beyond its dead band, scaled again: 1 stays 1, and nothing jumps at the edge."""
    beyond = abs(value) - deadband
    if beyond <= 0.0:
        return 0.0
    return min(beyond / (1.0 - deadband), 1.0) * (1.0 if value > 0.0 else -1.0)


@dataclass(frozen=True)
class AxisMapping:
    """Which axis of the device moves each of `dx dy dz rx ry rz`, and how far."""

    sources: tuple[int | None, ...]
    """Index in `AXES`, None where nothing moves it."""
    factors: tuple[float, ...]
    """Sign, times the share of a full action that full deflection asks for: in [-1, 1]."""
    deadband: float
    """Share of the deflection that counts as none, in [0, 1)."""

    @classmethod
    def parse(cls, axes: Sequence[str], scale: Sequence[float], deadband: float) -> AxisMapping:
        """Read a mapping as people write it.

        Args:
            axes: six names, for dx dy dz rx ry rz in this order: one of `AXES`, with or without a sign before it, or
                `none`.
            scale: six numbers in [0, 1].
            deadband: in [0, 1).

        Raises:
            MappingError: says which value, what was expected and what was found.
        """
        if len(axes) != len(TOOL_AXES):
            raise MappingError(f"axes: expected six names, for {' '.join(TOOL_AXES)}, found {list(axes)}")
        if len(scale) != len(TOOL_AXES) or not all(0.0 <= value <= 1.0 for value in scale):
            raise MappingError(f"scale: expected six numbers in [0, 1], found {list(scale)}")
        if not 0.0 <= deadband < 1.0:
            raise MappingError(f"deadband: expected a number in [0, 1), found {deadband}")
        sources: list[int | None] = []
        factors: list[float] = []
        for tool_axis, text, share in zip(TOOL_AXES, axes, scale, strict=True):
            name = text.strip().removeprefix("+").removeprefix("-")
            if name != NONE and name not in AXES:
                raise MappingError(f"axes: expected for {tool_axis} one of {' '.join(AXES)} or none, found {text!r}")
            sources.append(None if name == NONE else AXES.index(name))
            factors.append(-share if text.strip().startswith("-") else share)
        return cls(tuple(sources), tuple(factors), deadband)

    def apply(self, twist: Sequence[float]) -> Twist:
        """What the tool shall do, of dx dy dz rx ry rz in [-1, 1], when the device shows `twist` (6,) in [-1, 1]."""
        beyond = [without_deadband(value, self.deadband) for value in twist]
        a, b, c, d, e, f = (
            0.0 if source is None else factor * beyond[source]
            for source, factor in zip(self.sources, self.factors, strict=True)
        )
        return a, b, c, d, e, f

    def is_away(self, twist: Sequence[float]) -> bool:
        """Whether an axis that moves something is beyond the dead band."""
        return any(
            source is not None and factor != 0.0 and abs(twist[source]) > self.deadband
            for source, factor in zip(self.sources, self.factors, strict=True)
        )

    @property
    def lines(self) -> tuple[str, ...]:
        """The mapping for people, a line for each axis of the tool: `dx = +0.5 forward`."""
        return tuple(
            f"{tool_axis} = {factor:+g} {AXES[source]}"
            for tool_axis, source, factor in zip(TOOL_AXES, self.sources, self.factors, strict=True)
            if source is not None
        )
