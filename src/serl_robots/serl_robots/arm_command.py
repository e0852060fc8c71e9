# SPDX-License-Identifier: Apache-2.0
"""From a normalized action to the tool pose that is commanded.

The arm controller node and the Gymnasium environments command through the same `CommandIntegrator`, so the same actions
from the same measured pose give the same targets bit for bit.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serl_robots.action import ActionError, ActionSpec
from serl_robots.pose import Pose, Quaternion, Vector3, quaternion_exp, quaternion_log, quaternion_multiply
from serl_robots.safety import SafetyFilter, SafetyLimits
from serl_robots.tracking import TrackingMonitor


class CommandResult(NamedTuple):
    """What one control step commands."""

    target: Pose
    gripper_width: float  # [m]
    executed: NDArray[np.float32]  # the normalized action that the target amounts to, float32[n] in [-1, 1]
    limits: tuple[str, ...]  # names of the limits that acted


class CommandIntegrator:
    """Adds each action to the last commanded pose and passes it through the safety filter.

    The first step after `reset` or `resync` starts from the measured pose at rest, each later one from the last
    commanded pose.
    """

    def __init__(self, action: ActionSpec, limits: SafetyLimits, period: float) -> None:
        self.action = action
        self.filter = SafetyFilter(limits, period)
        self._tracking = TrackingMonitor(limits)
        self._target: Pose | None = None
        self._was_stuck = False

    @property
    def target(self) -> Pose:
        """Last commanded pose. Raises RuntimeError before the first `reset`."""
        if self._target is None:
            raise RuntimeError("call reset() with the measured pose first")
        return self._target

    @property
    def gripper_width(self) -> float:
        """Last commanded width [m]."""
        return self.filter.gripper_width

    def reset(self, measured: Pose, gripper_width: float) -> None:
        """Starts anew at the measured pose and gripper width [m], at rest."""
        self.filter.reset(measured, gripper_width)
        self._target = measured
        self._tracking.clear()
        self._was_stuck = False

    def resync(self, measured: Pose) -> None:
        """Sets the commanded pose back to the measured one, at rest. The gripper keeps its command, and its grip."""
        self.reset(measured, self.filter.gripper_width)

    def observe(self, measured: Pose, elapsed: float) -> bool:
        """Call with every newly measured pose, `elapsed` [s] after the one before.

        Returns:
            True when the tool has not followed for too long: the commanded pose is the measured one again, and the next
            result names `tracking_error`.
        """
        if not self._tracking.update(self.target, measured, elapsed):
            return False
        self.resync(measured)
        self._was_stuck = True
        return True

    def step(self, action: ArrayLike) -> CommandResult:
        """One control step of a normalized action, any float[n]; used as float32.

        Values outside [-1, 1] are clipped (`action` is named); values that are not finite brake (`finite`).

        Raises:
            ActionError: wrong length.
        """
        wanted = np.asarray(action, dtype=np.float32)
        if wanted.shape != (len(self.action),):
            raise ActionError(f"expected an action of shape ({len(self.action)},), found {wanted.shape}")
        values = wanted.tolist()
        clipped = False
        if min(values) < -1.0 or max(values) > 1.0:
            wanted = np.clip(wanted, np.float32(-1.0), np.float32(1.0))
            values = wanted.tolist()
            clipped = True
        position, quaternion = self.filter.position, self.filter.quaternion
        width = self.filter.gripper_width
        spec = self.action
        if spec.translation:
            (ix, sx), (iy, sy), (iz, sz) = spec.translation
            x, y, z = position
            position = (x + values[ix] * sx, y + values[iy] * sy, z + values[iz] * sz)
        if spec.rotation:
            (ix, sx), (iy, sy), (iz, sz) = spec.rotation
            turn = quaternion_exp((values[ix] * sx, values[iy] * sy, values[iz] * sz))
            quaternion = quaternion_multiply(turn, quaternion)
        if spec.gripper is not None:
            index, full = spec.gripper
            width = 0.5 * (values[index] + 1.0) * full
        result = self.move(position, quaternion, width, wanted)
        return result._replace(limits=("action", *result.limits)) if clipped else result

    def move(
        self, position: Vector3, quaternion: Quaternion, width: float, action: NDArray[np.float32] | None = None
    ) -> CommandResult:
        """One control step towards a desired pose. `action` is the action it stands for, if any.

        What the filter lets through unchanged is reported as exactly that action, so rounding adds no noise to it.
        """
        start, start_quaternion = self.filter.position, self.filter.quaternion
        filtered = self.filter.step(position, quaternion, width)
        if action is not None and not filtered.limits:
            executed = action
        else:
            executed = self._executed(
                start, start_quaternion, filtered.position, filtered.quaternion, filtered.gripper_width
            )
        limits = filtered.limits
        if self._was_stuck:
            limits = ("tracking_error", *limits)
            self._was_stuck = False
        self._target = Pose.trusted(filtered.position, filtered.quaternion)
        return CommandResult(self._target, filtered.gripper_width, executed, limits)

    def action_between(self, start: Pose, end: Pose, gripper_width: float) -> NDArray[np.float32]:
        """The normalized action, float32[n] in [-1, 1], that a motion from `start` to `end` amounts to."""
        sx, sy, sz = start.position.tolist()
        ex, ey, ez = end.position.tolist()
        s1, s2, s3, s4 = start.quaternion.tolist()
        e1, e2, e3, e4 = end.quaternion.tolist()
        return self._executed((sx, sy, sz), (s1, s2, s3, s4), (ex, ey, ez), (e1, e2, e3, e4), gripper_width)

    def _executed(
        self, start: Vector3, start_quaternion: Quaternion, end: Vector3, end_quaternion: Quaternion, width: float
    ) -> NDArray[np.float32]:
        spec = self.action
        values = [0.0] * len(spec)
        for (index, scale), before, after in zip(spec.translation, start, end, strict=False):
            values[index] = (after - before) / scale
        if spec.rotation:
            x, y, z, w = start_quaternion
            turn = quaternion_log(quaternion_multiply(end_quaternion, (-x, -y, -z, w)))
            for (index, scale), component in zip(spec.rotation, turn, strict=True):
                values[index] = component / scale
        if spec.gripper is not None:
            index, full = spec.gripper
            values[index] = 2.0 * width / full - 1.0
        return np.array([min(max(value, -1.0), 1.0) for value in values], dtype=np.float32)
