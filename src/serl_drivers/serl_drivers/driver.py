# SPDX-License-Identifier: Apache-2.0
"""Moves an arm by its device: connects, interpolates, clamps, holds where commands end, and stops on faults."""

from __future__ import annotations

import enum
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from serl_planning.inverse_kinematics import InverseKinematics
from serl_robots.model.joint_trajectory import JointTrajectoryPlan, TrajectoryError
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.link_clearance import LinkClearance
from serl_robots.model.pose import Pose
from serl_robots.model.robot import RobotModel

from serl_drivers.device import ArmDevice, DriverError, Joints, Reading
from serl_drivers.gripper import Activates
from serl_drivers.motion import Clamp, JointMotion, Motion, ToolMotion

_FOLLOWS = "follows commands"


class State(enum.Enum):
    """What a driver is doing."""

    UNCONFIGURED = "unconfigured"
    """There is no connection; one is tried for."""
    LIMP = "limp"
    """Connected, with the torque off: on request, or because it was found so."""
    HOLDING = "holding"
    """The arm stands, with torque."""
    ACTIVE = "active"
    """It follows commands."""
    FAULT = "fault"
    """It stands, if it can, until somebody asks for a new connection."""


@dataclass(frozen=True)
class DriverSettings:
    """Times and distances of a driver."""

    period: float = 0.01
    """Between two targets on the wire [s]."""
    control_period: float = 0.1
    """Time in which a tool pose, which comes without one, is to be reached [s]."""
    silence: float = 0.25
    """Time without commands after which the arm is told to hold [s]."""
    longest: float = 30.0
    """Duration of the longest trajectory that is followed [s]: up to its end the arm moves though nobody commands."""
    lost: float = 0.2
    """Time without an answer after which the connection is lost [s]."""
    retry: float = 1.0
    """Between two attempts to connect [s]."""
    hold_patience: float = 2.0
    """Time for which an arm that was asked to hold is told so again, while it does not [s]."""
    most_lag: float = 0.5
    """Largest distance of a joint's command from where it is measured [rad]: an arm that is stuck does not wind up."""
    gripper_speed: float = 0.2
    """Largest speed of the opening [m/s]."""


@dataclass
class _Wanted:
    """What was commanded since the loop has looked last."""

    motion: JointTrajectoryPlan | Pose | None = None
    width: float | None = None
    at: float = -math.inf


class Driver:
    """Runs a device: `tick` in one thread, everything else from any.

    The arm starts from where it is measured, and so it does after every hold.
    """

    def __init__(
        self,
        device: ArmDevice,
        robot: RobotModel,
        kinematics: Kinematics,
        inverse: InverseKinematics,
        settings: DriverSettings | None = None,
        say: Callable[[str], None] = lambda text: None,
        links: LinkClearance | None = None,
    ) -> None:
        """Run `device` as `robot`.

        Args:
            device: not connected yet.
            robot: whose limits hold.
            kinematics: of that robot; used in the thread of `tick` alone.
            inverse: for tool poses.
            settings: times and distances; None: those that are the default.
            say: hears of each change of state, in one line.
            links: boxes that the arm's links keep out of, whoever commands; None: there are none.
        """
        self._links = links
        self._device, self._kinematics, self._inverse, self._say = device, kinematics, inverse, say
        self.settings = settings if settings is not None else DriverSettings()
        gripper = robot.gripper
        self._clamp = Clamp(
            kinematics.lower, kinematics.upper, kinematics.velocity,
            gripper.min_width, gripper.max_width, self.settings.gripper_speed,
        )  # fmt: skip
        self._lock = threading.Lock()
        self._wanted = _Wanted()
        self._asked: str | None = None  # what `ask` takes
        self._hold_by = -math.inf  # time up to which it is told to hold, as was asked for
        self._state, self._reason = State.UNCONFIGURED, "not connected yet"
        self._joints: Joints | None = None  # commanded last; None: nothing since the arm was told to hold
        self._width = self._wanted_width = 0.0
        self._motion: Motion | None = None
        self._dispute = ""  # why nobody is followed
        self._stands_for = ""  # the same, of the turn that is done now
        self._limp = False  # nothing but a request switches the torque on again
        self._failures = self._kept_out = 0
        self._fault_reason = ""
        self._commanded_at = -math.inf
        self._heard_at = -math.inf
        self._tried_at = -math.inf
        self._ticked_at = -math.inf

    # From any thread

    @property
    def state(self) -> State:
        """What it is doing."""
        return self._state

    @property
    def reason(self) -> str:
        """Why it is doing that."""
        return self._reason

    @property
    def failures(self) -> int:
        """How many turns the arm has not answered, or has not taken what it was told, since the start."""
        return self._failures

    @property
    def kept_out(self) -> int:
        """How many targets have not been sent since the start, as a link would have got into a keep-out box."""
        return self._kept_out

    @property
    def is_disputed(self) -> bool:
        """Whether it stands because more than one commands it; then `reason` says who."""
        return self._state is State.HOLDING and self._reason == self._stands_for

    def dispute(self, why: str) -> None:
        """Hold, and follow nobody, for a reason; empty: follow commands again."""
        with self._lock:
            self._dispute, self._wanted = why, _Wanted()

    def follow_joints(self, plan: JointTrajectoryPlan, now: float) -> None:
        """Go along `plan` from `now` on [s]; it begins where the joints are commanded then, not at its first point.

        Raises:
            TrajectoryError: it is longer than the settings allow.
        """
        longest = self.settings.longest
        if plan.duration > longest:
            raise TrajectoryError(
                f"expected a trajectory of at most {longest:g} s, as nobody holds the arm before its end, found "
                f"{plan.duration:g} s; send it in parts"
            )
        with self._lock:
            self._wanted.motion, self._wanted.at = plan, now

    def follow_pose(self, goal: Pose, now: float) -> None:
        """Bring the tool to `goal`, in the base frame, within a control period from `now` on [s]."""
        with self._lock:
            self._wanted.motion, self._wanted.at = goal, now

    def open_to(self, width: float, now: float) -> None:
        """Open the gripper to a width [m]. Raises ValueError where that is not finite."""
        if not math.isfinite(width):
            raise ValueError(f"expected a finite width [m], found {width}")
        with self._lock:
            self._wanted.width, self._wanted.at = float(width), now

    def ask(self, what: str) -> None:
        """Ask for `release` (torque off), `hold` (here, with torque), `connect` (anew, after a fault) or `activate`.

        The last is for a gripper whose fingers have to open and close before it takes commands, and moves them at once.

        Raises:
            ValueError: it is none of them, or cannot be in this state; says what can.
        """
        if what not in ("release", "hold", "connect", "activate"):
            raise ValueError(f"expected release, hold, connect or activate, found {what!r}")
        if what == "activate" and not isinstance(self._device, Activates):
            raise ValueError(f"nothing of {self._device.description} has to be activated")
        state = self._state
        if state is State.UNCONFIGURED and what != "connect":
            raise ValueError(f"there is no connection: {self._reason}")
        if state is State.FAULT and what == "hold":
            raise ValueError(f"in fault, ask for connect: {self._reason}")
        if state not in (State.UNCONFIGURED, State.FAULT) and what == "connect":
            raise ValueError(f"it is connected, and {state.value}")
        if state is State.ACTIVE and what == "activate":
            raise ValueError("it follows commands; ask for that while it holds")
        with self._lock:
            self._asked = what

    # In the thread of the loop

    def tick(self, now: float) -> Reading | None:
        """Do what is due at `now` [s]; the newest reading, None where the arm has told none."""
        with self._lock:
            wanted, self._wanted = self._wanted, _Wanted()
            asked, self._asked = self._asked, None
            dispute = self._dispute
        period = min(max(now - self._ticked_at, 0.0), 2.0 * self.settings.period)
        self._ticked_at = now
        try:
            return self._tick(now, period, wanted, asked, dispute)
        except DriverError as error:
            self._failed(now, error)
            return None

    def close(self, *, limp: bool) -> None:
        """Leave the arm holding where it is, or `limp`, and end the connection; an arm that was let go stays so."""
        try:
            if self._state is not State.UNCONFIGURED and not self._limp:
                (self._device.release if limp else self._device.hold)()
        except DriverError as error:
            self._say(f"{self._device.description}: at the end: {error}")
        finally:
            self._device.close()
            self._change(State.UNCONFIGURED, "closed")

    def _tick(self, now: float, period: float, wanted: _Wanted, asked: str | None, dispute: str) -> Reading | None:
        before, self._stands_for = self._stands_for, dispute
        if asked is not None:
            self._hold_by = now + self.settings.hold_patience if asked == "hold" else -math.inf
        if asked == "connect" and self._state in (State.FAULT, State.UNCONFIGURED):
            self._device.close()
            self._change(State.UNCONFIGURED, "connecting anew")
            self._tried_at = -math.inf
        if self._state is State.UNCONFIGURED:
            if now - self._tried_at < self.settings.retry:
                return None
            self._tried_at = now
            self._device.connect()
            self._device.read()  # one that cannot be read, as with two servos of one id, is not connected
            self._heard_at = now
            without = self._device.limp()
            if without:  # whoever left it so may have a hand in it
                self._joints, self._limp = None, True
                self._change(
                    State.LIMP, f"connected, and found without torque at {without}; driver/hold switches it on"
                )
            else:
                self._hold("connected")
        if asked == "release":
            self._release()
        if asked == "activate" and isinstance(self._device, Activates):
            try:
                self._device.activate()
            except DriverError as error:
                self._say(f"{self._device.description}: cannot be activated: {error}")
        reading = self._device.read()
        if reading.faults and self._state is not State.FAULT:
            self._fault("; ".join(reading.faults))
        if now <= self._hold_by and self._state in (State.LIMP, State.HOLDING, State.ACTIVE):
            self._hold_as_asked()
        elif dispute and self._state is State.ACTIVE:
            self._hold(dispute)
        elif self._state is State.HOLDING and (dispute or before):
            self._change(State.HOLDING, dispute or "one alone commands again")
        elif self._state in (State.HOLDING, State.ACTIVE):
            self._move(now, period, wanted, reading)
        self._heard_at = now
        return reading

    def _move(self, now: float, period: float, wanted: _Wanted, reading: Reading) -> None:
        if wanted.motion is not None or wanted.width is not None:
            if self._joints is None:
                self._joints, self._width = reading.positions.copy(), reading.width
                self._motion, self._wanted_width = None, reading.width
            if wanted.motion is not None:
                # begun a period ago, whenever in between it came: this target is the first step of the way already
                self._motion = self._begin(wanted.motion, now - self.settings.period)
            if wanted.width is not None:
                self._wanted_width = wanted.width
            self._commanded_at = wanted.at
            if self._state is not State.ACTIVE:
                self._change(State.ACTIVE, _FOLLOWS)
        if self._state is not State.ACTIVE or self._joints is None:
            return
        over = self._commanded_at if self._motion is None else max(self._commanded_at, self._motion.ends)
        if now - over > self.settings.silence:
            self._hold("no commands")
            return
        goal = self._joints if self._motion is None else self._motion.at(now, self._joints)
        lag = self.settings.most_lag
        goal = np.clip(goal, reading.positions - lag, reading.positions + lag)
        joints = self._clamp.joints(goal, self._joints, period)  # last: no target is faster than a joint may be
        link = "" if self._links is None else self._links.blocked(self._joints, joints)
        if link:
            joints = self._joints
            self._kept_out += 1
        self._change(State.ACTIVE, f"stands, as {link} would get into a keep-out box" if link else _FOLLOWS)
        width = self._clamp.width(self._wanted_width, self._width, period)
        self._device.write(joints, width)
        self._joints, self._width = joints, width

    def _begin(self, wanted: JointTrajectoryPlan | Pose, at: float) -> Motion:
        """The motion from where the arm is commanded now."""
        assert self._joints is not None
        if isinstance(wanted, JointTrajectoryPlan):
            return JointMotion(wanted.begun_from(self._joints), at)
        start = self._kinematics.tcp(self._joints)
        return ToolMotion(self._inverse, start, wanted, at, at + self.settings.control_period)

    def _hold_as_asked(self) -> None:
        """Hold; a limp arm that does not is told again in the next turn, and is no lost one: it has just been read."""
        is_limp = self._state is State.LIMP
        try:
            self._hold("as was asked for")
        except DriverError as error:
            if not is_limp:
                raise
            self._failures += 1
            self._change(State.LIMP, f"asked to hold, and does not, or not with all of it: {error}")
        else:
            self._hold_by = -math.inf

    def _hold(self, why: str) -> None:
        self._device.hold()
        self._joints, self._limp = None, False
        self._change(State.HOLDING, why)

    def _release(self) -> None:
        """Switch the torque off in any state, also where nothing is heard of the arm any more."""
        try:
            self._device.release()
        except DriverError as error:
            self._say(f"{self._device.description}: the torque cannot be switched off: {error}")
            return
        self._joints, self._limp = None, True
        if self._state is State.FAULT:
            self._change(State.FAULT, f"the torque is off, as was asked for, after: {self._fault_reason}")
        else:
            self._change(State.LIMP, "the torque is off, as was asked for")

    def _fault(self, why: str) -> None:
        self._joints, self._fault_reason = None, why
        if not self._limp:
            try:
                self._device.hold()
            except DriverError:
                why = f"{why}; nor can it be told to hold: it does what its own controller does then"
        self._change(State.FAULT, why)

    def _failed(self, now: float, error: DriverError) -> None:
        self._failures += 1
        if self._state is State.UNCONFIGURED:
            self._device.close()
            self._change(State.UNCONFIGURED, str(error))
        elif self._state is not State.FAULT and now - self._heard_at > self.settings.lost:
            self._fault(f"the connection is lost: {error}")

    def _change(self, state: State, reason: str) -> None:
        if (state, reason) != (self._state, self._reason):
            self._state, self._reason = state, reason
            self._say(f"{self._device.description}: {state.value}: {reason}")
