# SPDX-License-Identifier: Apache-2.0
"""What the two generations of the robot server mean by a gripper's position, and how they are told one.

The state that they answer and the command that they take are in different units, and the generations differ:

| server, gripper | state `gripper_pos` | command `move_gripper` | here |
|---|---|---|---|
| SERL, Robotiq | 0 open to 255 closed | 0 open to 255 closed | position |
| HIL-SERL, Robotiq | 1 open to 0 closed | 0 open to 255 closed | position |
| SERL, Franka | opening [m] | 255 for 0.1 m | open and close |
| HIL-SERL, Franka | opening / 0.08 m | 255 for 0.1 m | open and close |

A Franka hand that is moved to a width does not hold what it meets: `close_gripper` grasps, with the 130 N that the
server has written in. So a width in the lower half closes it and one in the upper half opens it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Server = Literal["serl", "hil_serl"]
Kind = Literal["robotiq", "franka", "none"]

FULL: Final = 255
FRANKA_OPENING: Final = 0.08
"""Opening by which HIL-SERL's server divides [m]."""


@dataclass(frozen=True)
class GripperCommand:
    """An end point, and what it is sent."""

    path: str
    values: dict[str, int] | None = None


@dataclass(frozen=True)
class GripperDialect:
    """One line of the table above."""

    server: Server
    kind: Kind
    opening: float
    """When it is open [m]."""

    def width(self, position: float) -> float:
        """Opening [m] at what the state says."""
        if self.kind == "robotiq":
            share = 1.0 - position / FULL if self.server == "serl" else position
            return share * self.opening
        return position if self.server == "serl" else position * FRANKA_OPENING

    def command(self, width: float) -> GripperCommand:
        """What asks for an opening [m]."""
        share = min(max(width / self.opening, 0.0), 1.0)
        if self.kind == "robotiq":
            return GripperCommand("/move_gripper", {"gripper_pos": round(FULL * (1.0 - share))})
        return GripperCommand("/open_gripper" if share >= 0.5 else "/close_gripper")
