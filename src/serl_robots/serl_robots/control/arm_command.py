# SPDX-License-Identifier: Apache-2.0
"""From a normalized action of one arm to what is commanded: a tool pose, or joint positions.

The arm controller node and the Gymnasium environments command through the same `CommandIntegrator`, so the same actions
from the same measured state give the same targets bit for bit.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serl_robots.control.action import ActionError, ActionSpec, Frame
from serl_robots.control.arm_task import ArmTask
from serl_robots.control.control_step import CommandResult
from serl_robots.control.integrators.joint_integrator import JointIntegrator
from serl_robots.control.integrators.tool_integrator import ToolIntegrator
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose, Quaternion, Vector3
from serl_robots.model.reachable import FREE_TOOL
from serl_robots.safety.gripper_filter import GripperFilter
from serl_robots.safety.joint_filter import JointFilter
from serl_robots.safety.keep_apart import KeepApart
from serl_robots.safety.limits import SafetyLimits
from serl_robots.safety.overload import Loads, Overload, OverloadMonitor
from serl_robots.safety.tool_filter import ToolFilter
from serl_robots.safety.tool_target import ToolTarget
from serl_robots.safety.tracking import TrackingMonitor

Joints = NDArray[np.float64]


class CommandIntegrator:
    """Everything that is commanded goes through one of its two safety filters: that of the tool or that of the joints.

    One of them leads. An action leads as its components say; a motion may lead otherwise, from rest to rest. While the
    joints lead, the tool's filter takes over each pose that they lead to, so that the tool may lead on from there.

    Attributes:
        action: of one arm.
        acts_on_joints: whether the action's components are joint deltas.
        filter: that of the tool.
        joint_filter: that of the joints, None without kinematics and where another arm is kept away from.
        loads: what the arm pushes with, watched.
        overload: the load that the arm gives way to, None while there is none.
    """

    def __init__(
        self,
        action: ActionSpec,
        limits: SafetyLimits,
        period: float,
        kinematics: Kinematics | None = None,
        frame: Frame = "base",
        keep_apart: KeepApart | None = None,
    ) -> None:
        """Command what `action` means in control periods of `period` [s].

        Args:
            action: of one arm.
            limits: of tool, joints and gripper.
            period: of control [s].
            kinematics: of the arm; without them no joints can be commanded.
            frame: of the deltas of the tool.
            keep_apart: from another arm, if there is one; the joints cannot lead then.

        Raises:
            ValueError: the action is of several arms, or of joints that the arm does not have.
        """
        if len(action.arms) != 1:
            raise ValueError(
                f"action.names: expected the action of one arm, found those of {', '.join(action.arms)}; each arm has "
                "a controller of its own, for its part of the action (ActionSpec.of_arm)"
            )
        self.action = action
        self.acts_on_joints = action.joint_block is not None
        if self.acts_on_joints and kinematics is None:
            raise ValueError("action.names: expected deltas of the tool, because there are no kinematics, found joints")
        gripper = GripperFilter(limits, period)
        turns_freely = kinematics is None or len(kinematics.joints) >= FREE_TOOL
        self.filter = ToolFilter(limits, period, gripper, keep_apart, turns_freely=turns_freely)
        self._tool = ToolIntegrator(action, self.filter, frame)
        self._joints: JointIntegrator | None = None
        self.joint_filter: JointFilter | None = None
        if kinematics is not None and keep_apart is None:
            self.joint_filter = JointFilter(kinematics, limits, period, gripper)
            self._joints = JointIntegrator(action, kinematics.joints, self.joint_filter)
        self._leader: JointIntegrator | None = self._joints if self.acts_on_joints else None  # None: the tool
        self._tracking = TrackingMonitor(limits, turns_freely=turns_freely)
        self._was_stuck = False
        self.loads = OverloadMonitor(limits)
        self.overload: Overload | None = None
        self._way_out: tuple[Pose, Joints | None] | None = None

    # State

    @property
    def target(self) -> Pose:
        """Last commanded tool pose. Raises RuntimeError before the first `reset`."""
        return self._tool.target

    @property
    def led_by_joints(self) -> bool:
        """Whether the joints lead, and not the tool."""
        return self._leader is not None

    @property
    def joint_positions(self) -> Joints | None:
        """Last commanded joint positions (n_joints,) [rad] while the joints lead, else None.

        Raises:
            RuntimeError: they lead, and `reset` was not called.
        """
        return None if self._leader is None else self._leader.positions

    @property
    def gripper_width(self) -> float:
        """Last commanded width [m]."""
        return self.filter.gripper_width

    @property
    def at_rest(self) -> bool:
        """Whether the last command stood still."""
        return self.filter.at_rest if self._leader is None else self._leader.filter.at_rest

    @property
    def braking_periods(self) -> int:
        """Periods in which the arm still moves when it brakes from now on."""
        return self.filter.braking_periods if self._leader is None else self._leader.filter.braking_periods

    # Where it starts

    def reset(self, measured: Pose, gripper_width: float, joints: Joints | None = None) -> None:
        """Starts anew at what is measured, at rest: what was commanded before is void. The action says who leads.

        Args:
            measured: tool pose.
            gripper_width: [m].
            joints: joint positions (n_joints,) [rad], which an action of joints needs.

        Raises:
            ValueError: no joints where the action needs them, or numbers that are not finite.
        """
        self._tool.reset(measured, gripper_width)
        self._leader = self.overload = self._way_out = None
        if self.acts_on_joints:
            if joints is None:
                raise ValueError("expected measured joint positions, because the action is of joints")
            self.lead_by_joints(joints)
        self._clear_tracking()

    def resync(self, measured: Pose, joints: Joints | None = None) -> None:
        """Lets the sum of actions go on from what is measured. The gripper keeps its command, and its grip.

        Args:
            measured: tool pose.
            joints: positions (n_joints,) [rad], where they are commanded.
        """
        self._tool.resync(measured)
        if self._leader is not None and joints is not None:
            self._leader.resync(joints)
        self._clear_tracking()

    def see(self, measured: Pose) -> None:
        """Call with every newly measured tool pose: what is commanded next stays near it."""
        self.filter.see(measured)
        if self.joint_filter is not None:
            self.joint_filter.see(measured)

    def feel(self, loads: Loads, measured: Pose, joints: Joints | None, elapsed: float) -> Overload | None:
        """Call with everything newly measured, `elapsed` [s] after the one before.

        While there is an overload, actions lead to where the arm is measured, and no further; results name the limit.

        Args:
            loads: what the arm pushes with.
            measured: tool pose.
            joints: positions (n_joints,) [rad], which an action of joints needs.
            elapsed: [s].
        """
        self.overload = self.loads.update(loads, elapsed)
        self._way_out = None if self.overload is None else (measured, joints)
        return self.overload

    def observe(self, measured: Pose, elapsed: float, joints: Joints | None = None) -> bool:
        """Call with everything newly measured, `elapsed` [s] after the one before; `joints` are (n_joints,) [rad].

        Returns:
            True when the tool has not followed for too long: the sum goes on from what is measured, and the next
            result names `tracking_error`.
        """
        if not self._tracking.update(self.target, measured, elapsed):
            return False
        self.resync(measured, joints)
        self._was_stuck = True
        return True

    def _clear_tracking(self) -> None:
        self._tracking.clear()
        self._was_stuck = False

    def stand(self) -> None:
        """The target has been standing for longer than anybody called: nothing is left to be braked."""
        self.filter.stand()
        if self._leader is not None:
            self._leader.filter.stand()

    # Who leads

    def lead_by_joints(self, measured: Joints) -> None:
        """Lets the joints lead on from measured positions (n_joints,) [rad]. Only at rest.

        Raises:
            ValueError: there are no kinematics, or numbers that are not finite.
        """
        if self._joints is None:
            raise ValueError("expected kinematics and no other arm to keep apart from, else no joints can be commanded")
        width = self.filter.gripper_width
        self._joints.reset(measured, width)
        self._leader = self._joints
        self._tool.reset(self._joints.target, width)

    def lead_by_tool(self) -> None:
        """Lets the tool lead on from where the joints led it."""
        self._leader = None

    # Control steps

    def step(self, action: ArrayLike) -> CommandResult:
        """One control step of a normalized action, any float (n,); used as float32.

        Values outside [-1, 1] are clipped (`action` is named); values that are not finite brake (`finite`).

        Raises:
            ActionError: wrong length.
        """
        wanted = np.asarray(action, dtype=np.float32)
        if wanted.shape != (len(self.action),):
            raise ActionError(f"expected an action of shape ({len(self.action)},), found {wanted.shape}")
        values = wanted.tolist()
        clipped = False
        if min(values) < -1.0 or max(values) > 1.0:
            wanted = np.clip(wanted, np.float32(-1.0), np.float32(1.0))
            values = wanted.tolist()
            clipped = True
        if self.overload is not None and self._way_out is not None:
            result = self.approach(*self._way_out)
            return result._replace(limits=(self.overload.limit, *result.limits))
        width = self.filter.gripper_width
        if self.action.gripper is not None:
            index, full = self.action.gripper
            width = 0.5 * (values[index] + 1.0) * full
        leader = self._tool if self._leader is None else self._leader
        result = self._told(leader.step(values, width, wanted))
        return result._replace(limits=("action", *result.limits)) if clipped else result

    def move(self, position: Vector3, quaternion: Quaternion, width: float) -> CommandResult:
        """One control step of the tool, which leads, towards a desired pose; nobody's action.

        Args:
            position: of the tool [m].
            quaternion: xyzw.
            width: of the gripper [m].
        """
        self.lead_by_tool()
        return self._told(self._tool.move(ToolTarget(position, quaternion), width))

    def move_joints(self, positions: Joints) -> CommandResult:
        """One control step of the joints, which lead, towards desired positions (n_joints,) [rad]; nobody's action.

        Raises:
            RuntimeError: the joints do not lead.
        """
        if self._leader is None:
            raise RuntimeError("call lead_by_joints() with the measured joint positions first")
        return self._told(self._leader.move(positions, self.gripper_width))

    def approach(self, goal: Pose, joints: Joints | None) -> CommandResult:
        """One control step towards a pose, or where the joints lead towards their positions (n_joints,) [rad].

        No faster than the arm can still stop there. The gripper keeps its command. Nobody's action: reported as the one
        that it amounts to.
        """
        leader = self._leader
        if leader is None or joints is None:
            return self._told(self._tool.approach(goal))
        return self._told(leader.approach(joints))

    def brake(self) -> CommandResult:
        """One control step of braking, nobody's action: reported as the one that it amounts to."""
        return self._followed(self._tool.brake() if self._leader is None else self._leader.brake())

    def _told(self, result: CommandResult) -> CommandResult:
        if self._was_stuck:
            result = result._replace(limits=("tracking_error", *result.limits))
            self._was_stuck = False
        return self._followed(result)

    def _followed(self, result: CommandResult) -> CommandResult:
        """The tool's filter takes over what the joints were commanded."""
        if self._leader is None:
            return result
        tool = self._tool.follow(result.target)
        # an action of the tool tells what the motion amounts to in its own terms
        return result if self.acts_on_joints else result._replace(executed=tool.executed)


def keep_apart_of(task: ArmTask, arm: str, kinematics: Kinematics) -> KeepApart | None:
    """What keeps the hand of one of two arms away from that of the other; None of a single arm.

    Raises:
        ValueError: the limits do not let a tool stop within a control period.
    """
    other = next((name for name in task.arm_names if name != arm), None)
    if other is None or task.keep_apart is None:
        return None
    bases = task.base(arm), task.base(other)
    return KeepApart(task.keep_apart, *bases, kinematics.wrist, task.limits, task.control_period)
