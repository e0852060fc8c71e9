# SPDX-License-Identifier: Apache-2.0
"""How the commanded pose goes on from one command to the next, whoever leads: actions, motions and holds."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from serl_robots.control.arm_command import CommandIntegrator
from serl_robots.control.arm_task import ArmTask
from serl_robots.control.control_step import CommandResult, Measured
from serl_robots.control.holding import Hold
from serl_robots.control.move_to import POSITION_TOLERANCE, Ending, JointMove, Motion, Move, MoveRejected, PoseMove
from serl_robots.control.pacing.lockstep import Lockstep
from serl_robots.control.pacing.pacing import Pacing
from serl_robots.control.pacing.real_time import RealTime
from serl_robots.control.ways.way_move import AwaitedMove, AwaitedWay, WayMove
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose
from serl_robots.safety.keep_apart import KeepApart
from serl_robots.safety.tracking import TrackingMonitor

_SETTLING_PERIODS: Final = 5  # that the tool may take to arrive before a motion in joint space begins


_STUCK_TIME: Final = 2.0  # [s] in which the filter lets a motion go no further, after which it ends


class CommandSequence:
    """Every command follows from the last one, with its velocity, unless the past no longer counts.

    Attributes:
        integrator: of what is commanded.
        pacing: when the next command is due, and whether the past counts.
        hold: brings the arm to rest while nobody leads, None while somebody does.
        fresh: whether the next command starts an episode: from measured pose and width.
        resync: whether the next command starts from the measured pose.
    """

    def __init__(
        self, task: ArmTask, kinematics: Kinematics, *, lockstep: bool, keep_apart: KeepApart | None = None
    ) -> None:
        """Begin without a past; `keep_apart` from another arm, if there is one.

        Raises:
            ValueError: the task's action is of several arms, or of joints that the arm does not have.
        """
        self._kinematics, self._limits = kinematics, task.limits
        self.integrator = CommandIntegrator(
            task.action, task.limits, task.control_period, kinematics, task.frame, keep_apart
        )
        kind = Lockstep if lockstep else RealTime
        self.pacing: Pacing = kind(self.integrator, task.limits, task.control_period)
        self.hold: Hold | None = None
        self._tracking, self._tracked_ns = TrackingMonitor(task.limits), 0  # of a motion along a way
        self._stuck = 0.0  # time [s] that it has stood still
        self.fresh = True
        self.resync = False
        self._hold_drives = False  # in lockstep: the world moves on for the hold, not only for steps of the policy

    @property
    def is_under_way(self) -> bool:
        """Whether the commanded pose is that of this episode."""
        return self.pacing.started and not self.fresh

    def counts_on(self, measured: Measured) -> bool:
        """Whether what is commanded next follows from the last command, and not from this state."""
        is_answered = measured.stamp_ns == self.pacing.commanded_ns
        return self.is_under_way and (is_answered or not self.pacing.world_moved(measured))

    def may_go_on(self, measured: Measured) -> bool:
        """Whether a command that is no hold may be given now: it is due, and the newest pose can be believed."""
        return self.pacing.is_due(measured) and not self.pacing.is_doubtful

    def may_start(self, measured: Measured) -> bool:
        """Whether what was commanded before has come to rest as far as the next action needs it.

        Joints and tool take over from each other at rest only: an arm that was moved by the other brakes first. In real
        time a new episode begins at rest; in lockstep it is the reset of the world that ends the old one.
        """
        if self._is_led_otherwise:
            if not self.integrator.at_rest:
                self.make_hold()
                return False
            waits = self.integrator.acts_on_joints  # which start where they are measured
        else:
            waits = self.fresh and self.pacing.started
        if not (self.pacing.time_runs and waits) or self.pacing.stands(measured):
            return True
        self.make_hold()
        return False

    @property
    def _is_led_otherwise(self) -> bool:
        """Whether the joints lead in a task whose actions move the tool, or the other way round."""
        return self.integrator.acts_on_joints != self.integrator.led_by_joints

    # Actions and motions

    def act(self, action: Sequence[float], measured: Measured) -> CommandResult:
        """One control step of a normalized action."""
        if self.pacing.world_moved(measured):
            self.resync = True
        if self._is_led_otherwise:
            self._lead_as_actions_do(measured)
        if self.fresh or self.resync:
            self._sync(measured)
        self.hold = None
        return self.integrator.step(action)

    def _lead_as_actions_do(self, measured: Measured) -> None:
        if self.integrator.acts_on_joints:
            self.integrator.lead_by_joints(measured.joints)
        else:
            self.integrator.lead_by_tool()

    def plan_pose(self, goal: Pose, scaling: float) -> Callable[[Measured], PoseMove]:
        """Planner of a straight line of the tool to `goal`, from what is commanded or else measured when it begins."""

        def plan(measured: Measured) -> PoseMove:
            start = self.integrator.target if self.pacing.started else measured.tcp
            return PoseMove(self.integrator.filter, start, goal, scaling)

        return plan

    def plan_joints(self, goal: NDArray[np.float64], scaling: float) -> Callable[[Measured], JointMove]:
        """Planner of a straight line in joint space to `goal` (n,) [rad], as `plan_pose`."""

        def plan(measured: Measured) -> JointMove:
            commanded = self.integrator.joint_positions if self.pacing.started else None
            start = measured.joints if commanded is None else commanded
            return JointMove(self._kinematics, self.integrator.filter, start, goal, scaling)

        return plan

    def await_way(
        self, way: AwaitedWay, error: Callable[[Measured], float]
    ) -> Callable[[Measured], AwaitedMove | WayMove]:
        """Planner of a motion along a way that is asked for once the arm stands; `error` tells what is left.

        Raises:
            MoveRejected: as `plan_pose`, or there is no way.
        """

        def plan(measured: Measured) -> AwaitedMove | WayMove:
            joint_filter, start = self.integrator.joint_filter, self.integrator.joint_positions
            if joint_filter is None:
                raise MoveRejected("the joints cannot be commanded beside another arm; launch with planner:=straight")
            if start is None or not (self.pacing.started and self.integrator.at_rest):
                return AwaitedMove(error, asked=False)
            points = way.of(start)
            if points is None:
                return AwaitedMove(error, asked=True)
            self._tracking = TrackingMonitor(self._limits)
            self._tracked_ns, self._stuck = measured.stamp_ns, 0.0
            return WayMove(self._kinematics, self.integrator.filter, start, points, joint_filter.admits)

        return plan

    def drive(self, motion: Motion, measured: Measured) -> CommandResult | Ending | None:
        """The next increment of a motion, or how it ends; None while the arm stands and waits for a way."""
        if not motion.begun:
            try:
                waiting = self._begin(motion, measured)
            except MoveRejected as error:
                return Ending("rejected", str(error))
            if not motion.begun:
                stops = motion.move.stopping and isinstance(motion.move, AwaitedMove) and self.integrator.at_rest
                return Ending("canceled", "the motion was canceled before it began") if stops else waiting
        if isinstance(motion.move, WayMove):
            broken = self._problem_of(motion.move, measured)
            if broken is not None:
                return broken
        ending = motion.advance(measured)
        return self._follow(motion.move) if ending is None else ending

    def _problem_of(self, move: WayMove, measured: Measured) -> Ending | None:
        """How a motion along a way ends before its goal, if it does."""
        integrator = self.integrator
        if move.stopping and integrator.at_rest:
            return Ending("canceled", "the motion was canceled")
        if move.is_lost:
            return Ending("tracking", "the safety filter braked the arm off its way; send the goal again")
        if self._stuck >= _STUCK_TIME:
            behind = integrator.target.distance(measured.tcp)
            if behind > POSITION_TOLERANCE:
                return Ending("tracking", f"the tool stays {behind:.3f} m behind; look what holds the arm back")
            return Ending("timeout", "the safety filter lets the arm go no further; arm/safety names the limit")
        elapsed, self._tracked_ns = 1e-9 * (measured.stamp_ns - self._tracked_ns), measured.stamp_ns
        if self._tracking.update(integrator.target, measured.tcp, elapsed):
            distance = integrator.target.distance(measured.tcp)
            return Ending(
                "tracking",
                f"the tool has been {distance:.3f} m from its target for {self._limits.tracking_timeout:g} s "
                "(limits.tracking_timeout) without getting nearer; look what holds the arm back",
            )
        return None

    def _begin(self, motion: Motion, measured: Measured) -> CommandResult | None:
        """Begins a motion, or gives the next command of what has to come to rest before it.

        Raises:
            MoveRejected: there is no way from where the arm came to rest.
        """
        integrator = self.integrator
        self.hold = None
        self._sync(measured)
        if not isinstance(motion.move, PoseMove):
            apart = integrator.target.distance(measured.tcp) > self._limits.tracking_progress
            if not integrator.at_rest or (apart and motion.waited < _SETTLING_PERIODS):
                motion.waited += 1
                return integrator.brake()
            if not integrator.led_by_joints:
                integrator.lead_by_joints(measured.joints)
        elif integrator.led_by_joints and not integrator.at_rest:
            return integrator.brake()
        motion.begin(measured)
        return None

    def _follow(self, move: Move) -> CommandResult:
        """Where a motion is now."""
        integrator = self.integrator
        if isinstance(move, PoseMove):
            return integrator.move(*move.desired, integrator.gripper_width)
        if isinstance(move, JointMove):
            return integrator.move_joints(move.positions)
        positions = move.positions if isinstance(move, WayMove) else None
        if positions is not None:
            self._stuck = 0.0
            return integrator.move_joints(positions)
        result = integrator.brake()
        if isinstance(move, WayMove) and result.joint_positions is not None:
            move.rejoin(result.joint_positions)
            self._stuck += integrator.filter.period
        return result

    def leave(self, motion: Motion) -> None:
        """A motion is over; one that is broken off brakes, and so does what it has waited for."""
        self.resync = True
        if (motion.begun and not motion.move.ended) or not self.integrator.at_rest:
            self.make_hold(drives=True)
        elif not self.integrator.acts_on_joints:
            self.integrator.lead_by_tool()

    def stand(self, motion: Motion | None) -> None:
        """The arm has come to rest where it was commanded to: what comes next speeds up from there."""
        self.integrator.stand()
        if motion is not None:
            motion.move.stand()

    def _sync(self, measured: Measured) -> None:
        """The next command starts from the measured pose; where the history is void the commanded pose does too."""
        if not self.pacing.drop_if_void(measured, fresh=self.fresh):
            self.integrator.resync(measured.tcp, measured.joints)
        self.fresh = self.resync = False

    # Holds

    def make_hold(self, *, drives: bool = False) -> Hold:
        """The hold, which begins now unless there is one."""
        if self.hold is None:
            self.hold = Hold(self.integrator)
            self._hold_drives = drives
        return self.hold

    def give_way(self, measured: Measured) -> None:
        """The arm is held where it is measured, and not where it was commanded to."""
        self.make_hold(drives=True).give_way(measured)

    def stop(self) -> None:
        """Begins to hold anew: says so where the arm was held before, and lets nothing else go on."""
        if self.hold is not None and not self.hold.holds_joints:
            self.hold = None
        self.make_hold().begun = False

    def stop_for_step(self, measured: Measured) -> CommandResult:
        """The answer to a step while the arm is stopped: it brakes, then stays where it is held."""
        if self.pacing.drop_if_void(measured, fresh=self.fresh):
            self.hold = None
        hold = self.make_hold()
        if hold.stands and not self.integrator.acts_on_joints:
            self.integrator.lead_by_tool()  # a step of the tool is answered by a pose
        return hold.advance(measured) or hold.still()

    def go_on_holding(self, measured: Measured, now: float, *, lost: bool, urgent: bool) -> CommandResult | None:
        """The next command of the hold, paced by the states, or by local time where these do not come.

        Args:
            measured: newest state.
            now: local time [s].
            lost: whether the states have stopped.
            urgent: whether it may come as early as any command.
        """
        hold, pacing = self.hold, self.pacing
        if hold is None or not (self.pacing.time_runs or self._hold_drives):
            return None
        due = pacing.is_due(measured, urgent=urgent) or pacing.is_overdue(now)
        if not (due or (hold.stops_at_once and not hold.begun)):
            return None
        if pacing.is_doubtful and not pacing.started:
            return None  # where to hold the arm is not known yet
        begins = not pacing.started or (not hold.begun and not lost)
        if (begins or pacing.is_void) and pacing.drop_if_void(measured, fresh=self.fresh):
            hold = self.hold = Hold(self.integrator)
        if hold.stands and hold.holds_joints and not pacing.time_runs:
            hold.begun = True
            return None  # the world does not move on for joints that stand, so nothing may change unsaid
        return hold.advance(None if lost or pacing.is_doubtful else measured)
