# SPDX-License-Identifier: Apache-2.0
"""Meaning of a normalized action: named components in [-1, 1] and their scale."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from serl_config.schema import Field, config, model_validator

TRANSLATION = ("dx", "dy", "dz")
ROTATION = ("rx", "ry", "rz")
GRIPPER = "gripper"

# What float32 arithmetic may add to a bound that was meant to be 1.
_TOLERANCE = 1e-5


class ActionError(ValueError):
    """An action that does not fit the task's action space."""


@config
class ActionSpec:
    """Components of an action vector and what a value of 1 means.

    `dx dy dz` [m] and `rx ry rz` [rad, a rotation vector] are deltas of the commanded tool pose in the base frame, all
    three of a group or none. `gripper` is an absolute width: -1 is closed (0 m), +1 is its scale [m], linear between.
    """

    names: tuple[str, ...] = Field(description="components in order: dx dy dz, rx ry rz, gripper")
    scale: tuple[float, ...] = Field(description="for each component what 1 means: [m], [rad], width [m]")

    @model_validator(mode="after")
    def _consistent(self) -> "ActionSpec":
        known = (*TRANSLATION, *ROTATION, GRIPPER)
        unknown = [name for name in self.names if name not in known]
        if unknown or len(set(self.names)) != len(self.names) or not self.names:
            raise ValueError(f"names: expected some of {' '.join(known)}, each once, found {' '.join(self.names)!r}")
        for group in (TRANSLATION, ROTATION):
            if 0 < sum(name in self.names for name in group) < 3:
                raise ValueError(f"names: expected all of {' '.join(group)} or none, found {' '.join(self.names)!r}")
        if len(self.scale) != len(self.names) or not all(value > 0.0 for value in self.scale):
            raise ValueError(f"scale: expected {len(self.names)} positive numbers, found {list(self.scale)}")
        return self

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def translation(self) -> tuple[tuple[int, float], ...]:
        """(index, scale) of dx, dy, dz; empty when the action has none."""
        return self._group(TRANSLATION)

    @cached_property
    def rotation(self) -> tuple[tuple[int, float], ...]:
        """(index, scale) of rx, ry, rz; empty when the action has none."""
        return self._group(ROTATION)

    @cached_property
    def gripper(self) -> tuple[int, float] | None:
        """(index, scale) of the gripper, if the action has one."""
        group = self._group((GRIPPER,))
        return group[0] if group else None

    def _group(self, names: Sequence[str]) -> tuple[tuple[int, float], ...]:
        return tuple((self.names.index(n), self.scale[self.names.index(n)]) for n in names if n in self.names)

    def rest(self, gripper_width: float) -> NDArray[np.float32]:
        """The action that changes nothing, float32[n], while `gripper_width` [m] is commanded (it is absolute)."""
        action = np.zeros(len(self), np.float32)
        if self.gripper is not None:
            index, full = self.gripper
            action[index] = min(max(2.0 * gripper_width / full - 1.0, -1.0), 1.0)
        return action

    def problem(self, action: Sequence[float]) -> str | None:
        """Why these numbers are no action (length, not finite, outside [-1, 1]), or None."""
        if len(action) != len(self.names):
            return f"expected {len(self.names)} values ({' '.join(self.names)}), found {len(action)}"
        for name, value in zip(self.names, action, strict=True):
            if not abs(value) <= 1.0 + _TOLERANCE:
                return f"expected {name} in [-1, 1], found {value}"
        return None

    def check(self, action: Any) -> NDArray[np.float32]:
        """The action as float32[n], clipped by what rounding may have added.

        Raises:
            ActionError: wrong shape, not finite, or outside [-1, 1].
        """
        array = np.asarray(action, dtype=np.float32)
        if array.ndim != 1:
            raise ActionError(f"expected a vector of {len(self)} values, found shape {array.shape}")
        problem = self.problem(array.tolist())
        if problem is not None:
            raise ActionError(problem)
        return np.clip(array, np.float32(-1.0), np.float32(1.0))
