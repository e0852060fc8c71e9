# SPDX-License-Identifier: Apache-2.0
"""How an arm is brought to rest and kept there: after an e-stop, a fault, silence, or a motion that was broken off."""

from typing import Final

import numpy as np

from serl_robots.control.arm_command import CommandIntegrator
from serl_robots.control.control_step import CommandResult, Measured
from serl_robots.control.move_to import ANGLE_TOLERANCE, JOINT_TOLERANCE, POSITION_TOLERANCE

_SETTLING_PERIODS: Final = 3  # of standing, after which a tool that is elsewhere is held back by something


class Hold:
    """Brakes what is commanded within the limits and keeps it where it stands.

    Whoever led brakes: the tool, or the joints on the line on which they move. A tool that does not get there pushes
    against something, so once, when it has had time to arrive, what is commanded goes to where the arm is measured:
    whoever is pinched is let go.

    Attributes:
        begun: whether it has commanded anything.
    """

    def __init__(self, integrator: CommandIntegrator) -> None:
        """Take over from whatever leads; `integrator` knows what was commanded last."""
        self._integrator = integrator
        self.begun = False
        self._settled_ns: int | None = None  # state time at which the tool has had time to arrive
        self._goal: Measured | None = None
        self._let_go = False

    @property
    def stands(self) -> bool:
        """Whether the arm is commanded to stand."""
        return self._integrator.at_rest

    @property
    def holds_joints(self) -> bool:
        """Whether the arm is held in joint space."""
        return self._integrator.led_by_joints

    @property
    def stops_at_once(self) -> bool:
        """Whether the next command stands still already: then it may be given between two periods.

        Not while joints move: a low level that is on its way to a joint position would begin that way anew.
        """
        return self._integrator.braking_periods == 0 and (self.stands or not self.holds_joints)

    def give_way(self, measured: Measured) -> None:
        """Whatever holds the arm back is in its way: what is commanded goes to where the arm is measured."""
        self._goal, self._let_go = measured, True

    def still(self) -> CommandResult:
        """The next command, also when nothing changes by it."""
        self.begun = True
        return self._integrator.brake()

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
        if not self._is_held_back(measured):
            return None
        self._goal = measured
        return self._step()

    def _step(self) -> CommandResult:
        goal = self._goal
        if goal is None:
            return self.still()
        result = self._integrator.approach(goal.tcp, goal.joints)
        if self.stands:
            self._goal = None
        return result

    def _is_held_back(self, measured: Measured) -> bool:
        """Whether the arm is elsewhere than where it is held."""
        joints = self._integrator.joint_positions
        if joints is not None:
            return float(np.abs(joints - measured.joints).max()) > JOINT_TOLERANCE
        target = self._integrator.target
        return target.distance(measured.tcp) > POSITION_TOLERANCE or target.angle(measured.tcp) > ANGLE_TOLERANCE
