# SPDX-License-Identifier: Apache-2.0
"""From deltas of the joint positions to the joint positions that are commanded."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from serl_robots.control.action import ActionSpec
from serl_robots.control.control_step import CommandResult
from serl_robots.model.pose import Pose
from serl_robots.safety.braking import stoppable_share
from serl_robots.safety.joint_filter import JointFilter

_THERE: Final = 1e-9  # [rad] that are no distance


class JointIntegrator:
    """Adds deltas to the last commanded joint positions and passes the sum through the safety filter.

    What `reset` and `resync` mean is as in `ToolIntegrator`.
    """

    def __init__(self, action: ActionSpec, joints: Sequence[str], safety: JointFilter) -> None:
        """Command what `action` means through the filter `safety`.

        Args:
            action: of one arm; without joint deltas its actions cannot be told from joints.
            joints: names of the arm's joints, in order.
            safety: filter of these joints.

        Raises:
            ValueError: the action names a joint that the arm does not have.
        """
        self._action = action
        self.filter = safety
        self._components = np.zeros(0, np.intp)  # of the action vector that are joint deltas
        self._moved = np.zeros(0, np.intp)  # joints that they move
        self._scale = np.zeros(0)
        block = action.joint_block
        if block is not None:
            self._components = np.array(block.indices)
            self._moved = np.array([_joint(name, joints) for name in block.names])
            self._scale = np.array(block.scale)
            if len(set(self._moved.tolist())) != len(self._moved):
                raise ValueError(f"action.names: expected each joint once, found {' '.join(block.names)}")
        self._sum: NDArray[np.float64] | None = None  # where the sum is while the commanded joints are elsewhere

    @property
    def positions(self) -> NDArray[np.float64]:
        """Last commanded joint positions, float64 (n_joints,) [rad]. Raises RuntimeError before the first `reset`."""
        return self.filter.target

    @property
    def target(self) -> Pose:
        """Tool pose that they lead to."""
        return Pose.trusted(*self.filter.tool)

    def reset(self, measured: NDArray[np.float64], gripper_width: float) -> None:
        """Starts anew at measured joint positions (n_joints,) [rad] and width [m], at rest; the past is void."""
        self.filter.reset(measured, gripper_width)
        self._sum = None

    def resync(self, measured: NDArray[np.float64]) -> None:
        """Lets the sum go on from measured joint positions (n_joints,) [rad]. The gripper keeps its command."""
        self._sum = measured.copy()

    def step(self, values: list[float], width: float, action: NDArray[np.float32]) -> CommandResult:
        """One control step of an action (n,): its values within [-1, 1], the width [m] that it asks for, and itself."""
        delta = np.zeros_like(self.positions)
        delta[self._moved] = np.array(values)[self._components] * self._scale
        before, start = self.positions, self._sum
        if start is None:
            return self.move(before + delta, width, action)
        way = self._on_the_way(start)
        result = self.move(way + delta, width, action if way is start else None, start)
        self._sum = self._rest_of_the_way(start, before, start + delta)
        return result

    def _on_the_way(self, goal: NDArray[np.float64]) -> NDArray[np.float64]:
        """The next positions on the way to `goal` from which the joints can still stop there; `goal` itself if near."""
        way, safety = goal - self.positions, self.filter
        share = stoppable_share(_largest(way), safety.limits.joint_acceleration, safety.period)
        return goal if share >= 1.0 else self.positions + share * way

    def _rest_of_the_way(
        self, start: NDArray[np.float64], before: NDArray[np.float64], wanted: NDArray[np.float64]
    ) -> NDArray[np.float64] | None:
        """Where the sum is after a step that led it from `start` to `wanted`; None once the commanded joints are there.

        It runs no further ahead than it was: what the limits refuse of an action is not made up for.
        """
        after = self.positions
        allowed = max(_largest(before - start), _largest(after - start))
        gap = _largest(wanted - after)
        if gap <= _THERE:
            return None
        return wanted if gap <= allowed else after + (allowed / gap) * (wanted - after)

    def move(
        self,
        desired: NDArray[np.float64],
        width: float,
        action: NDArray[np.float32] | None = None,
        start: NDArray[np.float64] | None = None,
    ) -> CommandResult:
        """One control step towards desired joint positions.

        Args:
            desired: joint positions (n_joints,) [rad].
            width: of the gripper [m].
            action: float32 (n,) that it stands for, if any. What the filter lets through unchanged is reported as
                exactly that action, so rounding adds no noise to it.
            start: positions from which the step is reported as an action; the last commanded ones by default.
        """
        before = self.positions if start is None else start
        limits = self.filter.limit(desired, width).limits
        self._sum = None
        result = self._result(before, limits)
        return result if action is None or limits else result._replace(executed=action)

    def approach(self, goal: NDArray[np.float64]) -> CommandResult:
        """One control step towards joint positions (n_joints,) [rad], to stop there; nobody's action."""
        before = self.positions
        limits = self.filter.approach(goal).limits
        self._sum = None
        return self._result(before, limits)

    def brake(self) -> CommandResult:
        """One control step of braking, nobody's action: reported as the one that it amounts to."""
        before = self.positions
        self.filter.brake()
        self._sum = None
        return self._result(before, ())

    def _result(self, before: NDArray[np.float64], limits: tuple[str, ...]) -> CommandResult:
        spec, width, positions = self._action, self.filter.gripper_width, self.positions
        executed = np.zeros(len(spec))
        executed[self._components] = (positions - before)[self._moved] / self._scale
        if spec.gripper is not None:
            index, full = spec.gripper
            executed[index] = 2.0 * width / full - 1.0
        return CommandResult(self.target, width, executed.clip(-1.0, 1.0).astype(np.float32), limits, positions)


def _joint(name: str, joints: Sequence[str]) -> int:
    """Number of a joint, which is called by its name or as `j1`, `j2`, ...

    Raises:
        ValueError: the arm has no such joint.
    """
    if name in joints:
        return joints.index(name)
    number = name.removeprefix("j")
    if name.startswith("j") and number.isdecimal() and 1 <= int(number) <= len(joints):
        return int(number) - 1
    raise ValueError(f"action.names: expected j1 to j{len(joints)} or one of {', '.join(joints)}, found {name!r}")


def _largest(vector: NDArray[np.float64]) -> float:
    return float(np.abs(vector).max())
