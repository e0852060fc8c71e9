# SPDX-License-Identifier: Apache-2.0
"""From deltas of the tool pose to the tool pose that is commanded."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from serl_robots.control.action import ActionSpec, Frame
from serl_robots.control.control_step import CommandResult
from serl_robots.model.pose import (
    Pose,
    Quaternion,
    Vector3,
    between,
    quaternion_exp,
    quaternion_log,
    quaternion_multiply,
    quaternion_rotate,
    scaled,
)
from serl_robots.safety.braking import stoppable_share
from serl_robots.safety.tool_filter import ToolFilter
from serl_robots.safety.tool_target import ToolTarget

_THERE: Final = 1e-9  # [m, rad] that are no distance


class ToolIntegrator:
    """Adds deltas to the last commanded pose and passes the sum through the safety filter.

    After `reset` the sum starts at the measured pose, at rest. After `resync` it starts at the measured pose too, but
    the commanded pose gets there from where it is, with the velocity it has, within the limits: at once if they allow
    it, else over several steps, in which the actions count as ever.
    """

    def __init__(self, action: ActionSpec, safety: ToolFilter, frame: Frame = "base") -> None:
        """Command what `action` means through the filter `safety`.

        Args:
            action: of one arm.
            safety: filter of the tool, whose limits are in the base frame.
            frame: of the deltas: that of the base, or of the tool where it is commanded before the step.
        """
        self._action = action
        self._moves_along_tool = frame == "tool"
        self._turns = any(axis >= 3 for axis, _, _ in action.twist)
        self.filter = safety
        self._target: Pose | None = None
        self._sum: ToolTarget | None = None  # where the sum is while the commanded pose is elsewhere

    @property
    def target(self) -> Pose:
        """Last commanded pose. Raises RuntimeError before the first `reset`."""
        if self._target is None:
            raise RuntimeError("call reset() with the measured pose first")
        return self._target

    def reset(self, measured: Pose, gripper_width: float) -> None:
        """Starts anew at the measured pose and gripper width [m], at rest: what was commanded before is void."""
        self.filter.reset(measured, gripper_width)
        self._target = measured
        self._sum = None

    def resync(self, measured: Pose) -> None:
        """Lets the sum go on from the measured pose. The gripper keeps its command, and its grip."""
        self._sum = plain(measured)

    def step(self, values: list[float], width: float, action: NDArray[np.float32]) -> CommandResult:
        """One control step of an action (n,): its values within [-1, 1], the width [m] that it asks for, and itself."""
        before, start = self.filter.target, self._sum
        if start is None:
            return self.move(self._added(values, before), width, action)
        way = self._on_the_way(start)
        exact = action if way == start else None
        result = self.move(self._added(values, way), width, exact, start)
        self._sum = self._rest_of_the_way(start, before, self._added(values, start))
        return result

    def _added(self, values: list[float], start: ToolTarget) -> ToolTarget:
        """The pose that an action leads to from `start`."""
        position, quaternion = start
        delta = [0.0] * 6
        for axis, index, scale in self._action.twist:
            delta[axis] = values[index] * scale
        dx, dy, dz, *turn = delta
        if self._moves_along_tool:
            dx, dy, dz = quaternion_rotate(quaternion, (dx, dy, dz))
        x, y, z = position
        if self._turns:
            turned = quaternion_exp((turn[0], turn[1], turn[2]))
            order = (quaternion, turned) if self._moves_along_tool else (turned, quaternion)
            quaternion = quaternion_multiply(*order)
        return ToolTarget((x + dx, y + dy, z + dz), quaternion)

    def approach(self, goal: Pose) -> CommandResult:
        """One control step towards a pose, no faster than the tool can still stop there; the gripper keeps its command.

        Nobody's action: reported as the one that it amounts to.
        """
        return self.move(self._on_the_way(plain(goal)), self.filter.gripper_width)

    def brake(self) -> CommandResult:
        """One control step of braking, nobody's action: reported as the one that it amounts to."""
        before = self.filter.target
        self.filter.brake()
        return self._taken(before)

    def follow(self, target: Pose) -> CommandResult:
        """One control step that was commanded in joint space, at whose end the tool is at `target`."""
        before = self.filter.target
        self.filter.follow(*plain(target))
        return self._taken(before, target)

    def _taken(self, before: ToolTarget, target: Pose | None = None) -> CommandResult:
        after, width = self.filter.target, self.filter.gripper_width
        self._sum = None
        self._target = Pose.trusted(*after) if target is None else target
        return CommandResult(self._target, width, self._executed(before, after, width), ())

    def _on_the_way(self, goal: ToolTarget) -> ToolTarget:
        """The next pose on the way from the commanded pose to `goal` from which the tool can still stop there."""
        safety = self.filter
        position, quaternion = goal
        length = math.dist(safety.position, position)
        share = stoppable_share(length, safety.deceleration, safety.period)
        if share < 1.0:
            position = between(safety.position, position, share)
        turn = _turn_between(safety.quaternion, quaternion)
        share = stoppable_share(math.hypot(*turn), safety.limits.max_angular_acceleration, safety.period)
        if share < 1.0:
            quaternion = quaternion_multiply(quaternion_exp(scaled(turn, share)), safety.quaternion)
        return ToolTarget(position, quaternion)

    def _rest_of_the_way(self, start: ToolTarget, before: ToolTarget, wanted: ToolTarget) -> ToolTarget | None:
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
        return None if gap <= _THERE and angle <= _THERE else ToolTarget(goal, orientation)

    def move(
        self,
        desired: ToolTarget,
        width: float,
        action: NDArray[np.float32] | None = None,
        start: ToolTarget | None = None,
    ) -> CommandResult:
        """One control step towards a desired pose.

        Args:
            desired: pose of the tool.
            width: of the gripper [m].
            action: float32 (n,) that it stands for, if any. What the filter lets through unchanged is reported as
                exactly that action, so rounding adds no noise to it.
            start: pose from which the step is reported as an action; the last commanded one by default.
        """
        before = self.filter.target if start is None else start
        after, width, limits = self.filter.limit(desired, width)
        executed = action if action is not None and not limits else self._executed(before, after, width)
        self._sum = None
        self._target = Pose.trusted(after.position, after.quaternion)
        return CommandResult(self._target, width, executed, limits)

    def _executed(self, before: ToolTarget, after: ToolTarget, width: float) -> NDArray[np.float32]:
        """The action float32 (n,) that a way of the tool and a width [m] amount to."""
        spec = self._action
        values = [0.0] * len(spec)
        x, y, z, w = before.quaternion
        back = (-x, -y, -z, w)
        (x0, y0, z0), (x1, y1, z1) = before.position, after.position
        way: Vector3 = (x1 - x0, y1 - y0, z1 - z0)
        turn: Vector3 = (0.0, 0.0, 0.0)
        if self._moves_along_tool:
            way = quaternion_rotate(back, way)
        if self._turns:
            order = (back, after.quaternion) if self._moves_along_tool else (after.quaternion, back)
            turn = quaternion_log(quaternion_multiply(*order))
        for axis, index, scale in spec.twist:
            values[index] = (way + turn)[axis] / scale
        if spec.gripper is not None:
            index, full = spec.gripper
            values[index] = 2.0 * width / full - 1.0
        return np.array([min(max(value, -1.0), 1.0) for value in values], dtype=np.float32)


def plain(pose: Pose) -> ToolTarget:
    """A pose in plain numbers."""
    px, py, pz = pose.position.tolist()
    qx, qy, qz, qw = pose.quaternion.tolist()
    return ToolTarget((px, py, pz), (qx, qy, qz, qw))


def _turn_between(start: Quaternion, end: Quaternion) -> Vector3:
    """Rotation vector [rad] that turns `start` into `end`."""
    x, y, z, w = start
    return quaternion_log(quaternion_multiply(end, (-x, -y, -z, w)))


def _angle(a: Quaternion, b: Quaternion) -> float:
    return math.hypot(*_turn_between(a, b))
