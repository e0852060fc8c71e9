# SPDX-License-Identifier: Apache-2.0
"""When the next command is due, whether the past still counts, and who is waited for: what differs with time.

`Lockstep` and `RealTime` answer these questions each in its own way; an `ArmController` is given one of them and asks.
"""

from abc import ABC, abstractmethod
from typing import Final

import numpy as np

from serl_robots.control.arbitration import ActionInput, Person, Policy
from serl_robots.control.arm_command import CommandIntegrator
from serl_robots.control.control_step import Measured
from serl_robots.safety.limits import SafetyLimits
from serl_robots.safety.silence import Pace

SECOND_NS: Final = 1_000_000_000
FASTEST_ARM: Final = 2.0  # [m/s]
_LARGEST_JUMP: Final = 0.02  # [m] between two joint states, beyond what an arm can do


class Pacing(ABC):
    """Commands go on from the last one, one for each control period, unless the past no longer counts.

    It does not before the first command, when the world was reset, and when a tool whose commanded pose has been
    standing is found elsewhere: somebody else has moved it, and to go on from the old pose would pull it back.

    Attributes:
        time_runs: whether time goes on without commands, so that an arm whose leader falls silent must be held.
        started: whether anything was commanded.
        commanded_ns: stamp of the state that the newest command started from, None in a new state time.
        commanded_at: local time of the newest command [s].
        advanced_at: local time of the newest joint states that were not a repetition [s].
        is_void: whether the arm was put elsewhere since the last command.
        is_displaced: whether, in lockstep, something else than the last command moved the tool to where it is.
        is_doubtful: whether the newest state is too far from the one before to be believed yet.
        pace: of state time.
    """

    time_runs: bool

    def __init__(self, integrator: CommandIntegrator, limits: SafetyLimits, period: float) -> None:
        """Begin without a past; `period` [s] is that of control."""
        self._integrator, self._limits = integrator, limits
        self._period, self._period_ns = period, round(period * SECOND_NS)
        self.pace = Pace()
        self.started = False
        self.commanded_ns: int | None = None
        self.commanded_at = -1e9
        self.advanced_at = 0.0
        self.is_void = self.is_doubtful = self.is_displaced = False

    # Joint states

    def hear(self, before: Measured | None, measured: Measured, *, announced: bool) -> bool:
        """Joint states came; `announced` says whether a new episode was since the last command.

        Returns:
            Whether their source began anew, so that stamps cannot be compared with those before.
        """
        self.pace.hear(measured.stamp_ns, measured.received_at)
        if before is None or measured.stamp_ns != before.stamp_ns:
            self.advanced_at = measured.received_at
        if before is None:
            return False
        anew = self._begins_anew(measured.stamp_ns - before.stamp_ns)
        if anew:
            self.commanded_ns = None
            self.pace.restart()
            self._begin_time(measured)
        self._look_for_jumps(before, measured, announced)
        return anew

    @abstractmethod
    def is_overtaken(self, before: Measured, measured: Measured) -> bool:
        """Whether joint states were overtaken on their way by the newer ones `before`."""

    @abstractmethod
    def _begins_anew(self, elapsed_ns: int) -> bool:
        """Whether the source of the joint states begins anew, so much state time after the ones before."""

    @abstractmethod
    def _begin_time(self, measured: Measured) -> None:
        """State time begins anew with `measured`."""

    @abstractmethod
    def _look_for_jumps(self, before: Measured, measured: Measured, announced: bool) -> None:
        """Sets `is_void`, `is_displaced` and `is_doubtful`."""

    @abstractmethod
    def loss_of_states(self, measured: Measured, now: float) -> str | None:
        """Why nothing may move any more at the local time `now` [s]: joint states stay away, or stand still."""

    @abstractmethod
    def end_of_world(self, measured: Measured, now: float) -> str | None:
        """Why a motion is given up at the local time `now` [s]: the world does not move any more."""

    # Commands

    @abstractmethod
    def is_due(self, measured: Measured, *, urgent: bool = False) -> bool:
        """May a command be given now? One for each control period of state time.

        An `urgent` one does not wait for the last tenth of the period, by which commands may come early anyway.
        """

    @abstractmethod
    def is_late(self, measured: Measured) -> bool:
        """Whether the next command should have been given by now."""

    @abstractmethod
    def is_overdue(self, now: float) -> bool:
        """Whether a command is due by local time, because no joint states come to say so."""

    @abstractmethod
    def has_lapsed(self, measured: Measured) -> bool:
        """Whether no command was given for so long that the arm has come to rest at the last one."""

    def note(self, stamp_ns: int, now: float) -> None:
        """A command is given, on the state of `stamp_ns`, at the local time `now` [s]."""
        self.commanded_ns, self.commanded_at = stamp_ns, now

    # The past

    @abstractmethod
    def stands(self, measured: Measured) -> bool:
        """Whether the commanded pose has been standing for so long that the arm stands too."""

    @abstractmethod
    def world_moved(self, measured: Measured) -> bool:
        """Whether something else than our last command moved a world in lockstep."""

    @abstractmethod
    def _was_reset(self, measured: Measured, *, fresh: bool) -> bool:
        """Whether the world was reset since the last command; with `fresh` an episode begins."""

    def drop_if_void(self, measured: Measured, *, fresh: bool) -> bool:
        """Puts the commanded pose where the tool is, at rest, if what was commanded before no longer counts.

        With `fresh` an episode begins: then the gripper's measured width counts too. A doubtful pose moves nothing.
        """
        integrator = self._integrator
        counts = self.started and not (self.is_void or self._was_reset(measured, fresh=fresh))
        if self.is_doubtful or (counts and (self.is_near(measured) or not self.stands(measured))):
            return False
        keeps_grip = self.started and not fresh
        width = integrator.gripper_width if keeps_grip else measured.gripper_width
        integrator.reset(measured.tcp, width, measured.joints)
        self.started, self.is_void = True, False
        return True

    def is_near(self, measured: Measured) -> bool:
        """Whether the arm is where it was commanded to, more or less."""
        if not self.started:
            return False
        target, joints, limits = self._integrator.target, self._integrator.joint_positions, self._limits
        if target.distance(measured.tcp) > limits.tracking_error:
            return False
        if joints is not None and float(np.abs(joints - measured.joints).max()) > limits.tracking_rotation_error:
            return False  # the elbow may be elsewhere while the tool is not
        return target.angle(measured.tcp) <= limits.tracking_rotation_error

    # Who leads

    @abstractmethod
    def staleness(self, message: ActionInput, measured: Measured | None) -> str | None:
        """Why a step of the policy is out of date, or None."""

    @abstractmethod
    def out_of_date(self, message: ActionInput, person: Person, episode: int | None) -> str | None:
        """Why a message of the person's device is out of date, or None; empty where nobody needs to be told."""

    @abstractmethod
    def leading(self, person: Person, now: float) -> ActionInput | None:
        """What the person wants while they lead by themselves."""

    @abstractmethod
    def answer(self, person: Person, message: ActionInput) -> ActionInput | None:
        """What a synchronous person said to a step of the policy, if they did."""

    @abstractmethod
    def waits_for(self, person: Person, answer: ActionInput | None) -> bool:
        """Whether a step of the policy waits for the `answer` of a person who is expected."""

    @abstractmethod
    def comes_first(self, *, early: bool) -> bool:
        """Whether a step that is there comes before what a person wants; `early`: its episode is not announced yet."""

    @abstractmethod
    def is_policy_alive(self, policy: Policy, measured: Measured, *, episode_runs: bool) -> bool:
        """Whether the policy gives the steps, so that a person only answers them."""

    @abstractmethod
    def may_person_drive(self, now: float) -> bool:
        """Whether, at the local time `now` [s], a person who drives alone may give a command that is due."""

    @abstractmethod
    def is_pause(self, measured: Measured, now: float) -> bool:
        """Whether time stands still at the local time `now` [s] because nobody commands anything."""


def is_far(before: Measured, measured: Measured, speed: float) -> bool:
    """Whether the tool got further than with `speed` [m/s] between two joint states."""
    elapsed = max((measured.stamp_ns - before.stamp_ns) / SECOND_NS, 0.0)
    return before.tcp.distance(measured.tcp) > _LARGEST_JUMP + speed * elapsed


def has_jumped(before: Measured, measured: Measured) -> bool:
    """Whether the tool got further between two joint states than it does without any speed."""
    return before.tcp.distance(measured.tcp) > _LARGEST_JUMP
