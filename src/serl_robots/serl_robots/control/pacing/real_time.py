# SPDX-License-Identifier: Apache-2.0
"""Time that runs on by itself, on a real arm or in a simulation that does not wait."""

from typing import Final

from serl_robots.control.arbitration import ActionInput, Person, Policy
from serl_robots.control.arm_command import CommandIntegrator
from serl_robots.control.control_step import Measured
from serl_robots.control.pacing.pacing import FASTEST_ARM, SECOND_NS, Pacing, has_jumped, is_far
from serl_robots.safety.limits import SafetyLimits
from serl_robots.safety.silence import patience

_STANDING_PERIODS: Final = 1.9  # after the last motion of the commanded pose, after which the arm stands too
_LATE_PERIODS: Final = 1.5  # after which a command is missed
_LAPSING_PERIODS: Final = 4  # without a command, after which the arm stands where it was commanded to
_ALIVE_PERIODS: Final = 1.5  # for which a policy that was heard keeps the person from driving alone
_LARGEST_GAP_NS: Final = SECOND_NS  # between two joint states; beyond it their source began anew
_JITTER: Final = 0.02  # [s] of local time by which joint states may come early


class RealTime(Pacing):
    """The stamps of the joint states pace commands, local time tells what has gone silent.

    Nothing is waited for: whoever is silent for too long no longer leads, and the arm is held.
    """

    time_runs = True

    def __init__(self, integrator: CommandIntegrator, limits: SafetyLimits, period: float) -> None:
        """Begin without a past; `period` [s] is that of control."""
        super().__init__(integrator, limits, period)
        self._stale_ns = round(patience(limits.stale_timeout, period) * SECOND_NS)
        self._believed: Measured | None = None  # newest state that the one before confirms
        self._moved_ns: int | None = None  # of the newest command that moved what is commanded
        self._next_ns = 0  # earliest state time of the next command

    # Joint states

    def hear(self, before: Measured | None, measured: Measured, *, announced: bool) -> bool:
        """See `Pacing.hear`."""
        if before is None:
            self._believed = measured
        return super().hear(before, measured, announced=announced)

    def is_overtaken(self, before: Measured, measured: Measured) -> bool:
        """Whether stamps go back by less than a control period."""
        return -self._period_ns < measured.stamp_ns - before.stamp_ns < 0

    def _begins_anew(self, elapsed_ns: int) -> bool:
        return elapsed_ns < 0 or elapsed_ns > self._period_ns + _LARGEST_GAP_NS

    def _begin_time(self, measured: Measured) -> None:
        # whether the last command is a period old cannot be known
        self._next_ns = self._moved_ns = measured.stamp_ns + self._period_ns

    def _look_for_jumps(self, before: Measured, measured: Measured, announced: bool) -> None:
        """Whether a simulator has put the arm somewhere.

        A reset takes a control period of state time and none of local time. Without a new episode only a pose that no
        arm can have reached tells, and only when the next one confirms it.
        """
        self.is_doubtful = False
        near = self.is_near(measured)
        elapsed = (measured.stamp_ns - before.stamp_ns) / SECOND_NS
        if announced and not near and elapsed > 0.9 * self._period:
            local = 2.0 * (measured.received_at - before.received_at) + _JITTER
            self.is_void |= has_jumped(before, measured) and min(elapsed, self.pace.local(elapsed)) > local
        elif self._believed is not None and is_far(self._believed, measured, FASTEST_ARM):
            if is_far(before, measured, FASTEST_ARM):
                self.is_doubtful = not near
                return
            self.is_void |= not near
        self._believed = measured

    def loss_of_states(self, measured: Measured, now: float) -> str | None:
        """No motion without knowing where the arm is: what is wrong with the joint states, if it lasts."""
        timeout = self._limits.joint_state_timeout
        if now - self.advanced_at <= timeout:
            return None
        frozen = now - measured.received_at <= timeout
        what = "the stamps of joint_states have stood still" if frozen else "no joint_states"
        return f"{what} for {timeout:g} s"

    def end_of_world(self, measured: Measured, now: float) -> str | None:
        """None: that joint states are lost ends a motion sooner."""
        return None

    # Commands

    def is_due(self, measured: Measured, *, urgent: bool = False) -> bool:
        """May a command be given now? One for each control period of state time.

        An `urgent` one does not wait for the last tenth of the period, by which commands may come early anyway.
        """
        if urgent and self.commanded_ns is not None:
            return measured.stamp_ns >= min(self._next_ns, self.commanded_ns + self._period_ns * 87 // 100)
        return measured.stamp_ns >= self._next_ns

    def is_late(self, measured: Measured) -> bool:
        """Whether the next command should have been given by now."""
        commanded = self.commanded_ns
        return commanded is not None and measured.stamp_ns - commanded > _LATE_PERIODS * self._period_ns

    def is_overdue(self, now: float) -> bool:
        """Whether a command is due by local time, because no joint states come to say so."""
        late = max(_LATE_PERIODS * self._period, self.pace.local(_LATE_PERIODS * self._period))
        return now - max(self.commanded_at, self.advanced_at) >= late

    def has_lapsed(self, measured: Measured) -> bool:
        """Whether no command was given for so long that the arm has come to rest at the last one.

        Holds are commanded when others do not speak, so it was this process that stood still.
        """
        if not self.started or self.commanded_ns is None:
            return False
        silent = measured.received_at - self.commanded_at > _LAPSING_PERIODS * self.pace.local(self._period)
        return silent and measured.stamp_ns - self.commanded_ns > _LAPSING_PERIODS * self._period_ns

    def note(self, stamp_ns: int, now: float) -> None:
        """A command is given: the next one is due a control period later.

        One that is late delays the next ones. They may catch up, 3 % faster and by a tenth of a period at most: a
        period is never much shorter than the limits take it to be.
        """
        super().note(stamp_ns, now)
        next_ns = max(self._next_ns, stamp_ns - self._period_ns // 10) + self._period_ns * 97 // 100
        # holds may be given between two periods, any number of them
        self._next_ns = min(next_ns, stamp_ns + self._period_ns)
        if not self._integrator.at_rest:
            self._moved_ns = stamp_ns

    # The past

    def stands(self, measured: Measured) -> bool:
        """Whether the commanded pose has been standing for so long that the arm stands too."""
        moved = self._moved_ns
        rested = moved is None or measured.stamp_ns - moved >= _STANDING_PERIODS * self._period_ns
        return self.is_void or (self._integrator.at_rest and rested)

    def world_moved(self, measured: Measured) -> bool:
        """False: it always does."""
        return False

    def _was_reset(self, measured: Measured, *, fresh: bool) -> bool:
        return False  # which only jumps tell

    def drop_if_void(self, measured: Measured, *, fresh: bool) -> bool:
        """See `Pacing.drop_if_void`."""
        dropped = super().drop_if_void(measured, fresh=fresh)
        if dropped:
            self._moved_ns = None
        return dropped

    # Who leads

    def staleness(self, message: ActionInput, measured: Measured | None) -> str | None:
        """Why a step of the policy is out of date, by the state that it answers."""
        if measured is None or message.stamp_ns <= 0:
            return None
        age_ns = measured.stamp_ns - message.stamp_ns
        if abs(age_ns) <= self._stale_ns:
            return None
        how = "old" if age_ns > 0 else "ahead of the newest"
        return f"it answers a state that is {abs(age_ns) / SECOND_NS:.2f} s {how}"

    def out_of_date(self, message: ActionInput, person: Person, episode: int | None) -> str | None:
        """Why a message of the person's device is out of date: an answer to another episode, or nothing new."""
        if message.synchronous and episode is not None and message.episode < episode:
            return ""
        return "its stamp stands still or goes back" if person.repeats(message) else None

    def leading(self, person: Person, now: float) -> ActionInput | None:
        """What the person wants while they lead."""
        return person.leading(now, by_answers=True)

    def answer(self, person: Person, message: ActionInput) -> ActionInput | None:
        """None: a person leads or does not, whatever the step is."""
        return None

    def waits_for(self, person: Person, answer: ActionInput | None) -> bool:
        """Never."""
        return False

    def comes_first(self, *, early: bool) -> bool:
        """Whether the step's episode is announced: nobody has to wait for another."""
        return not early

    def is_policy_alive(self, policy: Policy, measured: Measured, *, episode_runs: bool) -> bool:
        """Whether the policy was heard lately, in state time."""
        return policy.was_heard(measured.stamp_ns, _ALIVE_PERIODS * self._period_ns)

    def may_person_drive(self, now: float) -> bool:
        """Always: state time paces commands."""
        return True

    def is_pause(self, measured: Measured, now: float) -> bool:
        """Never: time does not stand still."""
        return False
