# SPDX-License-Identifier: Apache-2.0
"""What was commanded when: whether the next command is due, and whether the past still counts."""

from typing import Final

import numpy as np

from serl_robots.control.arm_command import CommandIntegrator
from serl_robots.control.control_step import Measured
from serl_robots.safety.limits import SafetyLimits
from serl_robots.safety.silence import Pace

_SECOND_NS: Final = 1_000_000_000
_STANDING_PERIODS: Final = 1.9  # after the last motion of the commanded pose, after which the arm stands too
_LATE_PERIODS: Final = 1.5  # after which a command is missed
_LAPSING_PERIODS: Final = 4  # without a command, after which the arm stands where it was commanded to
_LARGEST_GAP_NS: Final = _SECOND_NS  # between two joint states; beyond it their source began anew
_LARGEST_JUMP: Final = 0.02  # [m] between two joint states, beyond what an arm can do
_FASTEST_ARM: Final = 2.0  # [m/s]
_DISPLACING: Final = 2.0  # times the largest commanded velocity, at which no command moves the tool
_JITTER: Final = 0.02  # [s] of local time by which joint states may come early


class CommandHistory:
    """The commanded pose goes on from the last command, unless that no longer counts.

    It does not before the first command, when the world was reset, and when a tool whose commanded pose has been
    standing is found elsewhere: somebody else has moved it, and to go on from the old pose would pull it back.

    Attributes:
        started: whether anything was commanded.
        commanded_ns: stamp of the state that the newest command started from, None in a new state time.
        commanded_at: local time of the newest command [s].
        advanced_at: local time of the newest joint states that were not a repetition [s].
        is_void: whether the arm was put elsewhere since the last command.
        is_displaced: whether, in lockstep, something else than the last command moved the tool to where it is.
        is_doubtful: whether the newest state is too far from the one before to be believed yet.
        pace: of state time.
    """

    def __init__(self, integrator: CommandIntegrator, limits: SafetyLimits, period: float, *, lockstep: bool) -> None:
        """Begin without a past; `period` [s] is that of control."""
        self._integrator, self._limits = integrator, limits
        self._period, self._period_ns = period, round(period * _SECOND_NS)
        self._lockstep = lockstep
        self.pace = Pace()
        self.started = False
        self.commanded_ns: int | None = None
        self.commanded_at = -1e9
        self.advanced_at = 0.0
        self.is_void = self.is_doubtful = self.is_displaced = False
        self._believed: Measured | None = None  # in real time: newest state that the one before confirms
        self._moved_ns: int | None = None  # of the newest command that moved the commanded pose
        self._next_ns = 0  # earliest state time of the next command

    # Time

    def hear(self, before: Measured | None, measured: Measured, *, announced: bool) -> bool:
        """Joint states came; `announced` says whether a new episode was since the last command.

        Returns:
            Whether their source began anew, so that stamps cannot be compared with those before.
        """
        now = measured.received_at
        self.pace.hear(measured.stamp_ns, now)
        if before is None or measured.stamp_ns != before.stamp_ns:
            self.advanced_at = now
        if before is None:
            self._believed = measured
            return False
        elapsed_ns = measured.stamp_ns - before.stamp_ns
        anew = elapsed_ns < 0 or (elapsed_ns > self._period_ns + _LARGEST_GAP_NS and not self._lockstep)
        if anew:
            self.commanded_ns = None
            self.pace.restart()
            self._next_ns = 0
            if not self._lockstep:  # whether the last command is a period old cannot be known
                self._next_ns = self._moved_ns = measured.stamp_ns + self._period_ns
        if not self._lockstep:
            self._look_for_jumps(before, measured, announced)
        elif self.started:
            elsewhere = not self._is_near(measured)
            self.is_displaced = elsewhere and _is_far(before, measured, _DISPLACING * self._limits.max_velocity)
            self.is_void |= elsewhere and _is_far(before, measured, _FASTEST_ARM)
        return anew

    def is_due(self, measured: Measured, *, urgent: bool = False) -> bool:
        """May a command be given now? One for each control period of state time.

        An `urgent` one does not wait for the last tenth of the period, by which commands may come early anyway.
        """
        if self._lockstep:
            return measured.stamp_ns != self.commanded_ns
        if urgent and self.commanded_ns is not None:
            return measured.stamp_ns >= min(self._next_ns, self.commanded_ns + self._period_ns * 87 // 100)
        return measured.stamp_ns >= self._next_ns

    def is_late(self, measured: Measured) -> bool:
        """Whether, in real time, the next command should have been given by now."""
        commanded = self.commanded_ns
        return commanded is not None and measured.stamp_ns - commanded > _LATE_PERIODS * self._period_ns

    def is_overdue(self, now: float) -> bool:
        """Whether, in real time, a command is due by local time, because no joint states come to say so."""
        late = max(_LATE_PERIODS * self._period, self.pace.local(_LATE_PERIODS * self._period))
        return not self._lockstep and now - max(self.commanded_at, self.advanced_at) >= late

    def has_lapsed(self, measured: Measured) -> bool:
        """Whether, in real time, no command was given for so long that the arm has come to rest at the last one.

        Holds are commanded when others do not speak, so it was this process that stood still.
        """
        if self._lockstep or not self.started or self.commanded_ns is None:
            return False
        silent = measured.received_at - self.commanded_at > _LAPSING_PERIODS * self.pace.local(self._period)
        return silent and measured.stamp_ns - self.commanded_ns > _LAPSING_PERIODS * self._period_ns

    def note(self, stamp_ns: int, now: float) -> None:
        """A command is given: the next one is due a control period later.

        One that is late delays the next ones. They may catch up, 3 % faster and by a tenth of a period at most: a
        period is never much shorter than the limits take it to be.
        """
        self.commanded_ns, self.commanded_at = stamp_ns, now
        next_ns = max(self._next_ns, stamp_ns - self._period_ns // 10) + self._period_ns * 97 // 100
        # holds may be given between two periods, any number of them
        self._next_ns = min(next_ns, stamp_ns + self._period_ns)
        if not self._integrator.at_rest:
            self._moved_ns = stamp_ns

    # The past

    def stands(self, measured: Measured) -> bool:
        """Whether the commanded pose has been standing for so long that the arm stands too."""
        if self._lockstep:
            if self.commanded_ns is None:
                return True
            # the world has moved without us for some periods: so long the commanded pose stood
            stood = round((measured.stamp_ns - self.commanded_ns) / self._period_ns) - 1
            return stood > self._integrator.braking_periods
        moved = self._moved_ns
        rested = moved is None or measured.stamp_ns - moved >= _STANDING_PERIODS * self._period_ns
        return self.is_void or (self._integrator.at_rest and rested)

    def world_moved(self, measured: Measured) -> bool:
        """Whether something else than our last command moved a world in lockstep."""
        if not self._lockstep or self.commanded_ns is None:
            return False
        return abs(measured.stamp_ns - self.commanded_ns - self._period_ns) > self._period_ns // 2

    def drop_if_void(self, measured: Measured, *, fresh: bool) -> bool:
        """Puts the commanded pose where the tool is, at rest, if what was commanded before no longer counts.

        With `fresh` an episode begins: then the gripper's measured width counts too. A doubtful pose moves nothing.
        """
        integrator = self._integrator
        # in lockstep the world moves without a command only when it is reset, and for sim/step
        world_reset = fresh and self._lockstep and (self.commanded_ns is None or self.world_moved(measured))
        counts = self.started and not (self.is_void or world_reset)
        if self.is_doubtful or (counts and (self._is_near(measured) or not self.stands(measured))):
            return False
        keeps_grip = self.started and not fresh
        width = integrator.gripper_width if keeps_grip else measured.gripper_width
        integrator.reset(measured.tcp, width, measured.joints)
        self.started, self.is_void, self._moved_ns = True, False, None
        return True

    def _is_near(self, measured: Measured) -> bool:
        """Whether the arm is where it was commanded to, more or less."""
        if not self.started:
            return False
        target, joints, limits = self._integrator.target, self._integrator.joint_positions, self._limits
        if target.distance(measured.tcp) > limits.tracking_error:
            return False
        if joints is not None and float(np.abs(joints - measured.joints).max()) > limits.tracking_rotation_error:
            return False  # the elbow may be elsewhere while the tool is not
        return target.angle(measured.tcp) <= limits.tracking_rotation_error

    def _look_for_jumps(self, before: Measured, measured: Measured, announced: bool) -> None:
        """In real time: whether a simulator has put the arm somewhere.

        A reset takes a control period of state time and none of local time. Without a new episode only a pose that no
        arm can have reached tells, and only when the next one confirms it.
        """
        self.is_doubtful = False
        near = self._is_near(measured)
        elapsed = (measured.stamp_ns - before.stamp_ns) / _SECOND_NS
        if announced and not near and elapsed > 0.9 * self._period:
            local = 2.0 * (measured.received_at - before.received_at) + _JITTER
            moved = before.tcp.distance(measured.tcp)
            self.is_void |= moved > _LARGEST_JUMP and min(elapsed, self.pace.local(elapsed)) > local
        elif self._believed is not None and _is_far(self._believed, measured, _FASTEST_ARM):
            if _is_far(before, measured, _FASTEST_ARM):
                self.is_doubtful = not near
                return
            self.is_void |= not near
        self._believed = measured


def _is_far(before: Measured, measured: Measured, speed: float) -> bool:
    """Whether the tool got further than with `speed` [m/s] between two joint states."""
    elapsed = max((measured.stamp_ns - before.stamp_ns) / _SECOND_NS, 0.0)
    return before.tcp.distance(measured.tcp) > _LARGEST_JUMP + speed * elapsed
