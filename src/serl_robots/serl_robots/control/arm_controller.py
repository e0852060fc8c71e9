# SPDX-License-Identifier: Apache-2.0
"""Decides who leads the arm, and when it is held. Knows no ROS and no clock.

Every event is a call that says the local time `now` [s, monotonic] and returns the command to publish, if there is one.
Two times matter. *State time* is the stamps of the joint states: it paces commands, because limits are meant per second
of the arm's own time, whether that is simulated or real. *Local time* tells what has gone silent: joint states, the
policy, a person's device, and in lockstep, where state time stands still between commands, everything.

The commanded pose never jumps. Whoever stops or takes over goes on from the last command with its velocity, see
`Hold` and `CommandIntegrator.resync`. `CommandHistory` says where that past no longer counts.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from serl_robots.control.arbitration import ActionInput, Person, Policy
from serl_robots.control.arm_task import ArmTask
from serl_robots.control.command_sequence import CommandSequence
from serl_robots.control.control_step import Command, CommandResult, Measured
from serl_robots.control.move_to import JointMove, Motion, MoveOutcome, MoveRejected, PoseMove
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose
from serl_robots.model.robot import RobotModel
from serl_robots.safety.safety_state import SafetyState
from serl_robots.safety.silence import patience
from serl_robots.safety.source import Source

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
        self._stale_ns = round(patience(task.limits.stale_timeout, task.control_period) * _SECOND_NS)
        self._commands = CommandSequence(task, kinematics, lockstep=lockstep)
        self._integrator, self._history = self._commands.integrator, self._commands.history
        self._policy, self._person = Policy(), Person(task.limits.stale_timeout)

        self.safety = SafetyState()
        self.dropped = 0
        self.measured: Measured | None = None

        self._states_lost = False
        self._now = 0.0
        self._stalled = False  # this process stood still before the last `on_timer`
        self._episode: int | None = None
        self._episode_runs = False
        self._human_expected = False
        self._synced_episode: int | None = None
        self._announced: int | None = None
        self._timer_at = -1e9  # local time of the last `on_timer`
        self._motion: Motion | None = None

    # What others see

    @property
    def target(self) -> Pose | None:
        """Commanded tool pose; the measured one while nothing is commanded, None while nothing is measured."""
        if self._commands.is_under_way:
            return self._integrator.target
        return None if self.measured is None else self.measured.tcp

    @property
    def gripper_target(self) -> float:
        """Commanded width [m]; the measured one while nothing is commanded."""
        if self._commands.is_under_way:
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
        self._now = now
        if before is not None and not self.lockstep and -self._period_ns < measured.stamp_ns - before.stamp_ns < 0:
            return None  # overtaken on its way
        self.measured = measured
        if self._history.has_lapsed(measured):
            self._commands.stand(self._motion)
        announced = self._commands.fresh and self._announced is not None
        if self._history.hear(before, measured, announced=announced):
            self._commands.resync = True
            self._policy.forget_state_time()
        elapsed_ns = 0 if before is None else measured.stamp_ns - before.stamp_ns
        if self._states_lost and elapsed_ns != 0:
            self._states_lost = False
            self.safety.clear()
        if self._history.is_doubtful:
            return None  # nothing is commanded on a pose that only one message has told
        moved = self._history.is_void or self._history.is_displaced
        if self._motion is not None and (moved or (self._commands.fresh and self._history.world_moved(measured))):
            self._end_motion("preempted", "the world was reset, or something else moved the arm")
        self._commands.resync |= moved
        if self.safety.estop:
            return self._tick(now) or self._go_on_holding(now)
        if self._motion is not None:
            return self._drive_motion(measured, now)
        if self.safety.mode in (Source.POLICY, Source.HUMAN) and not self._commands.resync and elapsed_ns > 0:
            self._integrator.observe(measured.tcp, elapsed_ns / _SECOND_NS, measured.joints)
        return self._tick(now) or self._drive_person(now) or self._hold_if_silent(now) or self._go_on_holding(now)

    def on_policy(self, message: ActionInput, now: float) -> Command | None:
        """A step of the policy. One that is refused is as if it had not been sent."""
        self._now = now
        measured = self.measured
        problem = message.problem(self._task.action)
        if not message.active:
            problem = "expected active to be true, which a policy always sends; only a person's device rests"
        if problem is not None:
            self.safety.refuse("action", f"policy/action refused: {problem}")
            return None
        if self._policy.is_old(message, self._episode):
            self.dropped += 1
            return None
        if self._motion is not None:
            self.safety.explain("move_to", "policy/action refused: move_to is running")
            return None
        if not self.lockstep and measured is not None and message.stamp_ns > 0:
            age_ns = measured.stamp_ns - message.stamp_ns
            if abs(age_ns) > self._stale_ns:
                how = "old" if age_ns > 0 else "ahead of the newest"
                reason = f"policy/action refused: it answers a state that is {abs(age_ns) / _SECOND_NS:.2f} s {how}"
                self.safety.refuse("stale_command", reason)
                return None
        if self._policy.take(message, now):
            self.safety.count(("rate",))
        if not self._is_early(message):
            self._policy.hear(None if measured is None else measured.stamp_ns, now)
        return self._tick(now)

    def on_teleop(self, message: ActionInput, now: float) -> Command | None:
        """A message of the person's device. One that is refused is as if it had not been sent."""
        self._now = now
        problem = message.problem(self._task.action)
        if problem is not None:
            self.safety.refuse("action", f"teleop/action refused: {problem}")
            return None
        if not self.lockstep:
            if message.synchronous and self._episode is not None and message.episode < self._episode:
                self.dropped += 1
                return None
            if self._person.repeats(message):
                self.dropped += 1
                if self._leading(now) is None:
                    self.safety.explain("stale_command", "teleop/action refused: its stamp stands still or goes back")
                return None
        self._person.hear(message, now)
        if self._motion is not None and self._leading(now) is not None:
            self._end_motion("preempted", "a person took over")
        return self._tick(now) or self._drive_person(now) or self._hold_if_silent(now)

    def on_episode(self, episode: int, *, running: bool, human_expected: bool, now: float) -> Command | None:
        """An episode begins, or (`running` false) none is on."""
        self._now = now
        self._episode_runs = running
        self._human_expected = running and human_expected
        if not running:
            return None
        self._episode = episode
        late = episode == self._synced_episode and episode != self._announced
        self._announced = episode
        if late:  # its first steps were quicker than this
            return self._tick(now)
        self._synced_episode = None
        self._policy.begin(episode)
        self._commands.fresh = True
        return self._tick(now)

    def on_timer(self, now: float) -> Command | None:
        """Notices what does not come; to be called some fifty times a second of local time."""
        self._now = now
        measured = self.measured
        gap, self._timer_at = now - self._timer_at, now
        stalled = gap > 0.5 * self._limits.joint_state_timeout and not self._stalled
        self._stalled = stalled
        if stalled:
            return None  # it was this process that stood still: what came meanwhile is to be read first
        if self.lockstep:
            if measured is not None:
                if self._motion is not None and now - measured.received_at > _WORLD_TIMEOUT:
                    self._end_motion("timeout", f"no joint_states for {_WORLD_TIMEOUT:g} s")
                self._notice_pause(measured, now)
            return self._tick(now)
        if measured is not None and now - self._history.advanced_at > self._limits.joint_state_timeout:
            self._lose_states(now)
        return self._tick(now) or self._hold_if_silent(now) or self._go_on_holding(now)

    def on_estop(self) -> Command | None:
        """Latches the stop: the arm brakes and holds until `reset_estop`."""
        if self.safety.estop:
            return None
        self.safety.stop()
        return self._hold_stopped("the e-stop was pressed")

    def on_fault(self, reason: str) -> Command | None:
        """Latches the stop as `on_estop` does, because of an error of the controller itself."""
        stopped = self.safety.estop
        self.safety.fault(reason)
        return None if stopped else self._hold_stopped(reason)

    def reset_estop(self) -> None:
        """Releases the stop. The next command starts from the measured pose; until then the arm holds on.

        What was asked for before moves nothing: it takes a new message.
        """
        if self.safety.estop:
            self.safety.release()
            self._commands.resync = True
            self._person.forget()

    # move_to

    def move_to_pose(
        self, goal: Pose, scaling: float, done: Callable[[MoveOutcome], None], now: float
    ) -> Command | None:
        """Moves the tool on a straight line; `scaling` in (0, 1] of the speed limits. `done` is called at the end.

        Raises:
            MoveRejected: not now, or not there.
        """
        if self._robot.low_level == "joint":
            raise MoveRejected(f"{self._robot.name!r} follows no tool poses (low_level); give joints or a name")

        def plan(measured: Measured) -> PoseMove:
            start = self._integrator.target if self._history.started else measured.tcp
            return PoseMove(self._integrator.filter, start, goal, scaling)

        return self._begin_motion(plan, self._check_move(scaling, now), done, now)

    def move_to_joints(
        self, goal: NDArray[np.float64], scaling: float, done: Callable[[MoveOutcome], None], now: float
    ) -> Command | None:
        """Moves the arm joints to `goal` float64[n] [rad] on a straight line in joint space; else as `move_to_pose`.

        Raises:
            MoveRejected: not now, or not there.
        """

        def plan(measured: Measured) -> JointMove:
            integrator = self._integrator
            commanded = integrator.joint_positions if self._history.started else None
            start = measured.joints if commanded is None else commanded
            return JointMove(self._kinematics, integrator.filter, start, goal, scaling)

        return self._begin_motion(plan, self._check_move(scaling, now), done, now)

    def cancel_move(self) -> None:
        """Brakes the motion under way; its `done` is called once it stands."""
        if self._motion is not None:
            self._motion.move.stopping = True

    def _check_move(self, scaling: float, now: float) -> Measured:
        self._now = now
        if self.safety.estop:
            raise MoveRejected("the e-stop is latched; call arm/reset_estop first")
        if not 0.0 < scaling <= 1.0:
            raise MoveRejected(f"velocity_scaling: expected a value in (0, 1], found {scaling}")
        if self._leading(now) is not None:
            raise MoveRejected("a person leads the arm")
        if self.measured is None or self._states_lost:
            raise MoveRejected("there are no joint_states")
        return self.measured

    def _begin_motion(
        self,
        plan: Callable[[Measured], PoseMove | JointMove],
        measured: Measured,
        done: Callable[[MoveOutcome], None],
        now: float,
    ) -> Command | None:
        motion = Motion(plan, measured, done)
        if self._motion is not None:
            self._end_motion("preempted", "another goal came")
        self._policy.pending = None
        self._motion = motion
        self.safety.mode = Source.MOVE_TO
        self.safety.clear()
        return self._drive_motion(measured, now)

    def _drive_motion(self, measured: Measured, now: float) -> Command | None:
        """The next increment, once the state has moved on."""
        motion = self._motion
        if motion is None or not self._commands.may_go_on(measured):
            return None
        if not motion.begun:
            try:
                waiting = self._commands.begin(motion, measured)
            except MoveRejected as error:
                self._end_motion("rejected", str(error))
                return None
            if waiting is not None:
                return self._command(Source.MOVE_TO, waiting, measured, now)
        over = motion.advance(measured)
        if over is not None:
            self._end_motion(*over)
            return None
        return self._command(Source.MOVE_TO, self._commands.follow(motion.move), measured, now)

    def _end_motion(self, reason: str, message: str) -> None:
        """Ends the motion; one that is broken off brakes. Called once the state says who leads now."""
        motion, measured = self._motion, self.measured
        if motion is None or measured is None:
            return
        self._motion = None
        if not self.safety.estop:
            self.safety.mode = Source.IDLE
        self._commands.leave(motion)
        motion.end(reason, message, measured)

    # Control steps

    def _is_early(self, message: ActionInput) -> bool:
        """Whether the EpisodeStatus of a step has not come yet; nobody has to wait for such a policy."""
        return self._episode is not None and message.episode != self._episode

    @property
    def _awaits_its_turn(self) -> bool:
        """Whether a step of the policy is there that nobody may come before."""
        return self._policy.pending is not None and (self.lockstep or not self._is_early(self._policy.pending))

    def _tick(self, now: float) -> Command | None:
        """Commands the policy's pending step, unless it has to wait."""
        message, measured = self._policy.pending, self.measured
        if message is None:
            return None
        if measured is None or self._states_lost:
            self._policy.pending = None
            self.safety.refuse("joint_states", "policy/action refused: there are no joint_states")
            return None
        if not self._commands.may_go_on(measured):
            return None
        if self.safety.estop:
            self._policy.pending = None
            return self._answer_stopped(message, measured, now)
        overdue = now - self._policy.pending_since >= self._human_timeout
        if self._is_early(message):
            if not overdue:
                return None
            self._episode, self._human_expected = message.episode, False
        person = self._person.answer(message.episode, message.step) if self.lockstep else None
        if self.lockstep and person is None and self._human_expected and not self._person.lost:
            if not overdue:
                return None
            self._person.lost = True
        if person is None or not person.active:
            person = self._leading(now)
        if message.episode != self._synced_episode:
            self._synced_episode = message.episode
            self._commands.fresh = True
        if not self._commands.may_start(measured):
            return None
        self._policy.pending = None
        if person is None:
            return self._execute(Source.POLICY, message, message, measured, now)
        return self._execute(Source.HUMAN, person, message, measured, now)

    def _drive_person(self, now: float) -> Command | None:
        """Lets the person's device drive while no policy asks for steps."""
        measured = self.measured
        if measured is None or self._states_lost or self.safety.estop or self._motion:
            return None
        if self._awaits_its_turn:
            return None  # the step is the person's as soon as it is due
        person = self._leading(now)
        if person is None or person.synchronous:  # who answers steps has none to answer
            return None
        if not self._commands.may_go_on(measured) or self._is_policy_alive(measured):
            return None
        if self.lockstep and now - self._history.commanded_at < self._task.control_period:
            return None  # a person lives in local time
        if not self._commands.may_start(measured):
            return None
        return self._execute(Source.HUMAN, person, replace(person, episode=0, step=0), measured, now)

    def _leading(self, now: float) -> ActionInput | None:
        """What the person wants, while they lead: who answers the policy's steps does so only as long as it speaks."""
        person = self._person.leading(now, lockstep=self.lockstep)
        return None if person is not None and person.synchronous and self._is_policy_silent(now) else person

    def _is_policy_silent(self, now: float) -> bool:
        """Whether, by local time, the policy has been silent for too long."""
        period = self._history.pace.local(self._task.control_period)
        return self._policy.is_silent(now, patience(self._limits.stale_timeout, period))

    def _is_policy_alive(self, measured: Measured) -> bool:
        if self.lockstep:
            return self._episode_runs  # an episode's steps are the actor's, however long it takes
        return self._policy.was_heard(measured.stamp_ns, _ALIVE_PERIODS * self._period_ns)

    def _execute(
        self, source: Source, message: ActionInput, step: ActionInput, measured: Measured, now: float
    ) -> Command:
        """Commands the action of `message` as the control step of `step`."""
        result = self._commands.act(message.action, measured)
        self.safety.clear()
        if self._human_expected and self._person.lost:
            reason = f"no answer of the person within {self._human_timeout:g} s; going on without until they are heard"
            self.safety.hold("person", reason)
        return self._command(source, result, measured, now, step.episode, step.step)

    def _command(
        self,
        source: Source,
        result: CommandResult,
        measured: Measured,
        now: float,
        episode: int = 0,
        step: int = 0,
    ) -> Command:
        self.safety.mode = source
        self.safety.acted(result.limits)
        self._history.note(measured.stamp_ns, now)
        target, width, executed, limits, joints = result
        return Command(measured.stamp_ns, source, target, width, joints, episode, step, executed, limits)

    # Stops

    def _hold_stopped(self, message: str) -> Command | None:
        """Begins to hold; in lockstep the world only moves on when a step of the policy is answered."""
        now = self._now
        if self._motion is not None:
            self._end_motion("estop", message)
        self._commands.stop()
        command = self._tick(now)
        if command is not None:
            return command
        if not self.lockstep:
            self._policy.pending = None
        return self._go_on_holding(now)

    def _answer_stopped(self, message: ActionInput, measured: Measured, now: float) -> Command:
        """Answers a step of the policy while stopped: the arm brakes, then stays where it is held."""
        result = self._commands.stop_for_step(measured)._replace(limits=(self.safety.key,))
        return self._command(Source.ESTOP, result, measured, now, message.episode, message.step)

    def _go_on_holding(self, now: float) -> Command | None:
        """The next command of the hold, paced by the states, or by local time where these do not come."""
        measured, stopped = self.measured, self.safety.estop
        if measured is None:
            return None
        held = self._commands.go_on_holding(measured, now, lost=self._states_lost, urgent=stopped)
        if held is None:
            return None
        self._history.note(measured.stamp_ns, now)
        source = Source.ESTOP if stopped else Source.IDLE
        return Command(measured.stamp_ns, source, held.target, held.gripper_width, held.joint_positions)

    def _hold_if_silent(self, now: float) -> Command | None:
        """In real time: who leads has been silent for too long or has let go, so the arm is held."""
        if self.lockstep or self.safety.mode not in (Source.POLICY, Source.HUMAN) or self.measured is None:
            return None
        if not self._is_leader_silent(self.measured, now):
            if self._history.is_late(self.measured) and not self._integrator.filter.at_rest:
                self._commands.make_hold()  # a step that comes too late finds the arm braking
            return None
        if self.safety.mode == Source.POLICY or not self._person.has_let_go:
            self._name_stale("holding the arm")
        self.safety.mode = Source.IDLE
        self._commands.resync = True
        self._commands.make_hold()
        return self._go_on_holding(now)

    def _is_leader_silent(self, measured: Measured, now: float) -> bool:
        """Whether, in real time, the policy or the person that led last no longer does."""
        if self.safety.mode == Source.POLICY:
            return self._is_policy_silent(now)
        return self._leading(now) is None and not self._awaits_its_turn and not self._is_policy_alive(measured)

    def _notice_pause(self, measured: Measured, now: float) -> None:
        """In lockstep no hold is needed: without commands time stands still, and the next goes on from the last."""
        if self.safety.mode not in (Source.POLICY, Source.HUMAN) or self._policy.pending is not None:
            return
        if measured.stamp_ns == self._history.commanded_ns:
            return  # it is the world that takes its time
        if now - max(measured.received_at, self._history.commanded_at) > self._limits.stale_timeout:
            self._name_stale("time stands still")
            self.safety.mode = Source.IDLE

    def _name_stale(self, consequence: str) -> None:
        self.safety.acted(("stale_command",))
        self.safety.hold("stale_command", f"no command for {self._limits.stale_timeout:g} s; {consequence}")

    def _lose_states(self, now: float) -> None:
        """In real time: no motion without knowing where the arm is."""
        measured = self.measured
        if self._states_lost or measured is None:
            return
        self._states_lost = self._commands.resync = True
        self._policy.pending = None
        self._end_motion("timeout", "joint_states stopped")
        if not self.safety.estop:
            self.safety.mode = Source.IDLE
        if self._history.started:
            self._commands.make_hold()
        timeout = self._limits.joint_state_timeout
        frozen = now - measured.received_at <= timeout
        what = "the stamps of joint_states have stood still" if frozen else "no joint_states"
        self.safety.acted(("joint_states",))
        self.safety.hold("joint_states", f"{what} for {timeout:g} s")
