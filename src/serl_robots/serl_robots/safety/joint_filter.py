# SPDX-License-Identifier: Apache-2.0
"""The safety filter that every commanded joint position goes through, whoever asked for it.

Limits of the joints (position, velocity, acceleration, step) are plain numbers. Those of the tool (boxes, cone,
velocity, acceleration, step) are not, because it moves as forward kinematics say. So the filter proves what it
commands: with each command it keeps *a stop*, the positions by which the arm would come to rest from there, period by
period, along the line on which it moves, and every one of them has been checked against every limit, the tool's
included. A command for which no stop is found is not given; the nearest one towards braking is. Braking commands the
next position of the stop.

Keep-out boxes hold for all links (`LinkClearance`). Where a limit of the tool is in the way, or a link would get into a
box, all joints are slowed alike, so a motion against a wall of the box stops there and does not slide along it. A joint
at the end of its range keeps no other one from moving.

Such fail-safe trajectories are common in motion planning; see for instance Magdici and Althoff, "Fail-safe motion
planning of autonomous vehicles", ITSC 2016.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from serl_robots.model.kinematics import Kinematics
from serl_robots.model.link_clearance import LinkClearance
from serl_robots.model.pose import Pose, Quaternion, Vector3, angle_between, quaternion_log, quaternion_multiply
from serl_robots.safety.filter import Limited, SafetyFilter
from serl_robots.safety.gripper_filter import GripperFilter
from serl_robots.safety.limits import SafetyLimits
from serl_robots.safety.tool_target import ToolTarget
from serl_robots.safety.walls import KeepOut

Positions = NDArray[np.float64]

# Below this relative excess a limit has not acted: it is rounding.
_SLACK: Final = 1e-9
_ROUNDING: Final = 1e-12  # [rad, m]
_STANDING: Final = 1e-9  # [rad/s]: rounding
_BISECTIONS: Final = 12
# A stop brakes with the first of these shares of what the limits allow that works; the rest is for curves of the path.
_STRENGTHS: Final = (0.9, 0.5, 0.25)
_LONGEST_STOP: Final = 250  # periods


@dataclass(frozen=True, slots=True)
class _Step:
    """One commanded position, how the arm got there in one period, and where the tool is then."""

    positions: Positions  # (n,) [rad]
    velocity: Positions  # (n,) [rad/s]
    tool: ToolTarget
    linear: Vector3  # [m/s]
    angular: Vector3  # [rad/s]


class JointFilter(SafetyFilter[Positions]):
    """Turns desired joint positions float64 (n,) [rad] into ones that keep `limits`. Call `reset` first."""

    def __init__(
        self, kinematics: Kinematics, limits: SafetyLimits, period: float, gripper: GripperFilter | None = None
    ) -> None:
        """Keep `limits` in control periods of `period` [s].

        Args:
            kinematics: of the arm, which knows its joint limits.
            limits: of joints and tool.
            period: of control [s].
            gripper: filter of the width, shared with the arm's other filter.

        Raises:
            ValueError: the period is not a positive number.
        """
        if not (math.isfinite(period) and period > 0.0):
            raise ValueError(f"expected a positive control period, found {period}")
        self.limits = limits
        self.period = period
        self.gripper = GripperFilter(limits, period) if gripper is None else gripper
        self.speed_limit = joint_speed_limit(kinematics, limits, period)
        self._keep_out = KeepOut(limits.keep_out, limits.keep_out_distance)
        self._links = (
            LinkClearance(kinematics.robot, limits.keep_out, limits.keep_out_link_distance) if limits.keep_out else None
        )
        self._kinematics = kinematics
        self._lower = kinematics.lower + limits.joint_margin
        self._upper = kinematics.upper - limits.joint_margin
        self._change = limits.joint_acceleration * period
        x, y, z, w = limits.reference_orientation
        length = math.sqrt(x * x + y * y + z * z + w * w)
        self._reference: Quaternion = (x / length, y / length, z / length, w / length)
        self._measured: Vector3 | None = None  # position of the tool [m]
        self._last: _Step | None = None
        self._stop: list[_Step] = []  # what is commanded, period by period, when the arm brakes from now on

    def reset(self, positions: Positions, gripper_width: float) -> None:
        """Starts anew from measured joint positions (n,) [rad] and width [m], at rest: the past no longer counts.

        Raises:
            ValueError: the positions have the wrong shape, or a number is not finite.
        """
        if positions.shape != self._lower.shape or not np.isfinite(positions).all():
            raise ValueError(f"expected {len(self._lower)} finite joint positions, found {positions}")
        self.gripper.reset(gripper_width)
        self._last = _standing(positions.copy(), self._tool(positions))
        self._measured = None
        self._stop = []

    def see(self, measured: Pose) -> None:
        """The tool was measured here; the next targets lead it no farther away than `max_reference_error`."""
        x, y, z = measured.position.tolist()
        self._measured = (x, y, z)

    @property
    def target(self) -> Positions:
        """Last commanded joint positions, float64 (n,) [rad]."""
        return self._state.positions

    @property
    def tool(self) -> ToolTarget:
        """Tool pose that the last commanded joint positions lead to."""
        return self._state.tool

    @property
    def velocity(self) -> Positions:
        """Joint velocity of the last step, float64 (n,) [rad/s]."""
        return self._state.velocity

    @property
    def at_rest(self) -> bool:
        """Whether the last step stood still, or nothing was commanded yet."""
        return self._last is None or float(np.abs(self._last.velocity).max()) <= _STANDING

    @property
    def braking_periods(self) -> int:
        """Periods in which the arm still moves when it brakes from now on; 0: the next one stands still."""
        return max(len(self._stop) - 1, 0)

    def limit(self, desired: Positions, gripper_width: float) -> Limited[Positions]:
        """Commands the desired positions (n,) [rad] and width [m], or as much of them as the limits allow.

        Values that are not finite are no desire: the arm brakes, and `finite` is named.

        Raises:
            RuntimeError: `reset` was not called.
        """
        here = self._state.positions
        return self._limit(desired, gripper_width, np.minimum(self._lower, here), np.maximum(self._upper, here))

    def admits(self, desired: Positions) -> bool:
        """Whether `limit` would command these finite positions (n,) [rad] as they are. Nothing is commanded.

        Raises:
            RuntimeError: `reset` was not called.
        """
        here = self._state.positions
        low, high = np.minimum(self._lower, here), np.maximum(self._upper, here)
        wanted, exact = self._affordable(desired, low, high, [])
        return exact and not self._plan(wanted, desired, low, high)[1]

    def approach(self, goal: Positions) -> Limited[Positions]:
        """One step towards `goal` (n,) [rad], so that the arm stops there and goes no further; the width stays.

        Raises:
            RuntimeError: `reset` was not called.
        """
        here = self._state.positions
        end = self._stop[-1].positions if self._stop else here  # where the arm gets to at least
        low = np.maximum(np.minimum(np.minimum(goal, end), here), np.minimum(self._lower, here))
        high = np.minimum(np.maximum(np.maximum(goal, end), here), np.maximum(self._upper, here))
        return self._limit(goal, self.gripper.width, low, high)

    def brake(self) -> None:
        """One step along the stop that was checked. The gripper keeps its command.

        Raises:
            RuntimeError: `reset` was not called.
        """
        self._brake()
        self.gripper.keep()

    def stand(self) -> None:
        """The target has been standing for longer than anybody called: nothing is left to be braked."""
        last = self._state
        self._last = _standing(last.positions, last.tool)
        self._stop = []

    # Inside

    @property
    def _state(self) -> _Step:
        if self._last is None:
            raise RuntimeError("call reset() with the measured joint positions first")
        return self._last

    def _brake(self) -> None:
        last = self._state
        self._last = self._stop.pop(0) if self._stop else _standing(last.positions, last.tool)

    def _limit(self, desired: Positions, width: float, low: Positions, high: Positions) -> Limited[Positions]:
        acted: list[str] = []
        finite = bool(np.isfinite(desired).all())
        if not (finite and math.isfinite(width)):
            acted.append("finite")
        if finite:
            wanted, exact = self._affordable(desired, low, high, acted)
            steps, broken = self._plan(wanted, desired if exact else None, low, high)
            if broken:
                acted += [name for name in broken if name not in acted]
                steps = self._nearest(wanted, low, high)
            self._last, self._stop = steps[0], steps[1:]
        else:
            self._brake()
        self.gripper.limit(width, acted)
        return Limited(self.target, self.gripper.width, tuple(acted))

    def _affordable(
        self, desired: Positions, low: Positions, high: Positions, acted: list[str]
    ) -> tuple[Positions, bool]:
        """The velocity (n,) [rad/s] towards the desire that the limits of the joints leave.

        Also: whether it leads there exactly.
        """
        last, period, exact = self._state, self.period, True
        inside = desired.clip(low, high)
        if float(np.abs(inside - desired).max()) > _SLACK:
            acted.append("joint_limits")
            exact = False
        wanted = (inside - last.positions) / period
        excess = float((np.abs(wanted) / self.speed_limit).max())
        if excess > 1.0 + _SLACK:
            is_step = bool((np.abs(wanted) * period > self.limits.max_joint_step * (1.0 + _SLACK)).any())
            acted.append("joint_step" if is_step else "joint_velocity")
            wanted, exact = wanted / excess, False
        slower = self._stoppable(wanted, low, high)
        if float(np.abs(slower - wanted).max()) > _SLACK:
            acted += [] if "joint_limits" in acted else ["joint_limits"]
            wanted, exact = slower, False
        change = wanted - last.velocity
        excess = float(np.abs(change).max()) / self._change
        if excess > 1.0 + _SLACK:
            acted.append("joint_acceleration")
            wanted, exact = last.velocity + change / excess, False
        return wanted, exact

    def _stoppable(self, velocity: Positions, low: Positions, high: Positions) -> Positions:
        """The velocity, with each joint slowed down that could not brake within its bounds."""
        here = self._state.positions
        drop = _STRENGTHS[0] * self._change / max(float(np.abs(velocity).max()), 1e-12)
        count = min(math.ceil(1.0 / drop) - 1, _LONGEST_STOP)  # periods of motion after this one
        way = self.period * (1.0 + count - 0.5 * drop * count * (count + 1))
        slower: Positions = velocity.clip((low - here) / way, (high - here) / way)
        return slower

    def _nearest(self, wanted: Positions, low: Positions, high: Positions) -> list[_Step]:
        """The step nearest to the wanted velocity, on the line from braking to it, that a bisection finds safe."""
        last = self._state
        best = self._stop or [_standing(last.positions, last.tool)]
        brake = best[0].velocity
        safe, unsafe = 0.0, 1.0
        for _ in range(_BISECTIONS):
            middle = 0.5 * (safe + unsafe)
            steps, broken = self._plan(brake + middle * (wanted - brake), None, low, high)
            if broken:
                unsafe = middle
            else:
                safe, best = middle, steps
        return best

    def _plan(
        self, velocity: Positions, exact: Positions | None, low: Positions, high: Positions
    ) -> tuple[list[_Step], tuple[str, ...]]:
        """The step with a velocity and the stop after it; else the limits that one of them would break.

        `exact` are positions that the step leads to, where those are known better than by the velocity.
        """
        last = self._state
        first = self._next(last, velocity, exact)
        broken = self._broken(last, first, low, high)
        if broken:
            return [], broken
        full = self._strongest_drop(first)
        for strength in _STRENGTHS:
            drop = strength * full
            if drop * _LONGEST_STOP < 1.0:
                return [], broken or ("joint_acceleration",)
            steps, share, broken = [first], 1.0 - drop, ()
            while not broken and share > 0.0:
                step = self._next(steps[-1], share * velocity)
                broken = self._broken(steps[-1], step, low, high)
                steps.append(step)
                share -= drop
            rest = _standing(steps[-1].positions, steps[-1].tool)
            broken = broken or self._broken(steps[-1], rest, low, high)
            if not broken:
                at_rest = float(np.abs(velocity).max()) <= _STANDING
                return (steps if at_rest else [*steps, rest]), ()
        return [], broken

    def _strongest_drop(self, step: _Step) -> float:
        """Share of a step's velocity that may be lost in one period."""
        limits, period = self.limits, self.period
        return min(
            self._change / max(float(np.abs(step.velocity).max()), 1e-12),
            limits.max_acceleration * period / max(math.hypot(*step.linear), 1e-12),
            limits.max_angular_acceleration * period / max(math.hypot(*step.angular), 1e-12),
        )

    def _next(self, before: _Step, velocity: Positions, exact: Positions | None = None) -> _Step:
        """One period on."""
        period = self.period
        positions = before.positions + period * velocity if exact is None else exact.copy()
        tool = self._tool(positions)
        (x, y, z), (px, py, pz) = tool.position, before.tool.position
        qx, qy, qz, qw = before.tool.quaternion
        rx, ry, rz = quaternion_log(quaternion_multiply(tool.quaternion, (-qx, -qy, -qz, qw)))
        linear = ((x - px) / period, (y - py) / period, (z - pz) / period)
        return _Step(positions, velocity, tool, linear, (rx / period, ry / period, rz / period))

    def _tool(self, positions: Positions) -> ToolTarget:
        pose = self._kinematics.tcp(positions)
        x, y, z = pose.position.tolist()
        qx, qy, qz, qw = pose.quaternion.tolist()
        return ToolTarget((x, y, z), (qx, qy, qz, qw))

    def _broken(self, before: _Step, step: _Step, low: Positions, high: Positions) -> tuple[str, ...]:
        """Names of the limits that a step breaks. Outside of box and cone it may only lead inwards."""
        limits, period = self.limits, self.period
        broken = []
        if ((step.positions < low - _ROUNDING) | (step.positions > high + _ROUNDING)).any():
            broken.append("joint_limits")
        if float((np.abs(step.velocity - before.velocity)).max()) > self._change * (1.0 + _SLACK) + _ROUNDING:
            broken.append("joint_acceleration")
        for value, start, least, most in zip(
            step.tool.position, before.tool.position, limits.workspace_min, limits.workspace_max, strict=True
        ):
            if not min(least, start) - _ROUNDING <= value <= max(most, start) + _ROUNDING:
                broken.append("workspace")
                break
        if self._measured is not None:
            error, near = limits.max_reference_error + _ROUNDING, self._measured
            for value, start, middle in zip(step.tool.position, before.tool.position, near, strict=True):
                if abs(value - middle) > max(error, abs(start - middle) + _ROUNDING):
                    broken.append("reference_error")
                    break
        if not self._keep_out.allows(before.tool.position, step.tool.position) or (
            self._links is not None and self._links.blocked(before.positions, step.positions)
        ):
            broken.append("keep_out")
        cone = max(limits.orientation_cone, angle_between(self._reference, before.tool.quaternion))
        if angle_between(self._reference, step.tool.quaternion) > cone + _ROUNDING:
            broken.append("orientation")
        speed, turn = math.hypot(*step.linear), math.hypot(*step.angular)
        change, twist = math.dist(step.linear, before.linear), math.dist(step.angular, before.angular)
        for name, value, most in (
            ("step", speed * period, limits.max_step),
            ("velocity", speed, limits.max_velocity),
            ("acceleration", change / period, limits.max_acceleration),
            ("rotation_step", turn * period, limits.max_rotation_step),
            ("angular_velocity", turn, limits.max_angular_velocity),
            ("angular_acceleration", twist / period, limits.max_angular_acceleration),
        ):
            if value > most * (1.0 + _SLACK):
                broken.append(name)
        return tuple(broken)


def joint_speed_limit(kinematics: Kinematics, limits: SafetyLimits, period: float) -> Positions:
    """Largest speed that step and velocity limits leave each joint, float64 (n,) [rad/s]; `period` of control [s]."""
    speed: Positions = np.minimum(limits.joint_velocity_scaling * kinematics.velocity, limits.max_joint_step / period)
    return speed


def _standing(positions: Positions, tool: ToolTarget) -> _Step:
    return _Step(positions, np.zeros(len(positions)), tool, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
