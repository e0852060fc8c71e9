# SPDX-License-Identifier: Apache-2.0
"""A leader arm as a device: it follows the robot, is grabbed, leads, and gives the robot back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Protocol

import numpy as np
from serl_robots.model.pose import Pose

from serl_tasks import ArmSample
from serl_teleop.devices.device import GRAB, REST, DeviceState, Motion
from serl_teleop.devices.leader.chain import Joints
from serl_teleop.devices.leader.grab import GrabDetector, GrabSettings
from serl_teleop.devices.leader.space import Space

_LONGEST_STEP: Final = 0.1  # [s] between two looks that is made up for
_SLACK: Final = (
    0.03  # [rad] by which a joint in the hand may be moved before its goal gives way: it stays where it is left
)
_HANDLE_MOVED: Final = 0.05  # share of its range that a handle has to be moved, before it moves the gripper
_HANDLE_NEAR: Final = 0.15  # and how near to the gripper's opening it has to come
_AHEAD: Final = 0.08  # [m] that the leader may be ahead of what is commanded; what is beyond is lost
_TURNED_AHEAD: Final = 0.5  # [rad]


@dataclass(frozen=True)
class LeaderReading:
    """Where a leader arm is."""

    joints: Joints
    """Angles (n,) [rad]."""
    handle: float | None = None
    """Opening of its handle, 0 closed to 1 open; None: it has none."""


class LeaderHardware(Protocol):
    """An arm that a person leads by."""

    @property
    def description(self) -> str:
        """What it is and where, for people."""

    @property
    def is_driven(self) -> bool:
        """Whether it goes where it is sent; else it is moved by hand alone."""

    def read(self, now: float) -> LeaderReading | None:
        """Where it is; None before it is known.

        Raises:
            DeviceError: it is gone, or something is wrong with it.
        """

    def send(self, joints: Joints, handle: float, *, held: bool) -> None:
        """Go to angles (n,) [rad] and an opening in [0, 1]; `held`: by the torque that a hand at it is to feel.

        Raises:
            DeviceError: as `read`.
        """

    def close(self) -> None:
        """Let go of it: it is limp afterwards. A second call does nothing."""


@dataclass(frozen=True)
class LeaderSettings:
    """How a leader arm follows and is followed."""

    grab: GrabSettings = field(default_factory=GrabSettings)
    speed: float = 1.0
    """[rad/s] at which it follows at most, all joints together."""
    lag: float = 0.05
    """[s] by which it is behind its goal; what is no lag is a hand."""
    blend: float = 0.3
    """[s] in which the lead of a person who has let go fades."""


class Leading(Enum):
    """Who has the arm."""

    FOLLOWING = "follows the robot"
    LEADING = "leads"
    BLENDING = "gives the robot back"


class LeaderArm:
    """Turns a leader's joints into motions of the robot's tool; see `Device`.

    The lead is relative: nothing is asked for at the moment of the grab, and of where the leader is ahead of the robot
    by more than the robot can follow nothing is kept, so an arm that has stopped at a wall turns round with the hand.
    """

    def __init__(
        self,
        hardware: LeaderHardware,
        space: Space,
        settings: LeaderSettings,
        robot: Callable[[], ArmSample | None],
        full_width: float,
        buttons: Callable[[], frozenset[str]] = frozenset,
        lead_button: str = "",
    ) -> None:
        """Begin with an arm that nobody holds.

        Args:
            hardware: the arm.
            space: how it corresponds to the robot.
            settings: how it follows and is followed.
            robot: newest state of the robot; None: it is not known, and nothing is followed.
            full_width: of the robot's gripper when the handle is open [m].
            buttons: names of those beside the arm that are held, as of a pedal.
            lead_button: of these, by which the person leads as long as it is held, and only then; empty: whoever
                takes the arm by the hand leads.
        """
        self._hardware, self._space, self._settings, self._robot = hardware, space, settings, robot
        self._full_width, self._buttons, self._lead_button = full_width, buttons, lead_button
        self._grab = GrabDetector(settings.grab)
        self.state = Leading.FOLLOWING
        self._since = 0.0  # local time at which it began to give the robot back
        self._looked_at: float | None = None
        self._goal: Joints | None = None  # where the leader was sent last
        self._expected: Joints | None = None  # where it would be by now if nobody held it
        self._start: Joints | None = None  # of the leader
        self._wanted: Pose | None = None  # of the robot's tool
        self._commanded: Pose | None = None  # of the robot's tool, at the last look
        self._picked_up = False  # whether the handle moves the gripper
        self._handle: float | None = None  # at the grab
        self._side = 0.0  # on which the handle is of the gripper's opening

    @property
    def description(self) -> str:
        """What the arm is and where."""
        return self._hardware.description

    def close(self) -> None:
        """Let go of the arm."""
        self._hardware.close()

    def read(self, now: float) -> DeviceState | None:
        """Look at the arm, send it where it belongs, and return what is asked of the robot; see `Device`.

        Raises:
            DeviceError: the arm is gone, or something is wrong with it.
        """
        reading = self._hardware.read(now)
        if reading is None:
            return None
        elapsed = 0.0 if self._looked_at is None else min(now - self._looked_at, _LONGEST_STEP)
        self._looked_at, robot, buttons = now, self._robot(), self._buttons()
        held = self._is_held(reading.joints, elapsed, now, follows=robot is not None)
        if self._lead_button:
            held = self._lead_button in buttons
        if held and self.state is not Leading.LEADING:
            self._take(reading, robot)
        elif self.state is Leading.LEADING and not held:
            self.state, self._since = Leading.BLENDING, now
            self._goal = self._expected = reading.joints
            self._grab.forget(grabbed=False)
        if self.state is Leading.BLENDING and now - self._since >= self._settings.blend:
            self.state = Leading.FOLLOWING
        self._send(reading, robot, elapsed)
        motion, gripper, buttons = None, None, buttons - {self._lead_button}
        if self.state is not Leading.FOLLOWING:
            buttons |= {GRAB}
            if robot is not None:
                motion = self._motion(reading.joints, robot, now)
                gripper = self._gripper(reading.handle, robot)
        return DeviceState(REST, buttons, gripper, now, motion, self._shown(reading))

    # Whose hand

    def _is_held(self, joints: Joints, elapsed: float, now: float, *, follows: bool) -> bool:
        """Whether a hand is at the arm; it leads already, or else is not where it would go by itself."""
        leads = self.state is Leading.LEADING
        if leads or not (follows and self._hardware.is_driven):
            return self._grab.update(joints, now)
        goal = joints if self._goal is None else self._goal
        expected = joints if self._expected is None else self._expected
        share = 1.0 - math.exp(-elapsed / self._settings.lag) if self._settings.lag > 0.0 else 1.0
        self._expected = expected + share * (goal - expected)
        return self._grab.update(self._expected - joints, now)

    def _take(self, reading: LeaderReading, robot: ArmSample | None) -> None:
        """A person has taken the arm: their lead begins where the leader and the robot are."""
        self.state, self._start, self._goal = Leading.LEADING, reading.joints, reading.joints
        self._wanted = self._commanded = None if robot is None else _commanded(robot)
        self._handle, self._picked_up, self._side = reading.handle, False, 0.0
        self._grab.forget(grabbed=True)

    # Where the leader goes

    def _send(self, reading: LeaderReading, robot: ArmSample | None, elapsed: float) -> None:
        if robot is None or not self._hardware.is_driven:
            return
        joints = reading.joints
        before = joints if self._goal is None else self._goal
        if self.state is Leading.LEADING:  # it stays where it is left, and gives way to the hand
            self._goal = np.clip(before, joints - _SLACK, joints + _SLACK)
        else:
            way = self._space.leader_for(robot, before) - before
            length, most = float(np.linalg.norm(way)), self._settings.speed * elapsed
            self._goal = before + way * min(1.0, most / max(length, 1e-9))
        leads = self.state is Leading.LEADING
        handle = reading.handle if leads and reading.handle is not None else robot.gripper_target / self._full_width
        self._hardware.send(self._goal, handle, held=leads)

    # What the robot is asked for

    def _motion(self, joints: Joints, robot: ArmSample, now: float) -> Motion:
        """Way [m] and turn [rad] from what is commanded to what the person wants."""
        commanded, before = _commanded(robot), self._commanded
        self._commanded = commanded
        if self._wanted is None or before is None or commanded.distance(before) > _AHEAD:  # the world was reset
            self._wanted, self._start = commanded, joints
        share = 1.0
        if self.state is Leading.BLENDING:  # the leader goes by itself: that is nobody's wish
            share = max(0.0, 1.0 - (now - self._since) / self._settings.blend)
        elif self._start is not None:
            self._wanted = _moved(self._wanted, self._space.motion(self._start, joints, robot))
            self._start = joints
        way = _shortened(self._wanted.position - commanded.position, _AHEAD)
        turn = _shortened(commanded.rotation_vector_to(self._wanted), _TURNED_AHEAD)
        self._wanted = _moved(commanded, Pose.from_rotation_vector(way, turn))
        x, y, z, rx, ry, rz = (share * np.concatenate([way, turn])).tolist()
        return x, y, z, rx, ry, rz

    def _gripper(self, handle: float | None, robot: ArmSample) -> float | None:
        """What is asked of the gripper: nothing until the handle has been moved, and has met the gripper's opening."""
        if handle is None or self._handle is None:
            return None
        ahead = handle - robot.gripper_target / self._full_width
        moved = abs(handle - self._handle) > _HANDLE_MOVED
        if self.state is Leading.LEADING and moved and (abs(ahead) <= _HANDLE_NEAR or ahead * self._side < 0.0):
            self._picked_up = True
        self._side = ahead
        return min(max(2.0 * handle - 1.0, -1.0), 1.0) if self._picked_up else None

    def _shown(self, reading: LeaderReading) -> str:
        joints = " ".join(f"{math.degrees(angle):+.0f}" for angle in reading.joints.tolist())
        handle = "" if reading.handle is None else f", handle {100.0 * reading.handle:.0f} %"
        return f"joints {joints} deg{handle}, varies by {1e3 * math.sqrt(self._grab.variance):.1f} mrad"


def _commanded(robot: ArmSample) -> Pose:
    return robot.tcp if robot.commanded is None else robot.commanded


def _moved(pose: Pose, move: Pose) -> Pose:
    """A pose after a way along, and a turn about, the axes of the base."""
    turned = Pose((0.0, 0.0, 0.0), move.quaternion).compose(Pose((0.0, 0.0, 0.0), pose.quaternion))
    return Pose(pose.position + move.position, turned.quaternion)


def _shortened(vector: Joints, most: float) -> Joints:
    length = float(np.linalg.norm(vector))
    return vector if length <= most else vector * (most / length)
