# SPDX-License-Identifier: Apache-2.0
"""How an arm is brought to rest and kept there: after an e-stop, a fault, silence, or a motion that was broken off."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from serl_robots.control.arm_command import CommandIntegrator, CommandResult
from serl_robots.control.control_step import Measured
from serl_robots.control.move_to import ANGLE_TOLERANCE, JOINT_TOLERANCE, POSITION_TOLERANCE, JointMove, MoveRejected
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose

_SETTLING_PERIODS: Final = 3  # of standing, after which a tool that is elsewhere is held back by something


class Hold:
    """Brakes the commanded pose within the limits and keeps it where it stands.

    A tool that does not get there pushes against something, so once, when it has had time to arrive, the commanded pose
    goes to where the tool is measured: whoever is pinched is let go. A motion in joint space brakes along its own path,
    which was checked, and is held in joint space.
    """

    def __init__(
        self, integrator: CommandIntegrator, kinematics: Kinematics, names: tuple[str, ...], move: JointMove | None
    ) -> None:
        """Take over from whatever leads.

        Args:
            integrator: which knows what was commanded last.
            kinematics: of the robot.
            names: of the arm's joints.
            move: motion in joint space that is under way, if there is one.
        """
        self._integrator, self._kinematics, self._names = integrator, kinematics, names
        self._joint_move = move
        self.begun = False
        """Whether it has commanded anything."""
        self._settled_ns: int | None = None  # state time at which the tool has had time to arrive
        self._goal: Pose | None = None
        self._let_go = False
        if move is not None:
            move.stopping = True

    @property
    def stands(self) -> bool:
        """Whether the arm is commanded to stand."""
        moving = self._joint_move is not None and not self._joint_move.ended
        return not moving and self._integrator.filter.at_rest

    @property
    def brakes_joints(self) -> bool:
        """Whether a motion in joint space is still under way."""
        return self._joint_move is not None and not self.stands

    @property
    def stops_at_once(self) -> bool:
        """Whether the next command stands still already: then it may be given between two periods."""
        moving = self._joint_move is not None and not self._joint_move.ended
        return not moving and self._integrator.filter.braking_periods == 0

    @property
    def joint_positions(self) -> NDArray[np.float64] | None:
        """What is commanded in joint space, float64[n] [rad]; None when the tool's pose is."""
        return None if self._joint_move is None else self._joint_move.positions

    def still(self) -> CommandResult:
        """The next command, also when nothing changes by it."""
        self.begun = True
        if self._joint_move is None:
            return self._integrator.brake()
        self._joint_move.advance()
        return self._integrator.follow(self._kinematics.tcp(self._joint_move.positions))

    def stand(self) -> None:
        """The arm has come to rest meanwhile."""
        if self._joint_move is not None:
            self._joint_move.stand()

    def advance(self, measured: Measured | None) -> CommandResult | None:
        """One control period on: the next command, None when the arm goes on standing where it stands."""
        if not (self.begun and self.stands and self._goal is None):
            return self._step()
        if measured is None or self._let_go:
            return None
        if self._settled_ns is None:
            self._settled_ns = measured.stamp_ns + round(_SETTLING_PERIODS * 1e9 * self._integrator.filter.period)
        if measured.stamp_ns < self._settled_ns:
            return None
        self._let_go = True
        return self._step() if self._is_held_back(measured) else None

    def _step(self) -> CommandResult:
        goal = self._goal
        if goal is None:
            return self.still()
        result = self._integrator.approach(goal)
        if self.stands:
            self._goal = None
        return result

    def _is_held_back(self, measured: Measured) -> bool:
        """Whether the tool is elsewhere; if so, this is where to go."""
        if self._joint_move is None:
            target = self._integrator.target
            if target.distance(measured.tcp) > POSITION_TOLERANCE or target.angle(measured.tcp) > ANGLE_TOLERANCE:
                self._goal = measured.tcp
            return self._goal is not None
        start, safety = self._joint_move.positions, self._integrator.filter
        if float(np.abs(start - measured.joints).max()) <= JOINT_TOLERANCE:
            return False
        try:
            self._joint_move = JointMove(self._kinematics, safety, self._names, start, measured.joints, 1.0)
        except MoveRejected:  # outside of what may be commanded: then it stays
            return False
        return True
