# SPDX-License-Identifier: Apache-2.0
"""From what a person wants the tool to do to the action of a task."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from serl_robots.control.action import ROTATION, TRANSLATION

from serl_tasks import ArmSample, Task
from serl_teleop.devices.axes import MappingError, Twist
from serl_teleop.devices.device import Motion

PersonFrame = Literal["base", "tool"]
"""Whose axes the person steers along: those of the arm's base, or of the commanded tool."""

_BLOCKS: Final = (TRANSLATION, ROTATION)


class ActionMapping:
    """Makes actions of one task."""

    def __init__(self, task: Task, frame: PersonFrame = "base") -> None:
        """Make one for a person who steers along the axes of `frame`.

        Raises:
            MappingError: the task has no action of one tool's motion.
        """
        names = task.action.names
        if len(task.action.arms) > 1 or not set(names) & {*TRANSLATION, *ROTATION}:
            raise MappingError(
                f"task {task.name!r}: a device moves the tool of one arm; expected some of "
                f"{' '.join((*TRANSLATION, *ROTATION))} in its action, found {' '.join(names)}"
            )
        self._task, self._frame = task, frame
        self._turns = frame != task.frame
        scale = dict(zip(names, task.action.scale, strict=True))
        self._indices = tuple(tuple(names.index(name) if name in names else -1 for name in block) for block in _BLOCKS)
        self._scales = tuple(np.array([scale.get(name, 0.0) for name in block]) for block in _BLOCKS)
        self._gripper = names.index("gripper") if "gripper" in names else None

    def rest(self, arm: ArmSample) -> NDArray[np.float32]:
        """The action float32 (A,) that changes nothing: no motion, and the gripper keeps what is commanded."""
        return self._task.action.rest(arm.gripper_target)

    def gripper_of(self, action: NDArray[np.float32]) -> float:
        """What an action (A,) asks of the gripper, -1 closed to 1 open; 0 where the task has none."""
        return 0.0 if self._gripper is None else float(action[self._gripper])

    def action(self, twist: Twist, gripper: float | None, arm: ArmSample) -> NDArray[np.float32]:
        """The action float32 (A,) in [-1, 1] that does what a person wants.

        Args:
            twist: of dx dy dz rx ry rz in [-1, 1], along the axes of the person's frame.
            gripper: -1 closed to 1 open; None: as it is commanded.
            arm: newest state of the arm.
        """
        action = self.rest(arm)
        wanted = np.array(twist).reshape(2, 3)
        for indices, scales, direction in zip(self._indices, self._scales, wanted, strict=True):
            # [m] or [rad] in a control period; what the task's action does not have cannot be asked for
            motion = direction * (np.where(scales > 0.0, scales, scales.max()) if self._turns else scales)
            if self._turns:
                motion = self._turned(motion, arm)
            self._put(action, indices, scales, motion)
        self._put_gripper(action, gripper)
        return action

    def action_for(self, motion: Motion, gripper: float | None, arm: ArmSample) -> NDArray[np.float32]:
        """The action float32 (A,) in [-1, 1] that leads the tool there, or as far as one action may.

        Args:
            motion: way [m] and turn [rad] from where the tool is commanded to be, along the axes of the base.
            gripper: as in `action`.
            arm: newest state of the arm.
        """
        action = self.rest(arm)
        wanted = np.array(motion).reshape(2, 3)
        for indices, scales, way in zip(self._indices, self._scales, wanted, strict=True):
            self._put(action, indices, scales, self._task.in_action_frame(way, arm))
        self._put_gripper(action, gripper)
        return action

    def _put(
        self,
        action: NDArray[np.float32],
        indices: tuple[int, ...],
        scales: NDArray[np.float64],
        motion: NDArray[np.float64],
    ) -> None:
        """Ask for a motion (3,) [m] or [rad] in the frame of the action: shorter rather than into another direction."""
        part = np.divide(motion, scales, out=np.zeros(3), where=scales > 0.0)
        part /= max(1.0, float(np.abs(part).max()))
        for index, value in zip(indices, part, strict=True):
            if index >= 0:
                action[index] = value

    def _put_gripper(self, action: NDArray[np.float32], gripper: float | None) -> None:
        if gripper is not None and self._gripper is not None:
            action[self._gripper] = min(max(gripper, -1.0), 1.0)

    def _turned(self, vector: NDArray[np.float64], arm: ArmSample) -> NDArray[np.float64]:
        """A vector (3,) of the person's frame in that of the task's action."""
        if self._frame == "base":
            return self._task.in_action_frame(vector, arm)
        commanded = arm.tcp if arm.commanded is None else arm.commanded
        return commanded.rotate(vector)
