# SPDX-License-Identifier: Apache-2.0
"""The controllers of a controller_manager that is not there, and how they are switched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from serl_robots.model.robot import RobotModel

from serl_drivers.ros2_control.controllers import ACTIVE, INACTIVE, Controller

TRAJECTORY: Final = "joint_trajectory_controller"
FORWARD: Final = "forward_position_controller"
CARTESIAN: Final = "cartesian_impedance_controller"
GRIPPER: Final = "gripper_controller"
BROADCASTER: Final = "joint_state_broadcaster"
ARM: Final = (TRAJECTORY, FORWARD, CARTESIAN)
"""Those of which one at most has the arm."""


class Controllers:
    """All or nothing is switched, as with strictness STRICT."""

    def __init__(self, robot: RobotModel, active: str, arm: Sequence[str] = ARM) -> None:
        """Load controllers.

        Args:
            robot: whose joints they have.
            active: one of `arm`, active from the start; empty: none.
            arm: names of the arm's controllers that are loaded.
        """
        positions = tuple(f"{name}/position" for name in robot.arm_joints)
        efforts = tuple(f"{name}/effort" for name in robot.arm_joints)
        finger = (f"{robot.gripper.joints[0]}/position",)
        self._all = {
            BROADCASTER: Controller(BROADCASTER, ACTIVE),
            GRIPPER: Controller(GRIPPER, ACTIVE, finger, finger),
        }
        for name in arm:
            self._all[name] = Controller(name, INACTIVE, efforts if name == CARTESIAN else positions)
        if active:
            self.switch([active], [])

    @property
    def all(self) -> tuple[Controller, ...]:
        """Every controller as it is now."""
        return tuple(self._all.values())

    def is_active(self, name: str) -> bool:
        """Whether the controller `name` is there and active."""
        return name in self._all and self._all[name].state == ACTIVE

    def switch(self, activate: Sequence[str], deactivate: Sequence[str]) -> str:
        """Switch; the reason why nothing is switched, empty where it is."""
        for names, state in ((activate, INACTIVE), (deactivate, ACTIVE)):
            for name in names:
                if name not in self._all:
                    return f"no controller {name!r}"
                if self._all[name].state != state:
                    return f"controller {name!r} is {self._all[name].state}, not {state}"
        after = dict(self._all)
        for name in deactivate:
            after[name] = replace(after[name], state=INACTIVE, claimed=())
        for name in activate:
            wanted = after[name]
            joints = {each.rpartition("/")[0] for each in wanted.required}
            for other in after.values():
                if taken := joints & {each.rpartition("/")[0] for each in other.claimed}:
                    return f"{name!r} needs {', '.join(sorted(taken))}, which {other.name!r} has"
            after[name] = replace(wanted, state=ACTIVE, claimed=wanted.required)
        self._all = after
        return ""
