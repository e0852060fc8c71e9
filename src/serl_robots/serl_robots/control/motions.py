# SPDX-License-Identifier: Apache-2.0
"""Goals of `arm/move_to`, one at a time, from when they are taken to their outcome."""

from collections.abc import Callable

from serl_robots.control.command_sequence import CommandSequence
from serl_robots.control.control_step import CommandResult, Measured
from serl_robots.control.move_to import Ending, Motion, Move, MoveOutcome
from serl_robots.control.ways.way_move import AwaitedMove
from serl_robots.safety.safety_state import SafetyState
from serl_robots.safety.source import Source

Plan = Callable[[Measured], Move]
"""Makes a motion from where the arm is when it begins."""


class Motions:
    """The motion that is under way, if one is."""

    def __init__(self, commands: CommandSequence, safety: SafetyState) -> None:
        """Command motions through `commands`, and say in `safety` who leads."""
        self._commands, self._safety = commands, safety
        self._motion: Motion | None = None

    @property
    def under_way(self) -> bool:
        """Whether there is one."""
        return self._motion is not None

    @property
    def awaits_way(self) -> bool:
        """Whether a way is being planned for one; in lockstep the world stands meanwhile."""
        return self._motion is not None and isinstance(self._motion.move, AwaitedMove) and self._motion.move.asked

    def error(self, measured: Measured) -> float:
        """Distance that it has left [m] or [rad]; 0 without one."""
        return 0.0 if self._motion is None else self._motion.move.error(measured)

    def begin(self, plan: Plan, measured: Measured, done: Callable[[MoveOutcome], None]) -> None:
        """Takes a goal, which preempts the one before; `done` is called once, when its motion is over.

        Raises:
            MoveRejected: there is no way from here; then the motion under way goes on.
        """
        motion = Motion(plan, measured, done)
        self.end("preempted", "another goal came", measured)
        self._motion = motion
        self._safety.mode = Source.MOVE_TO
        self._safety.clear()

    def drive(self, measured: Measured) -> CommandResult | None:
        """The next increment, once the state has moved on; None, too, when the motion is over."""
        if self._motion is None or not self._commands.may_go_on(measured):
            return None
        result = self._commands.drive(self._motion, measured)
        if isinstance(result, Ending):
            self.end(*result, measured)
            return None
        return result

    def cancel(self) -> None:
        """Brakes the motion under way, which is over once it stands."""
        if self._motion is not None:
            self._motion.move.stopping = True

    def stand(self) -> None:
        """The arm has come to rest where it was commanded to: what comes next speeds up from there."""
        self._commands.stand(self._motion)

    def end(self, reason: str, message: str, measured: Measured) -> None:
        """Ends the motion, if there is one; one that is broken off brakes."""
        motion, self._motion = self._motion, None
        if motion is None:
            return
        if not self._safety.estop:
            self._safety.mode = Source.IDLE
        self._commands.leave(motion)
        motion.end(reason, message, measured)
