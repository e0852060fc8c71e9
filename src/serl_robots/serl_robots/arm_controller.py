# SPDX-License-Identifier: Apache-2.0
"""Decides what the arm is commanded: who leads, from where, how far. Knows no ROS and no clock.

Every event is a call that says the local time `now` [s, monotonic] and returns the command to publish, if there is one.
Two times matter. *State time* is the stamps of the joint states: it paces commands, because limits are meant per second
of the arm's own time, whether that is simulated or real. *Local time* tells what has gone silent: joint states, a
person's device, and in lockstep, where state time stands still between commands, everything.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from serl_robots.arbitration import ActionInput, Person, Source
from serl_robots.arm_command import CommandIntegrator, CommandResult
from serl_robots.arm_task import ArmTask
from serl_robots.control_step import Command, Measured
from serl_robots.kinematics import Kinematics
from serl_robots.move_to import JointMove, Motion, MoveOutcome, MoveRejected, PoseMove
from serl_robots.pose import Pose
from serl_robots.robot import RobotModel
from serl_robots.safety_state import SafetyState

_SECOND_NS: Final = 1_000_000_000
_ALIVE_PERIODS: Final = 1.5  # for which a policy that was heard keeps the person from driving alone
_WORLD_TIMEOUT: Final = 5.0  # [s] of local time without joint states after which a motion in lockstep is given up


class ArmController:
    """State machine of the arm controller, see the module.

    Attributes:
        safety: what `arm/safety` says.
        dropped: commands that were doubled or out of date.
        measured: newest state, None before the first.
    """

    def __init__(
        self,
        task: ArmTask,
        robot: RobotModel,
        kinematics: Kinematics,
        *,
        lockstep: bool,
        human_timeout: float = 1.0,
    ) -> None:
        """Build it at rest.

        Args:
            task: control period, actions and limits.
            robot: whose joints these are.
            kinematics: of the robot.
            lockstep: whether the world moves one control period for each command, and never otherwise.
            human_timeout: longest wait for a synchronous person's answer in lockstep, local time [s].
        """
        self.lockstep = lockstep
        self._task, self._robot, self._kinematics = task, robot, kinematics
        self._limits = task.limits
        self._human_timeout = human_timeout
        self._period_ns = round(task.control_period * _SECOND_NS)
        self._stale_ns = round(max(task.limits.stale_timeout, _ALIVE_PERIODS * task.control_period) * _SECOND_NS)
        self._integrator = CommandIntegrator(task.action, task.limits, task.control_period)
        self._person = Person(task.limits.stale_timeout)

        self.safety = SafetyState()
        self.dropped = 0
        self.measured: Measured | None = None

        self._started = False  # the integrator has a pose
        self._fresh = True  # the next command starts an episode: from measured pose and width
        self._resync = False  # the next command starts from the measured pose
        self._states_lost = False
        self._hold_is_due = False  # stopped while nothing was measured
        self._pending: ActionInput | None = None  # a step of the policy that is not commanded yet
        self._pending_since = 0.0
        self._last: tuple[int, int] | None = None  # newest step accepted from the policy
        self._policy_heard_ns: int | None = None  # state time
        self._episode: int | None = None
        self._episode_runs = False
        self._human_expected = False
        self._synced_episode: int | None = None
        self._announced: int | None = None
        self._commanded_ns: int | None = None  # stamp of the state that the newest command started from
        self._commanded_at = -1e9  # local time
        self._next_ns = 0  # earliest state time of the next command
        self._timer_at = -1e9  # local time of the last `on_timer`
        self._motion: Motion | None = None
        self._joint_target: Pose | None = None  # of a joint motion

    # What others see

    @property
    def target(self) -> Pose | None:
        """Commanded tool pose; the measured one while nothing is commanded, None while nothing is measured."""
        if self._joint_target is not None:
            return self._joint_target
        if self._started and not self._fresh:
            return self._integrator.target
        return None if self.measured is None else self.measured.tcp

    @property
    def gripper_target(self) -> float:
        """Commanded width [m]; the measured one while nothing is commanded."""
        if self._started and not self._fresh:
            return self._integrator.gripper_width
        return 0.0 if self.measured is None else self.measured.gripper_width

    @property
    def move_error(self) -> float:
        """Distance that the motion under way has left [m] or [rad]; 0 without one."""
        if self._motion is None or self.measured is None:
            return 0.0
        return self._motion.move.error(self.measured)

    # Events

    def on_state(self, measured: Measured) -> Command | None:
        """New joint states. In real time they are also the clock that motions and a person's lead run on."""
        before, now = self.measured, measured.received_at
        self.measured = measured
        if self._states_lost:
            self._states_lost = False
            self.safety.clear()
        elapsed_ns = 0 if before is None else measured.stamp_ns - before.stamp_ns
        if elapsed_ns < 0:  # the source of the states began anew
            self._resync, self._next_ns, self._commanded_ns, self._policy_heard_ns = True, 0, None, None
        if self.safety.estop:
            return self._hold_stopped(measured) if self._hold_is_due else self._tick(now)
        if self._motion is not None:
            return self._drive_motion(measured, now)
        if self.safety.mode in (Source.POLICY, Source.HUMAN) and not self._resync and elapsed_ns > 0:
            self._integrator.observe(measured.tcp, elapsed_ns / _SECOND_NS)
        return self._tick(now) or self._drive_person(now) or self._hold_if_stale(measured)

    def on_policy(self, message: ActionInput, now: float) -> Command | None:
        """A step of the policy."""
        measured = self.measured
        if measured is not None:
            self._policy_heard_ns = measured.stamp_ns
        problem = message.problem(self._task.action)
        if problem is not None:
            self.safety.refuse("action", f"policy/action refused: {problem}")
            return None
        if self._is_old(message):
            self.dropped += 1
            return None
        if self._motion is not None:
            self.safety.explain("move_to", "policy/action refused: move_to is running")
            return None
        if not self.lockstep and measured is not None and message.stamp_ns > 0:
            age_ns = measured.stamp_ns - message.stamp_ns
            if age_ns > self._stale_ns:
                reason = f"policy/action refused: it answers a state that is {age_ns / _SECOND_NS:.2f} s old"
                self.safety.refuse("stale_command", reason)
                return None
        if self._pending is not None:
            self.safety.count(("rate",))
        self._last = (message.episode, message.step)
        self._pending, self._pending_since = message, now
        return self._tick(now)

    def on_teleop(self, message: ActionInput, now: float) -> Command | None:
        """A message of the person's device. One that is refused is as if it had not been sent."""
        problem = message.problem(self._task.action)
        if problem is not None:
            self.safety.refuse("action", f"teleop/action refused: {problem}")
            return None
        self._person.hear(message, now)
        if self._motion is not None and self._person.leading(now, lockstep=self.lockstep) is not None:
            self._end_motion("preempted", "a person took over")
        return self._tick(now) or self._drive_person(now)

    def on_episode(self, episode: int, *, running: bool, human_expected: bool, now: float) -> Command | None:
        """An episode begins, or (`running` false) none is on."""
        self._episode_runs = running
        self._human_expected = running and human_expected
        if not running:
            return None
        self._episode = episode
        late = episode == self._synced_episode and episode != self._announced
        self._announced = episode
        if late:  # its first steps were quicker than this
            return self._tick(now)
        self._last = self._synced_episode = None
        if self._pending is not None and self._pending.episode != episode:
            self._pending = None
        self._fresh = True
        return self._tick(now)

    def on_timer(self, now: float) -> Command | None:
        """To be called twenty times a second of local time: notices what does not come."""
        measured = self.measured
        gap, self._timer_at = now - self._timer_at, now
        if gap > 0.5 * self._limits.joint_state_timeout:
            return None  # it was this process that stood still: what came meanwhile is to be read first
        if measured is not None and self.lockstep:
            if self._motion is not None and now - measured.received_at > _WORLD_TIMEOUT:
                self._end_motion("timeout", f"no joint_states for {_WORLD_TIMEOUT:g} s")
            self._notice_pause(measured, now)
        elif measured is not None and now - measured.received_at > self._limits.joint_state_timeout:
            self._lose_states()
        return self._tick(now)

    def on_estop(self) -> Command | None:
        """Latches the stop: the arm holds the pose it is measured at until `reset_estop`."""
        if self.safety.estop:
            return None
        joint_motion = self._joint_target is not None
        if self._motion is not None:
            self._end_motion("estop", "the e-stop was pressed")
        self.safety.stop()
        measured = self.measured
        if measured is None or self._states_lost:
            self._hold_is_due, self._pending = True, None
            return None
        return self._hold_stopped(measured, joint_motion)

    def reset_estop(self) -> None:
        """Releases the stop. The next command starts from the measured pose."""
        if self.safety.estop:
            self.safety.release()
            self._resync, self._hold_is_due = True, False

    # move_to

    def move_to_pose(
        self, goal: Pose, scaling: float, done: Callable[[MoveOutcome], None], now: float
    ) -> Command | None:
        """Moves the tool on a straight line; `scaling` in (0, 1] of the speed limits. `done` is called at the end.

        Raises:
            MoveRejected: not now, or not there.
        """
        measured = self._check_move(scaling, now)
        return self._begin_motion(PoseMove(self._integrator.filter, measured.tcp, goal, scaling), measured, done, now)

    def move_to_joints(
        self, goal: NDArray[np.float64], scaling: float, done: Callable[[MoveOutcome], None], now: float
    ) -> Command | None:
        """Moves the arm joints to `goal` float64[n] [rad] on a straight line in joint space; else as `move_to_pose`.

        Raises:
            MoveRejected: not now, or not there.
        """
        measured = self._check_move(scaling, now)
        names, safety = self._robot.arm_joints, self._integrator.filter
        move = JointMove(self._kinematics, safety, names, measured.joints, goal, scaling)
        return self._begin_motion(move, measured, done, now)

    def cancel_move(self) -> None:
        """Brakes the motion under way; its `done` is called once it stands."""
        if self._motion is not None:
            self._motion.move.stopping = True

    def _check_move(self, scaling: float, now: float) -> Measured:
        if self.safety.estop:
            raise MoveRejected("the e-stop is latched; call arm/reset_estop first")
        if not 0.0 < scaling <= 1.0:
            raise MoveRejected(f"velocity_scaling: expected a value in (0, 1], found {scaling}")
        if self._person.leading(now, lockstep=self.lockstep) is not None:
            raise MoveRejected("a person leads the arm")
        if self.measured is None or self._states_lost:
            raise MoveRejected("there are no joint_states")
        return self.measured

    def _begin_motion(
        self, move: PoseMove | JointMove, measured: Measured, done: Callable[[MoveOutcome], None], now: float
    ) -> Command | None:
        if self._motion is not None:
            self._end_motion("preempted", "another goal came")
        self._sync(measured)
        self._pending = None
        self._motion = Motion(move, done)
        self.safety.mode = Source.MOVE_TO
        self.safety.clear()
        return self._drive_motion(measured, now)

    def _drive_motion(self, measured: Measured, now: float) -> Command | None:
        """The next increment, once the state has moved on."""
        motion = self._motion
        if motion is None or not self._is_due(measured):
            return None
        over = motion.advance(measured)
        if over is not None:
            self._end_motion(*over)
            return None
        move = motion.move
        if isinstance(move, PoseMove):
            result = self._integrator.move(*move.desired, self._integrator.gripper_width)
            return self._command(Source.MOVE_TO, result, measured, now)
        positions, before = move.positions, self._joint_target or measured.tcp
        target = self._joint_target = self._kinematics.tcp(positions)
        width = self._integrator.gripper_width
        result = CommandResult(target, width, self._integrator.action_between(before, target, width), ())
        return self._command(Source.MOVE_TO, result, measured, now, joint_positions=positions)

    def _end_motion(self, reason: str, message: str) -> None:
        motion, measured = self._motion, self.measured
        if motion is None or measured is None:
            return
        self._motion = self._joint_target = None
        self._resync = True
        self.safety.mode = Source.IDLE
        motion.end(reason, message, measured)

    # Control steps

    def _is_old(self, message: ActionInput) -> bool:
        """Doubled, or from an episode that is over."""
        if self._last is not None and message.episode == self._last[0]:
            return message.step <= self._last[1]
        newest = self._episode
        if newest is None and self._last is not None:
            newest = self._last[0]
        return newest is not None and message.episode < newest

    def _is_due(self, measured: Measured) -> bool:
        """May a command be given now? One for each control period of state time."""
        if self.lockstep:
            return measured.stamp_ns != self._commanded_ns
        return measured.stamp_ns >= self._next_ns

    def _tick(self, now: float) -> Command | None:
        """Commands the policy's pending step, unless it has to wait."""
        message, measured = self._pending, self.measured
        if message is None:
            return None
        if measured is None or self._states_lost:
            self._pending = None
            self.safety.refuse("joint_states", "policy/action refused: there are no joint_states")
            return None
        if not self._is_due(measured):
            return None
        if self.safety.estop:
            self._pending = None
            return self._answer_stopped(message, measured, now)
        overdue = now - self._pending_since >= self._human_timeout
        if self._episode is not None and message.episode != self._episode:
            if not overdue:
                return None  # its EpisodeStatus is on the way
            self._episode, self._human_expected = message.episode, False
        person = self._person.answer(message.episode, message.step) if self.lockstep else None
        if self.lockstep and person is None and self._human_expected and not self._person.lost:
            if not overdue:
                return None
            self._person.lost = True
        if person is None or not person.active:
            person = self._person.leading(now, lockstep=self.lockstep)
        self._pending = None
        if message.episode != self._synced_episode:
            self._synced_episode = message.episode
            self._fresh = True
        if person is None:
            return self._execute(Source.POLICY, message, message, measured, now)
        return self._execute(Source.HUMAN, person, message, measured, now)

    def _drive_person(self, now: float) -> Command | None:
        """Lets the person's device drive while no policy asks for steps."""
        measured = self.measured
        if measured is None or self._states_lost or self.safety.estop or self._motion or self._pending:
            return None
        person = self._person.leading(now, lockstep=self.lockstep)
        if person is None or not self._is_due(measured) or self._is_policy_alive(measured):
            return None
        if self.lockstep and now - self._commanded_at < self._task.control_period:
            return None  # a person lives in local time
        return self._execute(Source.HUMAN, person, person, measured, now)

    def _is_policy_alive(self, measured: Measured) -> bool:
        if self.lockstep:
            return self._episode_runs  # an episode's steps are the actor's, however long it takes
        heard = self._policy_heard_ns
        return heard is not None and measured.stamp_ns - heard <= _ALIVE_PERIODS * self._period_ns

    def _execute(
        self, source: Source, message: ActionInput, step: ActionInput, measured: Measured, now: float
    ) -> Command:
        """Commands the action of `message` as the control step of `step`."""
        if self.lockstep and self._commanded_ns is not None:
            # something else moved the world
            self._resync |= abs(measured.stamp_ns - self._commanded_ns - self._period_ns) > self._period_ns // 2
        if self._fresh or self._resync:
            self._sync(measured)
        result = self._integrator.step(message.action)
        if self._human_expected and self._person.lost:
            reason = f"no answer of the person within {self._human_timeout:g} s; going on without until they are heard"
            self.safety.explain("person", reason)
        else:
            self.safety.clear()
        return self._command(source, result, measured, now, step.episode, step.step)

    def _command(
        self,
        source: Source,
        result: CommandResult,
        measured: Measured,
        now: float,
        episode: int = 0,
        step: int = 0,
        joint_positions: NDArray[np.float64] | None = None,
    ) -> Command:
        self.safety.mode = source
        self.safety.acted(result.limits)
        self._commanded_ns, self._commanded_at = measured.stamp_ns, now
        # one command for each period; a late one may be caught up with, by half a period at most and 2 % faster
        self._next_ns = max(self._next_ns, measured.stamp_ns - self._period_ns // 2) + self._period_ns * 98 // 100
        target, width, executed, limits = result
        return Command(
            measured.stamp_ns, source, target, width, joint_positions, episode, step, executed=executed, limits=limits
        )

    def _sync(self, measured: Measured) -> None:
        """The commanded pose becomes the measured one, at rest; in a new episode the gripper's width too."""
        if self._fresh or not self._started:
            self._integrator.reset(measured.tcp, measured.gripper_width)
        else:
            self._integrator.resync(measured.tcp)
        self._started, self._fresh, self._resync = True, False, False

    # Stops

    def _hold_stopped(self, measured: Measured, joint_motion: bool = False) -> Command | None:
        """Begins to hold; in lockstep the world only moves on when a step of the policy is answered."""
        self._hold_is_due = False
        self._sync(measured)
        if self.lockstep:
            return self._tick(measured.received_at)
        self._pending = None
        joints = measured.joints if joint_motion else None
        return Command(measured.stamp_ns, Source.ESTOP, measured.tcp, self._integrator.gripper_width, joints)

    def _answer_stopped(self, message: ActionInput, measured: Measured, now: float) -> Command:
        """Answers a step of the policy while stopped: the arm stays where it is held."""
        safety = self._integrator.filter
        result = self._integrator.move(safety.position, safety.quaternion, safety.gripper_width)
        result = result._replace(limits=("estop",))
        return self._command(Source.ESTOP, result, measured, now, message.episode, message.step)

    def _hold_if_stale(self, measured: Measured) -> Command | None:
        """In real time: nobody has commanded for too long, so the arm holds the pose it is measured at."""
        if self.lockstep or self.safety.mode not in (Source.POLICY, Source.HUMAN) or self._commanded_ns is None:
            return None
        if measured.stamp_ns - self._commanded_ns <= self._stale_ns:
            return None
        self._sync(measured)
        self._resync = True
        self._name_stale("holding the measured pose")
        return Command(measured.stamp_ns, Source.IDLE, measured.tcp, self._integrator.gripper_width)

    def _notice_pause(self, measured: Measured, now: float) -> None:
        """In lockstep no hold is needed: without commands time stands still, and the next goes on from the last."""
        if self.safety.mode not in (Source.POLICY, Source.HUMAN) or self._pending is not None:
            return
        if measured.stamp_ns == self._commanded_ns:
            return  # it is the world that takes its time
        if now - max(measured.received_at, self._commanded_at) > self._limits.stale_timeout:
            self._name_stale("time stands still")

    def _name_stale(self, consequence: str) -> None:
        self.safety.mode = Source.IDLE
        reason = f"no command for {self._limits.stale_timeout:g} s; {consequence}"
        self.safety.refuse("stale_command", reason)

    def _lose_states(self) -> None:
        """In real time: no motion without knowing where the arm is."""
        if self._states_lost:
            return
        self._states_lost = self._resync = True
        self._pending = None
        self._end_motion("timeout", "joint_states stopped")
        if not self.safety.estop:
            self.safety.mode = Source.IDLE
        self.safety.refuse("joint_states", f"no joint_states for {self._limits.joint_state_timeout:g} s")
