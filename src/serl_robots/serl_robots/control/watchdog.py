# SPDX-License-Identifier: Apache-2.0
"""Notices, by local time, what has fallen silent: joint states, policy, person, and the process itself."""

from serl_robots.control.command_sequence import CommandSequence
from serl_robots.control.control_step import Measured
from serl_robots.control.leaders import Leaders
from serl_robots.control.motions import Motions
from serl_robots.safety.limits import SafetyLimits
from serl_robots.safety.safety_state import SafetyState
from serl_robots.safety.source import Source


class Watchdog:
    """Says what is missing and begins to hold the arm; how it is held is another's matter.

    Attributes:
        states_lost: whether joint states have stopped, so that nothing may move.
        driver: why the arm's driver moves nothing; empty while it does what is commanded, and where there is none.
    """

    def __init__(
        self,
        commands: CommandSequence,
        leaders: Leaders,
        motions: Motions,
        safety: SafetyState,
        limits: SafetyLimits,
    ) -> None:
        """Watch over who commands an arm.

        Args:
            commands: whose hold begins when somebody is missing.
            leaders: policy and person.
            motions: which end when joint states do.
            safety: where it is said.
            limits: that say how long a silence may be.
        """
        self._commands, self._leaders, self._motions, self._safety = commands, leaders, motions, safety
        self._pacing, self._limits = commands.pacing, limits
        self.states_lost = False
        self.driver = ""
        self._looked_at = -1e9  # local time [s]
        self._slept = False  # this process stood still before it looked last

    @property
    def obstacle(self) -> str:
        """Why nothing may move; empty while it may."""
        return self.driver or ("there are no joint_states" if self.states_lost else "")

    def was_asleep(self, now: float) -> bool:
        """Whether it was this process that stood still until `now` [s]: what came meanwhile is to be read first."""
        gap, self._looked_at = now - self._looked_at, now
        self._slept = gap > 0.5 * self._limits.joint_state_timeout and not self._slept
        return self._slept

    def hear_states(self, elapsed_ns: int, missing: str | None, measured: Measured) -> None:
        """Joint states came, so much state time after the ones before; `missing` says what is not known beside them."""
        if missing is not None:
            if not self.states_lost:
                self._lose_states(f"{missing}; holding the arm", measured)
        elif self.states_lost and elapsed_ns != 0:
            self.states_lost = False
            self._safety.clear()
            if self.driver:
                self._safety.hold("driver", self.driver)

    def hear_driver(self, problem: str, measured: Measured | None) -> None:
        """The arm's driver says why it moves nothing; empty: it does what is commanded, from where the arm is now."""
        before, self.driver = self.driver, problem
        if problem and not before:
            self._hold_arm("the driver moves nothing", measured)
        if problem:
            self._safety.acted(("driver",))
            self._safety.hold("driver", problem)
        elif before:
            self._safety.clear()

    def look(self, measured: Measured, now: float) -> None:
        """Says what has stopped, and ends what cannot go on without it."""
        gone = self._pacing.end_of_world(measured, now)
        if gone is not None and not self._motions.awaits_way:
            self._motions.end("timeout", gone, measured)
        leads = self._safety.mode in (Source.POLICY, Source.HUMAN) and self._leaders.policy.pending is None
        if leads and self._pacing.is_pause(measured, now):  # the next command goes on from the last, no hold is needed
            self._name_stale("time stands still")
            self._safety.mode = Source.IDLE
        lost = self._pacing.loss_of_states(measured, now)
        if lost is not None and not self.states_lost:
            self._lose_states(lost, measured)

    def begins_hold(self, measured: Measured, now: float) -> bool:
        """Where time runs: whether who leads has been silent for too long or has let go, so that the arm is held."""
        mode, leaders = self._safety.mode, self._leaders
        if not self._pacing.time_runs or mode not in (Source.POLICY, Source.HUMAN):
            return False
        if not leaders.is_silent(mode, measured, now):
            if self._pacing.is_late(measured) and not self._commands.integrator.at_rest:
                self._commands.make_hold()  # a step that comes too late finds the arm braking
            return False
        if mode == Source.POLICY or not leaders.person.has_let_go:
            self._name_stale("holding the arm")
        self._safety.mode = Source.IDLE
        self._commands.resync = True
        self._commands.make_hold()
        return True

    def _name_stale(self, consequence: str) -> None:
        self._safety.acted(("stale_command",))
        self._safety.hold("stale_command", f"no command for {self._limits.stale_timeout:g} s; {consequence}")

    def _lose_states(self, reason: str, measured: Measured) -> None:
        """No motion without knowing where the arm is."""
        self.states_lost = True
        self._hold_arm("joint_states stopped", measured)
        self._safety.acted(("joint_states",))
        self._safety.hold("joint_states", reason)

    def _hold_arm(self, reason: str, measured: Measured | None) -> None:
        """Whoever leads no longer does; what comes next begins at the measured pose."""
        self._commands.resync = True
        self._leaders.policy.pending = None
        if measured is not None:
            self._motions.end("timeout", reason, measured)
        if not self._safety.estop:
            self._safety.mode = Source.IDLE
        if self._pacing.started:
            self._commands.make_hold()
