# SPDX-License-Identifier: Apache-2.0
"""What a LeRobot robot's numbers mean for an arm of ours: which joint, in which unit, and how wide the gripper is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from serl_config.schema import Field, config
from serl_robots.model.robot import RobotModel

_UNITS: Final[Mapping[str, float]] = {"deg": math.pi / 180.0, "rad": 1.0}


class FeatureError(ValueError):
    """A robot has not the features that it should; one line with what was expected and found."""


@config(kw_only=True)
class JointMapSettings:
    """Names and units of a robot's features."""

    joints: tuple[str, ...] = Field(
        default=(), description="features of the arm's joints in our order; empty: JOINT.pos of each"
    )
    unit: Literal["deg", "rad"] = Field(default="deg", description="of these features")
    signs: tuple[Literal[-1, 1], ...] = Field(default=(), description="-1 where it turns the other way; empty: nowhere")
    zeros: tuple[float, ...] = Field(default=(), description="our positions where they are 0 [rad]; empty: 0")
    gripper: str = Field(default="gripper.pos", description="feature of the gripper")
    gripper_values: tuple[float, float] = Field(default=(0.0, 100.0), description="that feature, closed and open")
    gripper_positions: tuple[float, float] | None = Field(
        default=None,
        description="of our gripper at these: angles of its jaw [rad], or openings [m]; none: the ends of its range",
    )


class JointMap:
    """Translates between the features of a robot and our arm joints [rad] with an opening [m]."""

    def __init__(self, robot: RobotModel, settings: JointMapSettings) -> None:
        """Translate for the arm `robot`.

        Raises:
            FeatureError: the settings are of another number of joints, or a gripper that has no range.
        """
        self.joints = settings.joints or tuple(f"{name}.pos" for name in robot.arm_joints)
        """Features of the joints, in the order of our arm."""
        self.gripper = settings.gripper
        """Feature of the gripper."""
        count = len(robot.arm_joints)
        for key, values in (("joints", self.joints), ("signs", settings.signs), ("zeros", settings.zeros)):
            if values and len(values) != count:
                raise FeatureError(f"{key}: expected {count}, as {robot.name!r} has joints, found {len(values)}")
        self._scale = _UNITS[settings.unit] * np.array(settings.signs or [1] * count, dtype=np.float64)
        self._zeros = np.array(settings.zeros or [0.0] * count)
        gripper = robot.gripper
        self._jaw = gripper.jaw
        ends = settings.gripper_positions
        if ends is None:
            ends = (gripper.min_width, gripper.max_width)
            ends = ends if self._jaw is None else (self._jaw.angle(ends[0]), self._jaw.angle(ends[1]))
        (self._closed, self._open), (self._low, self._high) = settings.gripper_values, ends
        if self._closed == self._open or self._low == self._high:
            raise FeatureError(
                f"gripper_values, gripper_positions: expected two that differ, found {settings.gripper_values}, {ends}"
            )

    @property
    def features(self) -> tuple[str, ...]:
        """All features that it knows: the joints', then the gripper's."""
        return (*self.joints, self.gripper)

    def check(self, features: Mapping[str, Any], who: str) -> None:
        """Refuse a robot whose actions or observations, pictures aside, are others; `who` names it and them.

        Raises:
            FeatureError: some are missing, or it wants more.
        """
        numbers = {name for name, kind in features.items() if not isinstance(kind, tuple)}
        missing, more = [n for n in self.features if n not in numbers], sorted(numbers - set(self.features))
        if missing or more:
            found = ", ".join(sorted(numbers)) or "none"
            raise FeatureError(
                f"{who}: expected the numbers {', '.join(self.features)}, found {found}; say in joints and gripper "
                "which is which"
            )

    def ours(self, values: Mapping[str, Any]) -> tuple[NDArray[np.float64], float]:
        """Joint positions (n,) [rad] and opening [m] of what a robot tells.

        Raises:
            FeatureError: a value is missing or no finite number.
        """
        try:
            joints = np.array([float(values[name]) for name in self.joints])
            share = (float(values[self.gripper]) - self._closed) / (self._open - self._closed)
        except (KeyError, TypeError, ValueError) as error:
            raise FeatureError(
                f"expected the numbers {', '.join(self.features)}, found {[*values]} ({error})"
            ) from error
        if not (np.isfinite(joints).all() and math.isfinite(share)):
            raise FeatureError(f"expected finite numbers, found {joints.tolist()} and {share} of the gripper's range")
        position = self._low + share * (self._high - self._low)
        return self._zeros + self._scale * joints, position if self._jaw is None else self._jaw.width(position)

    def theirs(self, positions: NDArray[np.float64], width: float) -> dict[str, float]:
        """The action of a robot that goes to joint positions (n,) [rad] and an opening [m]."""
        joints = (positions - self._zeros) / self._scale
        position = width if self._jaw is None else self._jaw.angle(width)
        share = (position - self._low) / (self._high - self._low)
        opening = self._closed + share * (self._open - self._closed)
        return {**dict(zip(self.joints, joints.tolist(), strict=True)), self.gripper: opening}
