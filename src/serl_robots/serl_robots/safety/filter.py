# SPDX-License-Identifier: Apache-2.0
"""The face of a safety filter, whatever it limits: tool poses (`ToolFilter`) or joint positions (`JointFilter`).

A filter is a discrete system. Its state is the last commanded target with the velocity that led to it, and every call
of `limit` or `brake` is one control period. What it commands keeps every limit, and leaves a way to brake that keeps
them too. So once a state is safe every later one is, for any sequence of desires.

The induction needs an unbroken history: `reset` begins it, at rest, and is for an arm whose commanded past is void. In
mid-motion nothing resets: who stops, or leads from somewhere else, does so by further steps, which take the velocity
over. The limits are meant for each control period; who calls gives commands no more often.
"""

from abc import ABC, abstractmethod
from typing import Generic, NamedTuple, TypeVar

from serl_robots.safety.gripper_filter import GripperFilter
from serl_robots.safety.limits import SafetyLimits

Target = TypeVar("Target")


class Limited(NamedTuple, Generic[Target]):
    """What one step of a filter commands."""

    target: Target
    gripper_width: float  # [m]
    limits: tuple[str, ...]  # that acted, empty when the desire is commanded as it is


class SafetyFilter(ABC, Generic[Target]):
    """Turns desired targets into ones that keep `limits`, one control `period` [s] a step.

    Attributes:
        limits: what a commanded motion may do.
        period: of control [s].
        gripper: filter of the width, which filters of one arm share.
    """

    limits: SafetyLimits
    period: float
    gripper: GripperFilter

    @property
    @abstractmethod
    def target(self) -> Target:
        """Last commanded target."""

    @property
    def gripper_width(self) -> float:
        """Last commanded width [m]."""
        return self.gripper.width

    @property
    @abstractmethod
    def at_rest(self) -> bool:
        """Whether the last step stood still."""

    @property
    @abstractmethod
    def braking_periods(self) -> int:
        """Periods in which the arm still moves when it brakes from now on; 0: the next one stands still."""

    @abstractmethod
    def limit(self, desired: Target, gripper_width: float) -> Limited[Target]:
        """Commands the desired target and width [m], or as much of them as the limits allow.

        Values that are not finite are no desire: that part brakes, and `finite` is named.

        Raises:
            RuntimeError: `reset` was not called.
        """

    @abstractmethod
    def brake(self) -> None:
        """One step of braking: allowed in every state, and the nearest way to rest.

        The gripper keeps its command, except that a width that began outside its limits goes inside.

        Raises:
            RuntimeError: `reset` was not called.
        """

    @abstractmethod
    def stand(self) -> None:
        """The target has been standing for longer than anybody called: nothing is left to be braked."""
