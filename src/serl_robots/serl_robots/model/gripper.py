# SPDX-License-Identifier: Apache-2.0
"""From the joints of a gripper to the opening width between its fingers, and back.

Everything above commands and measures one number, the width [m]. What that is for a joint is said here alone.
"""

from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

from serl_config.schema import Field, config, model_validator


@config(kw_only=True)
class JawMap:
    """Opening width of a rotary jaw over the angle of its hinge: straight lines between measured points.

    Beyond its ends the first and the last line go on, so that a jaw which is measured a little past a stop has a width.
    """

    angles: tuple[float, ...] = Field(min_length=2, description="of the hinge, growing [rad]")
    widths: tuple[float, ...] = Field(description="opening at these angles, growing or falling all the way [m]")
    fixed_side: float | None = Field(
        default=None,
        gt=0.0,
        description="distance of the tool centre point from the jaw that stays [m]; none: half of the opening",
    )

    @model_validator(mode="after")
    def _is_monotone(self) -> "JawMap":
        if len(self.widths) != len(self.angles):
            raise ValueError(f"widths: expected one for each of {len(self.angles)} angles, found {len(self.widths)}")
        if not all(before < after for before, after in pairwise(self.angles)):
            raise ValueError(f"angles: expected growing values, found {list(self.angles)}")
        falls = self.widths[-1] < self.widths[0]
        steps = [(before - after if falls else after - before) for before, after in pairwise(self.widths)]
        if not all(step > 0.0 for step in steps):
            raise ValueError(
                f"widths: expected values that grow, or that fall, all the way (else a width has two angles), found "
                f"{list(self.widths)}"
            )
        return self

    @cached_property
    def _by_width(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Widths in growing order, and the angle at each."""
        falls = self.widths[-1] < self.widths[0]
        return (self.widths[::-1], self.angles[::-1]) if falls else (self.widths, self.angles)

    def width(self, angle: float) -> float:
        """Opening width [m] at an angle [rad]."""
        return _on_the_lines(angle, self.angles, self.widths)

    def angle(self, width: float) -> float:
        """Angle [rad] at an opening width [m]."""
        return _on_the_lines(width, *self._by_width)

    def slope(self, angle: float) -> float:
        """Change of the width with the angle [m/rad]; negative where the jaw closes as the angle grows."""
        index = _line_of(angle, self.angles)
        (a, b), (low, high) = self.angles[index : index + 2], self.widths[index : index + 2]
        return (high - low) / (b - a)


@config(kw_only=True)
class Gripper:
    """A gripper that is commanded by its opening width: two or more parallel fingers, or one rotary jaw.

    Parallel: the positions of `joints` [m] add up to the width. Rotary: `jaw` is given, and the one joint is a hinge.
    """

    joints: tuple[str, ...] = Field(min_length=1, description="finger joints, or the one hinge of a rotary jaw")
    min_width: float = Field(ge=0.0, le=1.0, description="narrowest opening that may be commanded [m]")
    max_width: float = Field(gt=0.0, le=1.0, description="widest opening that may be commanded [m]")
    jaw: JawMap | None = Field(default=None, description="of a rotary jaw: its widths over its angles")

    @model_validator(mode="after")
    def _consistent(self) -> "Gripper":
        if not self.min_width < self.max_width:
            raise ValueError(f"expected min_width below max_width, found {self.min_width} and {self.max_width}")
        if self.jaw is not None:
            if len(self.joints) != 1:
                raise ValueError(f"joints: expected one hinge beside 'jaw', found {', '.join(self.joints)}")
            low, high = min(self.jaw.widths), max(self.jaw.widths)
            if not low <= self.min_width < self.max_width <= high:
                raise ValueError(
                    f"expected min_width and max_width within the {low} to {high} m that 'jaw' tells the angles of, "
                    f"found {self.min_width} and {self.max_width}"
                )
        return self

    def width(self, positions: Sequence[float]) -> float:
        """Opening width [m] at the positions of `joints`, in their order: [m] each, or one angle [rad]."""
        if self.jaw is not None:
            return self.jaw.width(positions[0])
        width = 0.0
        for position in positions:
            width += position
        return width

    def position(self, width: float) -> float:
        """Position of each joint, [m] or [rad], at an opening width [m]."""
        return self.jaw.angle(width) if self.jaw is not None else width / len(self.joints)

    def finger_speed(self, positions: Sequence[float], velocities: Sequence[float]) -> float:
        """Speed of the fastest finger [m/s], from positions and velocities of `joints` in their units."""
        if self.jaw is not None:
            return abs(self.jaw.slope(positions[0]) * velocities[0])
        return max(map(abs, velocities))

    def middle(self, width: float) -> float:
        """Where on the tool's y axis the middle between the fingers is that are `width` [m] apart [m].

        At the tool centre point, 0, but where one jaw stays: then it comes nearer to that jaw as the other one closes.
        """
        fixed = None if self.jaw is None else self.jaw.fixed_side
        return 0.0 if fixed is None else 0.5 * width - fixed

    def room(self, width: float, held: float, side: float = 0.0) -> float:
        """Room [m] on the narrower side of what lies between the fingers.

        Args:
            width: to which the gripper is open [m].
            held: width of what lies there [m].
            side: where on the tool's y axis its middle is [m].
        """
        return 0.5 * width - 0.5 * held - abs(side - self.middle(width))

    def within(self, width: float) -> float:
        """The width [m] nearest to `width` that may be commanded."""
        return min(max(width, self.min_width), self.max_width)


def _line_of(x: float, xs: Sequence[float]) -> int:
    """Index of the first point of the line on which `x` lies; beyond the ends the outermost line."""
    return min(max(bisect_right(xs, x) - 1, 0), len(xs) - 2)


def _on_the_lines(x: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    index = _line_of(x, xs)
    share = (x - xs[index]) / (xs[index + 1] - xs[index])
    return ys[index] + share * (ys[index + 1] - ys[index])
