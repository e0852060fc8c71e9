# SPDX-License-Identifier: Apache-2.0
"""A world that moves one control period for each command, and never otherwise."""

from typing import Final

from serl_robots.control.arbitration import ActionInput, Person, Policy
from serl_robots.control.control_step import Measured
from serl_robots.control.pacing.pacing import FASTEST_ARM, Pacing, is_far

_DISPLACING: Final = 2.0  # times the largest commanded velocity, at which no command moves the tool
_WORLD_TIMEOUT: Final = 5.0  # [s] of local time without joint states after which a motion is given up


class Lockstep(Pacing):
    """Every state is answered once, however long the answer takes: without commands time stands still.

    So nobody has to be held who falls silent, and a step may wait for a person. The world moves without a command only
    when it is reset, and for `sim/step`.
    """

    time_runs = False

    def is_overtaken(self, before: Measured, measured: Measured) -> bool:
        """Never: states come one by one, and time that goes back began anew."""
        return False

    def _begins_anew(self, elapsed_ns: int) -> bool:
        return elapsed_ns < 0

    def _begin_time(self, measured: Measured) -> None:
        pass  # the next state is due whatever its stamp is

    def _look_for_jumps(self, before: Measured, measured: Measured, announced: bool) -> None:
        if self.started:
            elsewhere = not self.is_near(measured)
            self.is_displaced = elsewhere and is_far(before, measured, _DISPLACING * self._limits.max_velocity)
            self.is_void |= elsewhere and is_far(before, measured, FASTEST_ARM)

    def loss_of_states(self, measured: Measured, now: float) -> str | None:
        """None: a world may take its time."""
        return None

    def end_of_world(self, measured: Measured, now: float) -> str | None:
        """No joint states for seconds, though a motion asks for them."""
        gone = now - measured.received_at > _WORLD_TIMEOUT
        return f"no joint_states for {_WORLD_TIMEOUT:g} s" if gone else None

    def is_due(self, measured: Measured, *, urgent: bool = False) -> bool:
        """May a command be given now? One for each state."""
        return measured.stamp_ns != self.commanded_ns

    def is_late(self, measured: Measured) -> bool:
        """Never."""
        return False

    def is_overdue(self, now: float) -> bool:
        """Never."""
        return False

    def has_lapsed(self, measured: Measured) -> bool:
        """Never: no time has passed."""
        return False

    def stands(self, measured: Measured) -> bool:
        """Whether the world has moved without us for some periods: so long the commanded pose stood."""
        if self.commanded_ns is None:
            return True
        stood = round((measured.stamp_ns - self.commanded_ns) / self._period_ns) - 1
        return stood > self._integrator.braking_periods

    def world_moved(self, measured: Measured) -> bool:
        """Whether something else than our last command moved the world."""
        if self.commanded_ns is None:
            return False
        return abs(measured.stamp_ns - self.commanded_ns - self._period_ns) > self._period_ns // 2

    def _was_reset(self, measured: Measured, *, fresh: bool) -> bool:
        return fresh and (self.commanded_ns is None or self.world_moved(measured))

    def staleness(self, message: ActionInput, measured: Measured | None) -> str | None:
        """None: the state waits for its step."""
        return None

    def out_of_date(self, message: ActionInput, person: Person, episode: int | None) -> str | None:
        """None: stamps stand still with the world."""
        return None

    def leading(self, person: Person, now: float) -> ActionInput | None:
        """What the person wants while they lead by themselves; answers to steps count for these alone."""
        return person.leading(now, by_answers=False)

    def answer(self, person: Person, message: ActionInput) -> ActionInput | None:
        """What a synchronous person said to a step of the policy, if they did."""
        return person.answer(message.episode, message.step)

    def waits_for(self, person: Person, answer: ActionInput | None) -> bool:
        """Whether a step waits: nobody has answered, and nobody was waited for in vain."""
        return answer is None and not person.lost

    def comes_first(self, *, early: bool) -> bool:
        """Always: the world waits for that step."""
        return True

    def is_policy_alive(self, policy: Policy, measured: Measured, *, episode_runs: bool) -> bool:
        """An episode's steps are the policy's, however long it takes."""
        return episode_runs

    def may_person_drive(self, now: float) -> bool:
        """Once in a control period of local time, in which a person lives."""
        return now - self.commanded_at >= self._period

    def is_pause(self, measured: Measured, now: float) -> bool:
        """Whether the world has waited for a command for `stale_timeout`; it may itself take its time."""
        if measured.stamp_ns == self.commanded_ns:
            return False
        return now - max(measured.received_at, self.commanded_at) > self._limits.stale_timeout
