# SPDX-License-Identifier: Apache-2.0
"""What commands amount to, computed from the commands alone: speeds and accelerations over what is allowed."""

import math
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serl_robots.control.control_step import Command, Measured
from serl_robots.model.kinematics import Kinematics
from serl_robots.safety.limits import SafetyLimits

PERIOD: Final = 0.1  # [s] of control
_SHORTEST: Final = 0.86  # control periods between two commands that move the commanded pose, in real time
_ROUNDING: Final = 1e-7 / PERIOD  # [rad/s]: a rotation vector of 1e-8 rad is all rounding
_STANDING: Final = 1e-8  # [m/s]: rounding


@dataclass
class Ratios:
    """The largest of what was commanded, over what is allowed."""

    acceleration: float = 0.0
    speed: float = 0.0
    joint_acceleration: float = 0.0
    joint_speed: float = 0.0
    gripper_speed: float = 0.0
    outside: float = 0.0  # [m, rad] that tool, gripper or a joint was led out of its limits, or further out
    early: float = 0.0  # allowed over found time between two commands that move
    commands: int = 0
    events: int = 0
    where: dict[str, str] = field(default_factory=dict)  # what was going on at each of these

    def note(self, name: str, value: float, where: str) -> None:
        """Keeps a value that is larger than those before."""
        if value > getattr(self, name):
            setattr(self, name, value)
            self.where[name] = where


class _Path(NamedTuple):
    """Where the commanded pose was after a command, and how it moved there."""

    position: NDArray[np.float64]
    quaternion: NDArray[np.float64]
    velocity: NDArray[np.float64]
    turn: NDArray[np.float64]


class _JointPath(NamedTuple):
    """Where the commanded joints were after a command, and how they moved there."""

    positions: NDArray[np.float64]
    velocity: NDArray[np.float64]


class Watch:
    """Differences of the commanded poses and joint positions, control period by control period.

    Where the history may be void, both are followed: that the commanded pose goes on, and that it begins anew where the
    tool is. At least one of them has to keep the limits.
    """

    def __init__(self, limits: SafetyLimits, kinematics: Kinematics, ratios: Ratios, *, lockstep: bool) -> None:
        """Keep account of one controller in `ratios`."""
        self._limits, self._kinematics, self.ratios, self._lockstep = limits, kinematics, ratios, lockstep
        self._joint_paths: list[_JointPath] = []
        self._paths: list[_Path] = []
        self._width: float | None = None  # commanded last [m]
        self._stamp_ns, self._seen_at = 0, 0.0
        self._joints = False
        self._doubted_ns: int | None = None  # stamp of the state that told of what may have been a reset

    def forget(self) -> None:
        """The world was reset: what was commanded before is void."""
        self._paths.clear()
        self._joint_paths.clear()
        self._width = None

    def doubt(self, stamp_ns: int) -> None:
        """Something happened that the controller may take for a reset of the world, and states tell from `stamp_ns` on.

        In real time it believes so only when the next state confirms it, and goes on from the old pose until then.
        """
        self._doubted_ns = stamp_ns

    @property
    def is_in_doubt(self) -> bool:
        """Whether that is to be confirmed yet."""
        return self._doubted_ns is not None

    def see(self, command: Command, measured: Measured, now: float, where: str) -> None:
        """A command was published at the local time `now` [s], while the newest state was `measured`."""
        limits, ratios = self._limits, self.ratios
        joints = command.joint_positions is not None
        here = _Path(measured.tcp.position, measured.tcp.quaternion, np.zeros(3), np.zeros(3))
        may_be_void = self._may_be_void(here, joints, measured)
        before = [*self._paths, here] if may_be_void else self._paths
        found = [self._differences(command, path) for path in before]
        kept = [index for index, (_, acceleration, _) in enumerate(found) if acceleration <= 1.0 + 1e-6]
        kept = kept or [min(range(len(found)), key=lambda index: found[index][1])]
        best = min(kept, key=lambda index: found[index][2])
        path, acceleration, speed = found[best]
        # once each: many that are the same must not crowd out the one that the controller went on from
        ways = {(*way.velocity.tolist(), *way.turn.tolist()): way for way in (found[index][0] for index in kept)}
        self._paths = [*ways.values()][-4:]
        out = np.maximum(limits.workspace_min - path.position, path.position - limits.workspace_max).clip(0.0)
        starts = [before[index].position for index in kept]
        was_out = [np.maximum(limits.workspace_min - p, p - limits.workspace_max).clip(0.0) for p in starts]
        ratios.commands += 1
        ratios.note("acceleration", acceleration, where)
        ratios.note("speed", speed, where)
        ratios.note("outside", min(float(np.max(out - each)) for each in was_out), where)
        deeper = (self._depth(path.position) - self._depth(start) for start in starts)
        ratios.note("outside", min(float(each.max(initial=0.0)) for each in deeper), where)
        if command.joint_positions is None:
            self._joint_paths.clear()
        else:
            self._see_joints(command.joint_positions, measured.joints, may_be_void, where)
        if not joints:  # which may command no width
            ratios.note("outside", abs(command.gripper_width - limits.width_within(command.gripper_width)), where)
        self._see_gripper(command.gripper_width, measured.gripper_width, may_be_void, where)
        moves = _norm(path.velocity) > 0.0 or _norm(path.turn) > _ROUNDING
        if moves and not self._lockstep and self._doubted_ns is None:
            since = max((command.stamp_ns - self._stamp_ns) * 1e-9, now - self._seen_at)
            ratios.note("early", _SHORTEST * PERIOD / max(since, 1e-9), where)
        self._stamp_ns, self._seen_at, self._joints = command.stamp_ns, now, joints
        doubted_ns = self._doubted_ns
        if doubted_ns is not None and (command.stamp_ns > doubted_ns or self._lockstep):
            self._doubted_ns = None

    def _differences(self, command: Command, before: _Path) -> tuple[_Path, float, float]:
        """The way on from `before`; acceleration and speed over their limits."""
        limits, position, quaternion = self._limits, command.target.position, command.target.quaternion
        velocity = (position - before.position) / PERIOD
        turn = _rotation(before.quaternion, quaternion) / PERIOD
        linear = _norm(velocity - before.velocity) / PERIOD / limits.max_acceleration
        angular = (_norm(turn - before.turn) - _ROUNDING) / PERIOD / limits.max_angular_acceleration
        fastest = min(limits.max_velocity, limits.max_step / PERIOD)
        turning = min(limits.max_angular_velocity, limits.max_rotation_step / PERIOD)
        speed = max(_norm(velocity) / fastest, (_norm(turn) - _ROUNDING) / turning)
        return _Path(position, quaternion, velocity, turn), max(linear, angular), speed

    def _depth(self, position: NDArray[np.float64]) -> NDArray[np.float64]:
        """How deep a position (3,) is in each keep-out box, below its nearest face, float64 (n,) [m]; 0 outside."""
        around = self._limits.keep_out_distance * np.array([[-1.0], [1.0]])
        boxes = np.reshape(self._limits.keep_out, (-1, 2, 3)) + around
        depth: NDArray[np.float64] = np.concatenate([position - boxes[:, 0], boxes[:, 1] - position], axis=1)
        return depth.min(axis=1).clip(0.0)

    def _see_joints(
        self, positions: NDArray[np.float64], measured: NDArray[np.float64], void: bool, where: str
    ) -> None:
        """Joint positions were commanded; `void`: they may have begun at the measured ones, at rest."""
        limits, ratios = self._limits, self.ratios
        low, high = self._kinematics.lower + limits.joint_margin, self._kinematics.upper - limits.joint_margin
        fastest = np.minimum(limits.joint_velocity_scaling * self._kinematics.velocity, limits.max_joint_step / PERIOD)
        here = _JointPath(measured, np.zeros(len(measured)))
        before = [*self._joint_paths, here] if void or not self._joint_paths else self._joint_paths
        found = []
        for path in before:
            velocity = (positions - path.positions) / PERIOD
            acceleration = float(np.abs(velocity - path.velocity).max()) / PERIOD / limits.joint_acceleration
            out = np.maximum(low - positions, positions - high).clip(0.0)
            was_out = np.maximum(low - path.positions, path.positions - high).clip(0.0)
            speed = float((np.abs(velocity) / fastest).max())
            found.append((acceleration, speed, float(np.max(out - was_out)), _JointPath(positions, velocity)))
        kept = [each for each in found if each[0] <= 1.0 + 1e-6] or [min(found, key=lambda each: each[0])]
        acceleration, speed, outside, _ = min(kept, key=lambda each: each[1])
        self._joint_paths = [*{tuple(each[3].velocity.tolist()): each[3] for each in kept}.values()][-4:]
        ratios.note("joint_acceleration", acceleration, where)
        ratios.note("joint_speed", speed, where)
        ratios.note("outside", outside, where)

    def _see_gripper(self, width: float, measured: float, void: bool, where: str) -> None:
        """A gripper width [m] was commanded; `void`: it may have begun at the measured one."""
        starts = ([] if self._width is None else [self._width]) + ([measured] if void or self._width is None else [])
        # Who begins outside the limits goes inside at once, which is no motion of ours.
        inside = [self._limits.width_within(start) for start in starts]
        change = min(abs(width - start) for start in [*starts, *inside])
        self.ratios.note("gripper_speed", change / (self._limits.max_gripper_velocity * PERIOD), where)
        self._width = width

    def _may_be_void(self, here: _Path, joints: bool, measured: Measured) -> bool:
        """Whether the commanded pose may begin at the measured one, at rest.

        Without a history; when it stands and a motion in joint space begins, which starts from the measured joints; and
        when it stands and the tool is found elsewhere.
        """
        if not self._paths or self._doubted_ns is not None:
            return True
        for joint_path in self._joint_paths:
            apart = float(np.abs(joint_path.positions - measured.joints).max())
            stands = float(np.abs(joint_path.velocity).max()) <= _STANDING
            if joints and stands and apart > self._limits.tracking_rotation_error:
                return True
        for path in self._paths:
            if _norm(path.velocity) > _STANDING or _norm(path.turn) > _ROUNDING:
                continue
            distance, angle = _norm(path.position - here.position), _norm(_rotation(path.quaternion, here.quaternion))
            elsewhere = distance > self._limits.tracking_error or angle > self._limits.tracking_rotation_error
            if elsewhere or (joints and not self._joints):
                return True
        return False


def _norm(vector: NDArray[np.float64]) -> float:
    return math.hypot(*vector.tolist())


def _rotation(start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation vector float64[3] [rad] from one unit quaternion (xyzw) to another, in the common frame."""
    vector = start[3] * end[:3] - end[3] * start[:3] - np.cross(end[:3], start[:3])
    real = float(start @ end)
    if real < 0.0:
        vector, real = -vector, -real
    sine = float(np.linalg.norm(vector))
    return vector * (2.0 * math.atan2(sine, real) / sine if sine > 1e-12 else 2.0)
