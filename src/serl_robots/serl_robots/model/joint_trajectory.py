# SPDX-License-Identifier: Apache-2.0
"""Joint trajectories as ros2_control's joint_trajectory_controller takes them, sampled linearly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class TrajectoryError(ValueError):
    """A joint trajectory that cannot be followed."""


class JointTrajectoryPlan:
    """Positions of the arm joints over time."""

    def __init__(self, times: Sequence[float], positions: Sequence[NDArray[np.float64]]) -> None:
        """Join positions, each float64 (n,) [rad], at growing times [s] by straight lines."""
        self._times = np.array(times)
        self._positions = np.array(positions)

    @classmethod
    def hold(cls, positions: NDArray[np.float64]) -> JointTrajectoryPlan:
        """Stay at `positions`, float64 (n,) [rad]."""
        return cls([0.0], [positions])

    @classmethod
    def from_message(
        cls,
        trajectory: Any,
        joints: Sequence[str],
        start: NDArray[np.float64],
        limits: NDArray[np.float64] | None = None,
    ) -> JointTrajectoryPlan:
        """Check a trajectory and put its joints in order.

        Args:
            trajectory: a trajectory_msgs/JointTrajectory; only positions and times are used.
            joints: the arm's joints.
            start: where they are at time 0, float64 (n,) [rad].
            limits: lowest and highest position of each, float64 (n, 2) [rad].

        Raises:
            TrajectoryError: joints are unknown or missing, a point has no position for each of them, a value is not
                finite or beyond the limits, or times do not grow.
        """
        names = list(trajectory.joint_names)
        if sorted(names) != sorted(joints):
            raise TrajectoryError(
                f"expected the joints {', '.join(joints)}, each once, found {', '.join(names) or 'none'}"
            )
        if not trajectory.points:
            raise TrajectoryError("expected at least one point, found none")
        order = [names.index(joint) for joint in joints]
        times, positions = [0.0], [start]
        for index, point in enumerate(trajectory.points):
            time = point.time_from_start.sec + 1e-9 * point.time_from_start.nanosec
            values = np.array(point.positions, dtype=np.float64)
            if values.shape != (len(joints),) or not np.isfinite(values).all():
                raise TrajectoryError(
                    f"point {index}: expected {len(joints)} finite positions, found {values.tolist()}"
                )
            if time < times[-1] or (index > 0 and time == times[-1]):
                raise TrajectoryError(f"point {index}: expected a time after {times[-1]:g} s, found {time:g} s")
            values = values[order]
            if limits is not None and ((values < limits[:, 0]) | (values > limits[:, 1])).any():
                raise TrajectoryError(
                    f"point {index}: expected positions from {limits[:, 0].round(2).tolist()} to "
                    f"{limits[:, 1].round(2).tolist()}, found {values.tolist()}"
                )
            times.append(time)
            positions.append(values)
        return cls(times, positions)

    def begun_from(self, positions: NDArray[np.float64]) -> JointTrajectoryPlan:
        """This way, from other positions at time 0, float64 (n,) [rad]."""
        return JointTrajectoryPlan(self._times.tolist(), [positions, *self._positions[1:]])

    @property
    def duration(self) -> float:
        """Time of the last point [s]."""
        return float(self._times[-1])

    @property
    def goal(self) -> NDArray[np.float64]:
        """Positions of the last point, float64 (n,) [rad]."""
        return self._positions[-1]

    def at(self, time: float) -> NDArray[np.float64]:
        """Positions at `time` [s], float64 (n,) [rad]; the goal once it is over."""
        times, positions = self._times, self._positions
        if time >= times[-1]:
            return positions[-1]
        after = int(np.searchsorted(times, time, side="right"))
        share = (time - times[after - 1]) / (times[after] - times[after - 1])
        return positions[after - 1] + share * (positions[after] - positions[after - 1])
