# SPDX-License-Identifier: Apache-2.0
"""The safety filter that every commanded tool pose goes through, whoever asked for it.

The filter is a discrete system: its state is the last commanded pose with the velocity that led to it, and every call
of `limit` is one control period. A desired pose asks for a velocity; the filter commands the nearest one it can afford:

- the change of velocity is at most `max_acceleration * period`, the speed at most `max_velocity`, a step at most
  `max_step` (and the same for rotation);
- *after* it the tool can still brake inside the workspace box and the orientation cone.

Braking is always allowed: it keeps the stopping point where it was. So once a state is safe every later one is, for any
sequence of desired poses, and by induction all limits hold together. No limit wins over another.

A tool that starts outside the box or the cone is not pulled back, but it can only move inwards.

`follow` takes over what was commanded in joint space, where a filter of its own has limited it.
"""

import math
from typing import Final

from serl_robots.model.pose import (
    Pose,
    Quaternion,
    Vector3,
    angle_between,
    between,
    normalized,
    quaternion_exp,
    quaternion_log,
    quaternion_multiply,
    scaled,
)
from serl_robots.safety.braking import braked, braked_vector, braking_distance, stoppable_speed
from serl_robots.safety.filter import Limited, SafetyFilter
from serl_robots.safety.gripper_filter import GripperFilter
from serl_robots.safety.keep_apart import KeepApart, Wall
from serl_robots.safety.limits import SafetyLimits
from serl_robots.safety.tool_target import ToolTarget
from serl_robots.safety.walls import Bounds, KeepOut, Room, least, most, name, part

# Below this relative excess a limit has not acted: it is rounding.
_SLACK: Final = 1e-9
_BISECTIONS: Final = 24
_REST: Final = 1e-12  # [rad/s]
_SQRT3: Final = math.sqrt(3.0)
_STANDING: Final = 1e-9  # [m/s, rad/s]: rounding
_NOWHERE: Final = (math.nan, math.nan, math.nan)  # no desire: brakes


class ToolFilter(SafetyFilter[ToolTarget]):
    """Turns desired tool poses into ones that keep `limits`, one control `period` [s] a step. Call `reset` first.

    Plain floats throughout: numpy on three numbers costs ten times the arithmetic.
    """

    def __init__(
        self,
        limits: SafetyLimits,
        period: float,
        gripper: GripperFilter | None = None,
        keep_apart: KeepApart | None = None,
        *,
        turns_freely: bool = True,
    ) -> None:
        """Keep `limits` in control periods of `period` [s]; `gripper` is shared with the arm's other filter.

        Args:
            limits: of the tool.
            period: of control [s].
            gripper: shared with the arm's other filter.
            keep_apart: from another arm, if there is one.
            turns_freely: whether the arm can turn its tool as it likes; else it may be turned otherwise.

        Raises:
            ValueError: the period is not a positive number.
        """
        if not (math.isfinite(period) and period > 0.0):
            raise ValueError(f"expected a positive control period, found {period}")
        self.limits = limits
        self.period = period
        self.gripper = GripperFilter(limits, period) if gripper is None else gripper
        self.keep_apart = keep_apart
        self.keep_out = KeepOut(limits.keep_out, limits.keep_out_distance)
        self._speed_limit = min(limits.max_velocity, limits.max_step / period)
        self._velocity_change = limits.max_acceleration * period
        # each axis brakes by itself; together the three stay within the acceleration limit
        self._axis_drop = self._velocity_change / _SQRT3
        self._turn_limit = min(limits.max_angular_velocity, limits.max_rotation_step / period)
        self._turn_change = limits.max_angular_acceleration * period
        self._reference = normalized(limits.reference_orientation)
        self._turns_freely = turns_freely
        self._started = False
        self._measured_position: Vector3 | None = None
        self._measured_quaternion: Quaternion | None = None  # None where it may be turned otherwise
        self._farthest = math.inf  # [rad] from there that the commanded orientation may come to rest
        self._position: Vector3 = (0.0, 0.0, 0.0)
        self._quaternion: Quaternion = self._reference
        self._velocity: Vector3 = (0.0, 0.0, 0.0)
        self._turn: Vector3 = (0.0, 0.0, 0.0)  # angular velocity

    def reset(self, pose: Pose, gripper_width: float) -> None:
        """Starts anew from a measured pose, at rest: what was commanded before no longer counts.

        Raises:
            ValueError: the gripper width is not finite. (A `Pose` always is.)
        """
        self.gripper.reset(gripper_width)
        x, y, z = pose.position.tolist()
        self._position = (x, y, z)
        qx, qy, qz, qw = pose.quaternion.tolist()
        self._quaternion = (qx, qy, qz, qw)
        self._velocity = (0.0, 0.0, 0.0)
        self._turn = (0.0, 0.0, 0.0)
        self._started = True
        self._measured_position = self._measured_quaternion = None

    def see(self, measured: Pose) -> None:
        """The tool was measured here; the next targets are no farther away than `max_reference_error`."""
        x, y, z = measured.position.tolist()
        qx, qy, qz, qw = measured.quaternion.tolist()
        self._measured_position = (x, y, z)
        if self._turns_freely:
            self._measured_quaternion = (qx, qy, qz, qw)

    @property
    def position(self) -> Vector3:
        """Last commanded tool position [m]."""
        return self._position

    @property
    def quaternion(self) -> Quaternion:
        """Last commanded tool orientation, xyzw."""
        return self._quaternion

    @property
    def target(self) -> ToolTarget:
        """Last commanded tool pose."""
        return ToolTarget(self._position, self._quaternion)

    @property
    def velocity(self) -> tuple[Vector3, Vector3]:
        """Linear [m/s] and angular [rad/s] velocity of the last step."""
        return self._velocity, self._turn

    @property
    def at_rest(self) -> bool:
        """Whether the last step stood still."""
        return math.hypot(*self._velocity) <= _STANDING and math.hypot(*self._turn) <= _STANDING

    @property
    def braking_periods(self) -> int:
        """Periods in which the tool still moves when it brakes from now on; 0: the next one stands still."""
        periods = 0
        for value in self._velocity:
            periods = max(periods, math.ceil(abs(value) / self._axis_drop) - 1)
        return max(periods, math.ceil(math.hypot(*self._turn) / self._turn_change) - 1)

    @property
    def speed_limit(self) -> float:
        """Largest speed that step and velocity limits leave [m/s]."""
        return self._speed_limit

    @property
    def turn_limit(self) -> float:
        """Largest angular speed that step and velocity limits leave [rad/s]."""
        return self._turn_limit

    @property
    def deceleration(self) -> float:
        """Deceleration that is possible in every direction [m/s^2]."""
        return self._axis_drop / self.period

    def brake(self) -> None:
        """One step of braking: allowed in every state, and the nearest way to rest.

        The gripper keeps its command, except that a width that began outside its limits goes inside.

        Raises RuntimeError before the first `reset`.
        """
        if not self._started:
            raise RuntimeError("call reset() with the measured pose before brake()")
        self._brake()
        self.gripper.keep()

    def _brake(self) -> None:
        if self._velocity != (0.0, 0.0, 0.0):
            self._step_position(_NOWHERE, [])
        if self._turn != (0.0, 0.0, 0.0):
            self._turn_by(braked_vector(self._turn, self._turn_change))

    def stand(self) -> None:
        """The commanded pose has been standing for longer than anybody called: nothing is left to be braked."""
        self._velocity = self._turn = (0.0, 0.0, 0.0)

    def follow(self, position: Vector3, quaternion: Quaternion) -> None:
        """Takes over a pose that was commanded in another way for one period, with the velocity that led to it."""
        px, py, pz = self._position
        x, y, z = position
        period = self.period
        self._velocity = ((x - px) / period, (y - py) / period, (z - pz) / period)
        qx, qy, qz, qw = self._quaternion
        turn = quaternion_log(quaternion_multiply(quaternion, (-qx, -qy, -qz, qw)))
        self._turn = scaled(turn, 1.0 / period)
        self._position, self._quaternion = position, quaternion

    def limit(self, desired: ToolTarget, gripper_width: float) -> Limited[ToolTarget]:
        """Commands the desired pose and width [m], or as much of them as the limits allow.

        Values that are not finite are no desire: that part brakes, and `finite` is named.

        Raises:
            RuntimeError: `reset` was not called.
        """
        if not self._started:
            raise RuntimeError("call reset() with the measured pose before limit()")
        position, quaternion = desired
        acted: list[str] = []
        if not math.isfinite(sum(position) + sum(quaternion) + gripper_width):
            acted.append("finite")
        if self.keep_apart is None:
            self._step_position(position, acted)
            self._step_orientation(quaternion, acted)
        elif not self.keep_apart.is_known:
            acted.append("keep_apart")
            self._brake()
        else:
            self._step_behind(self.keep_apart.wall(self.target), position, quaternion, acted)
        self.gripper.limit(gripper_width, acted)
        return Limited(ToolTarget(self._position, self._quaternion), self.gripper.width, tuple(acted))

    def _step_behind(self, wall: Wall, position: Vector3, quaternion: Quaternion, acted: list[str]) -> None:
        """A step on this side of the wall that stands between two arms.

        Where the limits let the tool stop within a period, which `KeepApart` asks for, it may stay where it is, and so
        it may go any part of an allowed way: the sets of allowed velocities are convex.
        """
        before = self.target
        behind = wall.nearest(position, before.quaternion)
        self._step_position(behind, acted)
        self._step_orientation(quaternion, acted)
        if wall.allows(self.target):
            if behind != position:
                acted.append("keep_apart")
            return
        acted.append("keep_apart")
        (vx, vy, vz), turn, after = self._velocity, self._turn, self._position
        safe, unsafe = 0.0, 1.0
        for _ in range(_BISECTIONS):
            share = 0.5 * (safe + unsafe)
            turned = quaternion_multiply(quaternion_exp(scaled(turn, share * self.period)), before.quaternion)
            if wall.allows(ToolTarget(between(before.position, after, share), turned)):
                safe = share
            else:
                unsafe = share
        self._position, self._quaternion = before
        self._turn_by(scaled(turn, safe))
        self._position = between(before.position, after, safe)
        self._velocity = (vx * safe, vy * safe, vz * safe)

    def _step_position(self, desired: Vector3, acted: list[str]) -> None:
        limits, period, drop = self.limits, self.period, self._axis_drop
        vx, vy, vz = self._velocity
        px, py, pz = self._position
        dx, dy, dz = desired
        before = len(acted)
        if math.isfinite(dx + dy + dz):
            # the part of the desire that lies in the room, so that a tool pushed against a wall slides along it
            (cx, cy, cz), walls = self._room_for(desired, acted)
            (lx, ly, lz), (hx, hy, hz) = walls[-1].room
            unchanged = len(acted) == before
            wx, wy, wz = (cx - px) / period, (cy - py) / period, (cz - pz) / period
            speed = math.sqrt(wx * wx + wy * wy + wz * wz)
            if speed > self._speed_limit:
                if speed * period > limits.max_step * (1.0 + _SLACK):
                    acted.append("step")
                    unchanged = False
                if speed > limits.max_velocity * (1.0 + _SLACK):
                    acted.append("velocity")
                    unchanged = False
                if not unchanged:
                    scale = self._speed_limit / speed
                    wx, wy, wz = wx * scale, wy * scale, wz * scale
            ax, ay, az = wx - vx, wy - vy, wz - vz
            change = math.sqrt(ax * ax + ay * ay + az * az)
            if change > self._velocity_change * (1.0 + _SLACK):
                acted.append("acceleration")
                unchanged = False
                scale = self._velocity_change / change
                wx, wy, wz = vx + ax * scale, vy + ay * scale, vz + az * scale
            bx = min(max(wx, -stoppable_speed(px - lx, drop, period)), stoppable_speed(hx - px, drop, period))
            by = min(max(wy, -stoppable_speed(py - ly, drop, period)), stoppable_speed(hy - py, drop, period))
            bz = min(max(wz, -stoppable_speed(pz - lz, drop, period)), stoppable_speed(hz - pz, drop, period))
            if abs(bx - wx) + abs(by - wy) + abs(bz - wz) > _SLACK:
                self._name_walls((wx, wy, wz), walls, acted)
                unchanged = False
                wx, wy, wz = self._affordable(bx, by, bz)
        else:
            (lx, ly, lz), (hx, hy, hz) = self._box
            unchanged = False
            wx, wy, wz = braked(vx, drop), braked(vy, drop), braked(vz, drop)
        if unchanged:
            nx, ny, nz = dx, dy, dz
        else:
            nx, ny, nz = px + wx * period, py + wy * period, pz + wz * period
        nx, ny, nz = min(max(nx, lx), hx), min(max(ny, ly), hy), min(max(nz, lz), hz)
        self._position = (nx, ny, nz)
        self._velocity = (wx, wy, wz)

    @property
    def _rest(self) -> Vector3:
        """Where the tool comes to rest when it brakes from now on [m]."""
        drop, period = self._axis_drop, self.period
        x, y, z = (
            place + math.copysign(braking_distance(abs(speed), drop, period), speed)
            for place, speed in zip(self._position, self._velocity, strict=True)
        )
        return x, y, z

    @property
    def _box(self) -> Room:
        """The workspace box; outside of it it reaches out to the tool, and no further."""
        (px, py, pz), (lx, ly, lz), (hx, hy, hz) = self._position, self.limits.workspace_min, self.limits.workspace_max
        return (min(lx, px), min(ly, py), min(lz, pz)), (max(hx, px), max(hy, py), max(hz, pz))

    def _room_for(self, desired: Vector3, acted: list[str]) -> tuple[Vector3, list[Bounds]]:
        """The part of a desired position [m] that the walls leave, and the walls; the last one says the room.

        In each room the tool is, and comes to rest when it brakes from now on.
        """
        room = self._box
        walls = [Bounds("workspace", room)]
        rest = self._rest
        if self._measured_position is not None:
            (mx, my, mz), error = self._measured_position, self.limits.max_reference_error
            low, high = (mx - error, my - error, mz - error), (mx + error, my + error, mz + error)
            desired = part(desired, Bounds("reference_error", (low, high)), acted)
            low, high = least(low, self._position, rest), most(high, self._position, rest)
            walls.append(Bounds("reference_error", (low, high)))
            desired = part(desired, walls[0], acted)
            room = most(room[0], low), least(room[1], high)
        else:
            desired = part(desired, walls[0], acted)
        if self.keep_out.boxes:
            room = self.keep_out.room(self._position, rest, desired, room)
        walls.append(Bounds("keep_out", room))
        return part(desired, walls[-1], acted) if self.keep_out.boxes else desired, walls

    def _name_walls(self, wanted: Vector3, walls: list[Bounds], acted: list[str]) -> None:
        """Names the walls that slow the wanted velocity [m/s] down."""
        drop, period = self._axis_drop, self.period
        for axis, (place, speed) in enumerate(zip(self._position, wanted, strict=True)):
            side = 1 if speed > 0.0 else 0
            bound = walls[-1].room[side][axis]
            if abs(speed) > stoppable_speed(abs(bound - place), drop, period):
                name(next(each.limit for each in walls if each.room[side][axis] == bound), acted)

    def _affordable(self, x: float, y: float, z: float) -> Vector3:
        """The velocity itself when the change to it is allowed, else the part of the way to it from braking that is.

        Braking and the wanted velocity both keep speed and box, so everything between does: those sets are convex.
        """
        vx, vy, vz = self._velocity
        bx, by, bz = braked(vx, self._axis_drop), braked(vy, self._axis_drop), braked(vz, self._axis_drop)
        # |brake + share * (wanted - brake) - v| = limit, a quadratic in share
        ox, oy, oz = bx - vx, by - vy, bz - vz
        ux, uy, uz = x - bx, y - by, z - bz
        a = ux * ux + uy * uy + uz * uz
        b = ox * ux + oy * uy + oz * uz
        c = ox * ox + oy * oy + oz * oz - self._velocity_change**2
        if a == 0.0 or a + 2.0 * b + c <= 0.0:
            return x, y, z
        share = min(max((math.sqrt(max(b * b - a * c, 0.0)) - b) / a, 0.0), 1.0)
        return bx + share * ux, by + share * uy, bz + share * uz

    def _step_orientation(self, desired: Quaternion, acted: list[str]) -> None:
        limits, period = self.limits, self.period
        velocity = self._turn
        if desired == self._quaternion and velocity == (0.0, 0.0, 0.0):
            return
        length = math.sqrt(sum([value * value for value in desired]))
        if not 0.5 < length < 2.0:  # also false for NaN
            name("finite", acted)
            self._turn_by(braked_vector(velocity, self._turn_change))
            return
        desired = normalized(desired)
        unchanged = True
        near = self._measured_quaternion
        if near is not None:
            # one that the tool was turned away from stays: actions that do not turn could not bring it back
            error = max(limits.max_reference_rotation_error, angle_between(near, self._quaternion))
            if angle_between(near, desired) > error + _SLACK:
                name("reference_error", acted)
                unchanged = False
                desired = _onto_cone(desired, near, error)
            stop = self._stop(braked_vector(velocity, self._turn_change))  # farther than that braking does not lead
            self._farthest = max(error, angle_between(near, stop)) + _SLACK
        cone = max(limits.orientation_cone, angle_between(self._reference, self._quaternion))
        if angle_between(self._reference, desired) > cone + _SLACK:
            acted.append("orientation")
            unchanged = False
            desired = _onto_cone(desired, self._reference, cone)
        x, y, z, w = self._quaternion
        rx, ry, rz = quaternion_log(quaternion_multiply(desired, (-x, -y, -z, w)))
        wanted = (rx / period, ry / period, rz / period)
        speed = math.hypot(*wanted)
        if speed > self._turn_limit:
            within = unchanged
            if speed * period > limits.max_rotation_step * (1.0 + _SLACK):
                acted.append("rotation_step")
                within = False
            if speed > limits.max_angular_velocity * (1.0 + _SLACK):
                acted.append("angular_velocity")
                within = False
            unchanged = within
            if not within:
                wanted = scaled(wanted, self._turn_limit / speed)
        change = math.dist(wanted, velocity)
        if change > self._turn_change * (1.0 + _SLACK):
            acted.append("angular_acceleration")
            unchanged = False
            wanted = between(velocity, wanted, self._turn_change / change)
        if not self._can_stop(wanted):
            name("orientation" if not self._keeps_cone(wanted) else "reference_error", acted)
            unchanged = False
            wanted = self._nearest_stoppable(braked_vector(velocity, self._turn_change), wanted)
        if unchanged:
            self._quaternion = desired
            self._turn = wanted
        else:
            self._turn_by(wanted)

    def _turn_by(self, velocity: Vector3) -> None:
        turn = quaternion_exp(scaled(velocity, self.period))
        self._quaternion = normalized(quaternion_multiply(turn, self._quaternion))
        self._turn = velocity

    def _stop(self, velocity: Vector3) -> Quaternion:
        """Where a tool that turns with this velocity for a period comes to rest when it brakes after it."""
        speed = math.hypot(*velocity)
        if speed < _REST:
            return self._quaternion
        total = speed * self.period + braking_distance(speed, self._turn_change, self.period)
        return quaternion_multiply(quaternion_exp(scaled(velocity, total / speed)), self._quaternion)

    def _can_stop(self, velocity: Vector3) -> bool:
        """Does the tool stay in the cone, and near to where it is measured, until it has come to rest?"""
        near = self._measured_quaternion
        is_near = near is None or angle_between(near, self._stop(velocity)) <= self._farthest
        return is_near and self._keeps_cone(velocity)

    def _keeps_cone(self, velocity: Vector3) -> bool:
        """Does the tool stay in the cone in this period and while it brakes after it, always about the same axis?

        Outside the cone: does it get no further out, period by period, until it is inside?
        """
        speed = math.hypot(*velocity)
        if speed < _REST:
            return True
        axis = scaled(velocity, 1.0 / speed)
        cone = self.limits.orientation_cone + _SLACK
        angle = angle_between(self._reference, self._quaternion)
        if angle <= cone:
            total = speed * self.period + braking_distance(speed, self._turn_change, self.period)
            # the cone is convex: the way to the stopping point is inside when its end is, unless it went all round
            return total <= 2.0 * cone and self._angle_after(axis, total) <= cone
        turned = 0.0
        while speed > 0.0:
            turned += speed * self.period
            before, angle = angle, self._angle_after(axis, turned)
            if angle > max(cone, before):
                return False
            speed = braked(speed, self._turn_change)
        return True

    def _angle_after(self, axis: Vector3, turned: float) -> float:
        """Angle to the reference orientation [rad] after a turn of the last commanded orientation."""
        return angle_between(
            self._reference, quaternion_multiply(quaternion_exp(scaled(axis, turned)), self._quaternion)
        )

    def _nearest_stoppable(self, brake: Vector3, wanted: Vector3) -> Vector3:
        """The velocity nearest to `wanted` on the line from braking to it that a bisection finds stoppable."""
        safe, unsafe = 0.0, 1.0
        for _ in range(_BISECTIONS):
            middle = 0.5 * (safe + unsafe)
            if self._can_stop(between(brake, wanted, middle)):
                safe = middle
            else:
                unsafe = middle
        return between(brake, wanted, safe)


def _onto_cone(orientation: Quaternion, reference: Quaternion, cone: float) -> Quaternion:
    """Nearest orientation in a cone: the same rotation away from its reference, but only as far as allowed."""
    x, y, z, w = reference
    away = quaternion_log(quaternion_multiply(orientation, (-x, -y, -z, w)))
    return quaternion_multiply(quaternion_exp(scaled(away, cone / math.hypot(*away))), reference)
