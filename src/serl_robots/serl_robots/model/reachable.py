# SPDX-License-Identifier: Apache-2.0
"""Which orientation an arm of few joints can give its tool at a place.

A tool has six degrees of freedom. An arm with five joints gets it to a place, but there only into some orientations:
whoever pulls it towards another one pulls it off its place as well. So the place comes first.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose

FREE_TOOL: Final = 6
"""Joints from which on an arm can turn its tool freely at a place."""

_ITERATIONS: Final = 30
_LONGEST_STEP: Final = 0.3  # [rad]
_DONE: Final = 1e-7  # [rad]
_PLACE_DAMPING: Final = 1e-8  # [m^2]
_TURN_DAMPING: Final = 1e-5  # [rad^2]


class ReachableOrientation:
    """Finds the orientation nearest to a desired one that the tool can have where it shall be, within joint limits.

    Inverse kinematics with two priorities: the orientation moves the joints only where they do not move the tool
    (Nakamura, Hanafusa, Yoshikawa, "Task-priority based redundancy control of robot manipulators", IJRR 6(2), 1987), by
    damped least squares; a joint at its limit takes no part in it.
    """

    def __init__(self, kinematics: Kinematics) -> None:
        """Search for the arm of `kinematics`."""
        self._kinematics = kinematics

    def nearest(self, desired: Pose, start: NDArray[np.float64]) -> Pose:
        """The desired pose with the nearest orientation that can be reached there, base frame.

        Args:
            desired: pose of the tool. Where it is out of reach, the orientation is one at a place near it.
            start: joint positions (n,) [rad] from which it is searched: those that are measured.
        """
        kinematics = self._kinematics
        q = np.clip(start, kinematics.lower, kinematics.upper)
        for _ in range(_ITERATIONS):
            step = self._step(q, desired)
            q = np.clip(q + step, kinematics.lower, kinematics.upper)
            if np.abs(step).max() < _DONE:
                break
        return Pose(desired.position, kinematics.tcp(q).quaternion)

    def _step(self, q: NDArray[np.float64], desired: Pose) -> NDArray[np.float64]:
        kinematics = self._kinematics
        tcp, jacobian = kinematics.tcp(q), kinematics.jacobian(q)
        error = np.concatenate([desired.position - tcp.position, tcp.rotation_vector_to(desired)])
        lowest, highest = kinematics.lower - q, kinematics.upper - q
        step, free = np.zeros(len(q)), np.ones(len(q), dtype=bool)
        for _ in q:
            step[free] = _prioritized(jacobian[:, free], error - jacobian[:, ~free] @ step[~free])
            step[free] *= min(1.0, _LONGEST_STEP / max(float(np.abs(step[free]).max()), _DONE))
            beyond = free & ((step < lowest) | (step > highest))
            step = np.clip(step, lowest, highest)
            free &= ~beyond
            if not beyond.any() or not free.any():
                break
        return step


def _prioritized(jacobian: NDArray[np.float64], error: NDArray[np.float64]) -> NDArray[np.float64]:
    """Joint step (n,) that takes away the error of the place (3,), and what it can of that of the orientation (3,)."""
    place, turn = jacobian[:3], jacobian[3:]
    inverse = place.T @ np.linalg.inv(place @ place.T + _PLACE_DAMPING * np.eye(3))
    step = inverse @ error[:3]
    aside = np.eye(jacobian.shape[1]) - inverse @ place
    left = turn @ aside
    weights = np.linalg.solve(left @ left.T + _TURN_DAMPING * np.eye(3), error[3:] - turn @ step)
    result: NDArray[np.float64] = step + aside @ (left.T @ weights)
    return result
