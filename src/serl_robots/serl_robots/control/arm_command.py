# SPDX-License-Identifier: Apache-2.0
"""From a normalized action to the tool pose that is commanded.

The arm controller node and the Gymnasium environments command through the same `CommandIntegrator`, so the same actions
from the same measured pose give the same targets bit for bit.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serl_robots.control.action import ActionError, ActionSpec
from serl_robots.model.pose import (
    Pose,
    Quaternion,
    Vector3,
    between,
    quaternion_exp,
    quaternion_log,
    quaternion_multiply,
    scaled,
)
from serl_robots.safety.braking import stoppable_speed
from serl_robots.safety.filter import SafetyFilter, SafetyLimits
from serl_robots.safety.tracking import TrackingMonitor

_THERE: Final = 1e-9  # [m, rad] that are no distance


class CommandResult(NamedTuple):
    """What one control step commands."""

    target: Pose
    gripper_width: float  # [m]
    executed: NDArray[np.float32]  # the normalized action that the target amounts to, float32[n] in [-1, 1]
    limits: tuple[str, ...]  # names of the limits that acted


class CommandIntegrator:
    """Adds each action to the last commanded pose and passes it through the safety filter.

    After `reset` the sum starts at the measured pose, at rest. After `resync` it starts at the measured pose too, but
    the commanded pose gets there from where it is, with the velocity it has, within the limits: at once if they allow
    it, else over several steps, in which the actions count as ever.
    """

    def __init__(self, action: ActionSpec, limits: SafetyLimits, period: float) -> None:
        self.action = action
        self.filter = SafetyFilter(limits, period)
        self._tracking = TrackingMonitor(limits)
        self._target: Pose | None = None
        self._was_stuck = False
        self._sum: tuple[Vector3, Quaternion] | None = None  # where the sum is while the commanded pose is elsewhere

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
        """Starts anew at the measured pose and gripper width [m], at rest: what was commanded before is void."""
        self.filter.reset(measured, gripper_width)
        self._target = measured
        self._sum = None
        self._tracking.clear()
        self._was_stuck = False

    def resync(self, measured: Pose) -> None:
        """Lets the sum go on from the measured pose. The gripper keeps its command, and its grip."""
        self._sum = _plain(measured)
        self._tracking.clear()
        self._was_stuck = False

    def observe(self, measured: Pose, elapsed: float) -> bool:
        """Call with every newly measured pose, `elapsed` [s] after the one before.

        Returns:
            True when the tool has not followed for too long: the sum goes on from the measured pose, and the next
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
        width = self.filter.gripper_width
        if self.action.gripper is not None:
            index, full = self.action.gripper
            width = 0.5 * (values[index] + 1.0) * full
        before, start = (self.filter.position, self.filter.quaternion), self._sum
        if start is None:
            result = self.move(*self._added(values, *before), width, wanted)
        else:
            way = self._on_the_way(start)
            exact = wanted if way == start else None
            result = self.move(*self._added(values, *way), width, exact, start)
            self._sum = self._rest_of_the_way(start, before, self._added(values, *start))
        return result._replace(limits=("action", *result.limits)) if clipped else result

    def _added(self, values: list[float], position: Vector3, quaternion: Quaternion) -> tuple[Vector3, Quaternion]:
        """The pose that an action leads to from the given one."""
        spec = self.action
        if spec.translation:
            (ix, sx), (iy, sy), (iz, sz) = spec.translation
            x, y, z = position
            position = (x + values[ix] * sx, y + values[iy] * sy, z + values[iz] * sz)
        if spec.rotation:
            (ix, sx), (iy, sy), (iz, sz) = spec.rotation
            turn = quaternion_exp((values[ix] * sx, values[iy] * sy, values[iz] * sz))
            quaternion = quaternion_multiply(turn, quaternion)
        return position, quaternion

    def approach(self, goal: Pose) -> CommandResult:
        """One control step towards a pose, no faster than the tool can still stop there; the gripper keeps its command.

        Nobody's action: reported as the one that it amounts to.
        """
        return self.move(*self._on_the_way(_plain(goal)), self.filter.gripper_width)

    def brake(self) -> CommandResult:
        """One control step of braking, nobody's action: reported as the one that it amounts to."""
        start, start_quaternion = self.filter.position, self.filter.quaternion
        self.filter.brake()
        self._sum = None
        self._target = Pose.trusted(self.filter.position, self.filter.quaternion)
        width = self.filter.gripper_width
        executed = self._executed(start, start_quaternion, self.filter.position, self.filter.quaternion, width)
        return CommandResult(self._target, width, executed, ())

    def follow(self, target: Pose) -> CommandResult:
        """One control step that was commanded in joint space, at whose end the tool is at `target`."""
        start, start_quaternion = self.filter.position, self.filter.quaternion
        self.filter.follow(*_plain(target))
        self._sum, self._target = None, target
        width = self.filter.gripper_width
        executed = self._executed(start, start_quaternion, self.filter.position, self.filter.quaternion, width)
        return CommandResult(target, width, executed, ())

    def _on_the_way(self, goal: tuple[Vector3, Quaternion]) -> tuple[Vector3, Quaternion]:
        """The next pose on the way from the commanded pose to `goal` from which the tool can still stop there."""
        safety = self.filter
        position, quaternion = goal
        length = math.dist(safety.position, position)
        share = _stoppable_share(length, safety.deceleration, safety.period)
        if share < 1.0:
            position = between(safety.position, position, share)
        turn = _turn_between(safety.quaternion, quaternion)
        share = _stoppable_share(math.hypot(*turn), safety.limits.max_angular_acceleration, safety.period)
        if share < 1.0:
            quaternion = quaternion_multiply(quaternion_exp(scaled(turn, share)), safety.quaternion)
        return position, quaternion

    def _rest_of_the_way(
        self,
        start: tuple[Vector3, Quaternion],
        before: tuple[Vector3, Quaternion],
        wanted: tuple[Vector3, Quaternion],
    ) -> tuple[Vector3, Quaternion] | None:
        """Where the sum is after a step that led it from `start` to `wanted`; None once the commanded pose is there.

        It runs no further ahead than it was: what the limits refuse of an action is not made up for.
        """
        position, quaternion = self.filter.position, self.filter.quaternion
        allowed = max(math.dist(before[0], start[0]), math.dist(position, start[0]))
        gap = math.dist(position, wanted[0])
        goal = wanted[0] if gap <= allowed else between(position, wanted[0], allowed / gap)
        allowed = max(_angle(before[1], start[1]), _angle(quaternion, start[1]))
        turn = _turn_between(quaternion, wanted[1])
        angle = math.hypot(*turn)
        orientation = wanted[1]
        if angle > allowed:
            orientation = quaternion_multiply(quaternion_exp(scaled(turn, allowed / angle)), quaternion)
        return None if gap <= _THERE and angle <= _THERE else (goal, orientation)

    def move(
        self,
        position: Vector3,
        quaternion: Quaternion,
        width: float,
        action: NDArray[np.float32] | None = None,
        start: tuple[Vector3, Quaternion] | None = None,
    ) -> CommandResult:
        """One control step towards a desired pose.

        Args:
            position: of the tool [m].
            quaternion: xyzw.
            width: of the gripper [m].
            action: that it stands for, if any. What the filter lets through unchanged is reported as exactly that
                action, so rounding adds no noise to it.
            start: pose from which the step is reported as an action; the last commanded one by default.
        """
        before = (self.filter.position, self.filter.quaternion) if start is None else start
        filtered = self.filter.step(position, quaternion, width)
        after = filtered.position, filtered.quaternion
        if action is not None and not filtered.limits:
            executed = action
        else:
            executed = self._executed(*before, *after, filtered.gripper_width)
        limits = filtered.limits
        if self._was_stuck:
            limits = ("tracking_error", *limits)
            self._was_stuck = False
        self._sum = None
        self._target = Pose.trusted(filtered.position, filtered.quaternion)
        return CommandResult(self._target, filtered.gripper_width, executed, limits)

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


def _plain(pose: Pose) -> tuple[Vector3, Quaternion]:
    px, py, pz = pose.position.tolist()
    qx, qy, qz, qw = pose.quaternion.tolist()
    return (px, py, pz), (qx, qy, qz, qw)


def _turn_between(start: Quaternion, end: Quaternion) -> Vector3:
    """Rotation vector [rad] that turns `start` into `end`."""
    x, y, z, w = start
    return quaternion_log(quaternion_multiply(end, (-x, -y, -z, w)))


def _angle(a: Quaternion, b: Quaternion) -> float:
    return math.hypot(*_turn_between(a, b))


def _stoppable_share(distance: float, deceleration: float, period: float) -> float:
    """Share of a way [m or rad] that may be gone in one period, so that braking ends at its end; 1: all of it."""
    way = stoppable_speed(distance, deceleration * period, period) * period
    return way / distance if way < distance * (1.0 - 1e-9) else 1.0
