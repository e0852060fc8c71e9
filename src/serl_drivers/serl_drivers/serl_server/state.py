# SPDX-License-Identifier: Apache-2.0
"""What the robot server says of its arm, and whether that is still what the arm says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from serl_config.text import shown
from serl_robots.model.pose import Pose, PoseError

JOINTS: Final = 7
_LARGEST: Final = 1e6


class StateError(ValueError):
    """An answer that is no state. The message is one line."""


@dataclass(frozen=True)
class ServerState:
    """Answer of `/getstate`."""

    positions: NDArray[np.float64]
    """float64[7] of the joints [rad]."""
    velocities: NDArray[np.float64]
    """float64[7] [rad/s]."""
    force: NDArray[np.float64]
    """float64[3] that acts on the tool, in its stiffness frame [N]."""
    torque: NDArray[np.float64]
    """float64[3] [N m]."""
    tool: Pose
    """Pose of the end effector that Franka's Desk knows (`O_T_EE`), in the frame of the base."""
    gripper: float | None
    """Position as the server says it, see `GripperDialect`; None where it has no gripper."""


def read_state(answer: Mapping[str, Any]) -> ServerState:
    """The state that an answer is.

    Raises:
        StateError: a value is missing, of another length, or no number.
    """
    pose = _numbers(answer, "pose", 7)
    try:
        tool = Pose(pose[:3], pose[3:])
    except PoseError as error:
        raise StateError(f"pose: {error}") from error
    return ServerState(
        positions=_numbers(answer, "q", JOINTS),
        velocities=_numbers(answer, "dq", JOINTS),
        force=_numbers(answer, "force", 3),
        torque=_numbers(answer, "torque", 3),
        tool=tool,
        gripper=_number("gripper_pos", answer["gripper_pos"]) if "gripper_pos" in answer else None,
    )


class Freshness:
    """Whether states are measured still.

    The server answers the last state that ROS brought it, for ever and without a time, also when the robot is switched
    off or `franka_control` is dead. Sensors have noise: a measured state never is the same to the last digit twice.
    """

    def __init__(self, patience: float) -> None:
        """Begin.

        Args:
            patience: time for which the same digits are believed [s].
        """
        self._patience = patience
        self._digits: bytes | None = None
        self._since = 0.0

    def age(self, state: ServerState, now: float) -> float:
        """Time since a state has differed from the one before [s].

        Args:
            state: the newest.
            now: monotonic time [s].
        """
        values = (state.positions, state.velocities, state.force, state.torque)
        digits = b"".join(each.tobytes() for each in values)
        if digits != self._digits:
            self._digits, self._since = digits, now
        return now - self._since

    def stale(self, state: ServerState, now: float) -> bool:
        """Whether nothing is measured any longer; arguments as of `age`."""
        return self.age(state, now) > self._patience


def _numbers(answer: Mapping[str, Any], key: str, count: int) -> NDArray[np.float64]:
    values = answer.get(key)
    if not isinstance(values, list) or len(values) != count:
        found = f"{len(values)} values" if isinstance(values, list) else shown(values)
        raise StateError(f"{key}: expected {count} numbers, found {found}")
    return np.array([_number(key, value) for value in values])


def _number(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:  # NaN neither
        raise StateError(f"{key}: expected a number, found {shown(value)}")
    return float(value)
