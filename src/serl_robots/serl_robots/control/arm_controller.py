# SPDX-License-Identifier: Apache-2.0
"""Decides who leads the arm, and when it is held. Knows no ROS and no clock.

Every event is a call that says the local time `now` [s, monotonic] and returns the command to publish, if there is one.
Two times matter. *State time* is the stamps of the joint states: it paces commands, because limits are meant per second
of the arm's own time, whether that is simulated or real. *Local time* tells what has gone silent: joint states, the
policy, a person's device, and in lockstep, where state time stands still between commands, everything.

The commanded pose never jumps. Whoever stops or takes over goes on from the last command with its velocity, see
`Hold` and `CommandIntegrator.resync`. `Pacing` says when a command is due and where that past no longer counts,
`Leaders` whose turn it is.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from serl_robots.control.arbitration import NOBODY, ActionInput, Sender
from serl_robots.control.arm_task import ArmTask
from serl_robots.control.command_sequence import CommandSequence
from serl_robots.control.control_step import Command, CommandResult, Measured
from serl_robots.control.leaders import Leaders, Turn
from serl_robots.control.motions import Motions, Plan
from serl_robots.control.move_to import MoveOutcome, MoveRejected
from serl_robots.control.watchdog import Watchdog
from serl_robots.control.ways.way_move import AwaitedWay
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose
from serl_robots.model.robot import RobotModel
from serl_robots.safety.other_arm import OtherArm
from serl_robots.safety.safety_state import SafetyState
from serl_robots.safety.source import Source

_SECOND_NS: Final = 1_000_000_000


class ArmController:
    """State machine of the arm controller, see the module.

    Attributes:
        safety: what `arm/safety` says.
        dropped: commands that were doubled or out of date.
        unheard: actions of persons that came while somebody else led.
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
        other: OtherArm | None = None,
    ) -> None:
        """Build it at rest.

        Args:
            task: control period, actions and limits.
            robot: whose joints these are.
            kinematics: of the robot.
            lockstep: whether the world moves one control period for each command, and never otherwise.
            human_timeout: longest wait for a synchronous person's answer in lockstep, local time [s].
            other: the arm beside this one, from which its hand is kept away; None: there is none.
        """
        self._task, self._robot, self._other = task, robot, other
        keep_apart = None if other is None else other.keep_apart
        self._commands = CommandSequence(task, kinematics, lockstep=lockstep, keep_apart=keep_apart)
        self._integrator, self._pacing = self._commands.integrator, self._commands.pacing
        self._leaders = Leaders(task, self._pacing, human_timeout)

        self.safety = SafetyState()
        self.dropped = 0
        self.unheard = 0
        self.measured: Measured | None = None

        self._motions = Motions(self._commands, self.safety)
        self._watchdog = Watchdog(self._commands, self._leaders, self._motions, self.safety, task.limits)
        self._now = 0.0

    # What others see

    @property
    def target(self) -> Pose | None:
        """Commanded tool pose; the measured one while nothing is commanded, None while nothing is measured."""
        measured = self.measured
        if measured is None or self._commands.counts_on(measured):
            return None if measured is None else self._integrator.target
        return measured.tcp

    @property
    def gripper_target(self) -> float:
        """Commanded width [m]; the measured one while nothing is commanded."""
        if self._commands.is_under_way:
            return self._integrator.gripper_width
        return 0.0 if self.measured is None else self.measured.gripper_width

    @property
    def leader(self) -> Sender:
        """Who sends the actions of the person who leads; nobody while none does, or who did has fallen silent."""
        person = self._leaders.person
        return person.sender if self.safety.mode is Source.HUMAN and not person.is_gone(self._now) else NOBODY

    @property
    def move_error(self) -> float:
        """Distance that the motion under way has left [m] or [rad]; 0 without one."""
        return 0.0 if self.measured is None else self._motions.error(self.measured)

    # Events

    def on_state(self, measured: Measured) -> Command | None:
        """New joint states. Where time runs they are also the clock that motions and a person's lead run on."""
        before, now, pacing = self.measured, measured.received_at, self._pacing
        self._now = now
        if self._other is not None:
            self._other.look(now)
        if before is not None and pacing.is_overtaken(before, measured):
            return None
        self.measured = measured
        if pacing.has_lapsed(measured):
            self._motions.stand()
        announced = self._commands.fresh and self._leaders.is_announced
        if pacing.hear(before, measured, announced=announced):
            self._commands.resync = True
            self._leaders.policy.forget_state_time()
        elapsed_ns = 0 if before is None else measured.stamp_ns - before.stamp_ns
        self._watchdog.hear_states(elapsed_ns, self._integrator.loads.missing(measured.loads), measured)
        if pacing.is_doubtful:
            return None  # nothing is commanded on a pose that only one message has told
        self._integrator.see(measured.tcp)
        elapsed = max(elapsed_ns, 0) / _SECOND_NS
        overload = self._integrator.feel(measured.loads, measured.tcp, measured.joints, elapsed)
        moved = pacing.is_void or pacing.is_displaced
        if moved or (self._commands.fresh and pacing.world_moved(measured)):
            self._motions.end("preempted", "the world was reset, or something else moved the arm", measured)
        self._commands.resync |= moved
        if self.safety.estop:
            return self._tick(now) or self._go_on_holding(now)
        if overload is not None:
            if overload.stops:
                self.safety.overload(overload.limit, overload.text)
                return self._hold_stopped(overload.text)
            if self._motions.under_way:
                self._motions.end("preempted", f"{overload.text}; the arm gives way", measured)
                self._commands.give_way(measured)
        if self._motions.under_way:
            return self._drive_motion(measured, now)
        if self.safety.mode in (Source.POLICY, Source.HUMAN) and not self._commands.resync and elapsed_ns > 0:
            self._integrator.observe(measured.tcp, elapsed_ns / _SECOND_NS, measured.joints)
        return self._tick(now) or self._drive_person(now) or self._hold_if_silent(now) or self._go_on_holding(now)

    def on_policy(self, message: ActionInput, now: float) -> Command | None:
        """A step of the policy. One that is refused is as if it had not been sent."""
        self._now = now
        measured, policy = self.measured, self._leaders.policy
        problem = message.problem(self._task.action)
        if not message.active:
            problem = "expected active to be true, which a policy always sends; only a person's device rests"
        if problem is not None:
            self.safety.refuse("action", f"policy/action refused: {problem}")
            return None
        if policy.is_old(message, self._leaders.episode):
            self.dropped += 1
            return None
        if self._motions.under_way:
            self.safety.explain("move_to", "policy/action refused: move_to is running")
            return None
        stale = self._pacing.staleness(message, measured)
        if stale is not None:
            self.safety.refuse("stale_command", f"policy/action refused: {stale}")
            return None
        if policy.take(message, now):
            self.safety.count(("rate",))
        if not self._leaders.is_early(message):
            policy.hear(None if measured is None else measured.stamp_ns, now)
        return self._tick(now)

    def on_teleop(self, message: ActionInput, now: float) -> Command | None:
        """A message of the person's device. One that is refused is as if it had not been sent."""
        self._now = now
        leaders = self._leaders
        problem = message.problem(self._task.action)
        if problem is not None:
            self.safety.refuse("action", f"teleop/action refused: {problem}")
            return None
        # before who is followed: a device that is dead while another one leads must not lead once that one lets go
        old = self._pacing.out_of_date(message, leaders.person, leaders.episode)
        if not leaders.person.admits(message, now):
            self.unheard += message.active
            return None
        if old is not None:
            self.dropped += 1
            if old and leaders.leading(now) is None:
                self.safety.explain("stale_command", f"teleop/action refused: {old}")
            return None
        leaders.person.hear(message, now)
        if self.measured is not None and leaders.leading(now) is not None:
            self._motions.end("preempted", "a person took over", self.measured)
        return self._tick(now) or self._drive_person(now) or self._hold_if_silent(now)

    def on_announcer(self) -> None:
        """Somebody announces episodes: a step waits for that of its own one, which may be slower than the step."""
        self._leaders.has_announcer = True

    def on_episode(self, episode: int, *, running: bool, human_expected: bool, now: float) -> Command | None:
        """An episode begins, or (`running` false) none is on."""
        self._now = now
        if self._leaders.announce(episode, running=running, human_expected=human_expected):
            self._commands.fresh = True
        return self._tick(now) if running else None

    def on_other_arm(self, target: Pose, tcp: Pose, stamp_ns: int, now: float) -> Command | None:
        """The arm beside this one tells where its tool is commanded to be, and is, on its state of `stamp_ns` [ns]."""
        self._now = now
        if self._other is None:
            return None
        self._other.hear(target, tcp, stamp_ns, now)
        return self._tick(now)

    def on_other_stop(self, *, stopped: bool) -> Command | None:
        """The arm beside this one is stopped, or no longer: this one stops with it, and is released by itself."""
        return self.on_estop() if self._other is not None and self._other.begins_to_stop(stopped=stopped) else None

    def on_driver(self, problem: str, now: float) -> Command | None:
        """The arm's driver says why it moves nothing; empty: it does what is commanded."""
        self._now = now
        self._watchdog.hear_driver(problem, self.measured)
        return self._go_on_holding(now) if problem else None

    def on_timer(self, now: float) -> Command | None:
        """Notices what does not come; to be called some fifty times a second of local time."""
        self._now = now
        if self._other is not None:
            self._other.look(now)
        measured = self.measured
        if self._watchdog.was_asleep(now):
            return None
        if measured is not None:
            self._watchdog.look(measured, now)
        command = self._tick(now)
        if command is not None or not self._pacing.time_runs:
            return command
        return self._hold_if_silent(now) or self._go_on_holding(now)

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
            self._leaders.person.forget()

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
        return self._begin_motion(self._commands.plan_pose(goal, scaling), scaling, done, now)

    def move_to_joints(
        self, goal: NDArray[np.float64], scaling: float, done: Callable[[MoveOutcome], None], now: float
    ) -> Command | None:
        """Moves the arm joints to `goal` float64 (n,) [rad] on a straight line in joint space; else as `move_to_pose`.

        Raises:
            MoveRejected: not now, or not there.
        """
        if self._integrator.joint_filter is None:
            raise MoveRejected("two arms keep their hands apart, which no motion of the joints knows of; give a pose")
        return self._begin_motion(self._commands.plan_joints(goal, scaling), scaling, done, now)

    def move_along_way(
        self,
        way: AwaitedWay,
        error: Callable[[Measured], float],
        done: Callable[[MoveOutcome], None],
        now: float,
    ) -> Command | None:
        """Moves the arm along a way that is asked for once it stands, else as `move_to_pose`; `error` is what is left.

        Raises:
            MoveRejected: not now, or not there.
        """
        return self._begin_motion(self._commands.await_way(way, error), 1.0, done, now)

    def on_way(self, now: float) -> Command | None:
        """The way that a motion waited for was answered, or its goal was canceled meanwhile."""
        self._now = now
        if self.measured is None or self.safety.estop:
            return None
        return self._drive_motion(self.measured, now)

    def cancel_move(self) -> None:
        """Brakes the motion under way; its `done` is called once it stands."""
        self._motions.cancel()

    def _begin_motion(
        self, plan: Plan, scaling: float, done: Callable[[MoveOutcome], None], now: float
    ) -> Command | None:
        self._now, measured = now, self.measured
        if self.safety.estop:
            raise MoveRejected("the e-stop is latched; call arm/reset_estop first")
        if not 0.0 < scaling <= 1.0:
            raise MoveRejected(f"velocity_scaling: expected a value in (0, 1], found {scaling}")
        if self._leaders.leading(now) is not None:
            raise MoveRejected("a person leads the arm")
        if measured is None or self._watchdog.obstacle:
            raise MoveRejected(self._watchdog.obstacle or "there are no joint_states")
        self._motions.begin(plan, measured, done)
        self._leaders.policy.pending = None
        return self._drive_motion(measured, now)

    def _drive_motion(self, measured: Measured, now: float) -> Command | None:
        result = self._motions.drive(measured)
        return None if result is None else self._command(Source.MOVE_TO, result, measured, now)

    # Control steps

    def _tick(self, now: float) -> Command | None:
        """Commands the policy's pending step, unless it has to wait."""
        leaders, policy, measured = self._leaders, self._leaders.policy, self.measured
        message = policy.pending
        if message is None:
            return None
        if measured is None or self._watchdog.states_lost:
            policy.pending = None
            self.safety.refuse("joint_states", "policy/action refused: there are no joint_states")
            return None
        if self._watchdog.driver:
            policy.pending = None
            self.safety.refuse("driver", "policy/action refused: the driver moves nothing")
            return None
        if not self._may_go_on(measured):
            return None
        if self.safety.estop:
            policy.pending = None
            return self._answer_stopped(message, measured, now)
        turn = leaders.turn_of_step(message, now)
        if turn is None:
            return None
        if leaders.begins(message):
            self._commands.fresh = True
        if not self._commands.may_start(measured):
            return None
        policy.pending = None
        return self._execute(turn, measured, now)

    def _drive_person(self, now: float) -> Command | None:
        """Lets the person's device drive while no policy asks for steps."""
        measured = self.measured
        if measured is None or self._watchdog.obstacle or self.safety.estop or self._motions.under_way:
            return None
        turn = self._leaders.turn_of_person(measured, now)
        if turn is None or not self._may_go_on(measured) or not self._commands.may_start(measured):
            return None
        return self._execute(turn, measured, now)

    def _may_go_on(self, measured: Measured) -> bool:
        """Whether a command that is no hold may be given now."""
        return self._commands.may_go_on(measured) and (self._other is None or self._other.allows(measured.stamp_ns))

    def _execute(self, turn: Turn, measured: Measured, now: float) -> Command:
        """Commands an action."""
        action = turn.action or self._task.action.rest(self.gripper_target).tolist()
        if turn.source is Source.HUMAN:
            self._leaders.person.has_led = True
        result = self._commands.act(action, measured)
        self.safety.clear()
        missing = self._leaders.missing(now)
        if missing:
            self.safety.hold("person", missing)
        if (overload := self._integrator.overload) is not None:
            self.safety.hold(overload.limit, f"{overload.text}; the arm gives way")
        return self._command(turn.source, result, measured, now, turn.episode, turn.step)

    def _command(
        self, source: Source, result: CommandResult, measured: Measured, now: float, episode: int = 0, step: int = 0
    ) -> Command:
        self.safety.mode = source
        self.safety.acted(result.limits)
        self._pacing.note(measured.stamp_ns, now)
        target, width, executed, limits, joints = result
        return Command(measured.stamp_ns, source, target, width, joints, episode, step, executed, limits)

    # Stops

    def _hold_stopped(self, message: str) -> Command | None:
        """Begins to hold; in lockstep the world only moves on when a step of the policy is answered."""
        now = self._now
        if self.measured is not None:
            self._motions.end("estop", message, self.measured)
        self._commands.stop()
        command = self._tick(now)
        if command is None and self._pacing.time_runs:
            self._leaders.policy.pending = None
        return command or self._go_on_holding(now)

    def _answer_stopped(self, message: ActionInput, measured: Measured, now: float) -> Command:
        """Answers a step of the policy while stopped: the arm brakes, then stays where it is held."""
        result = self._commands.stop_for_step(measured)._replace(limits=(self.safety.key,))
        return self._command(Source.ESTOP, result, measured, now, message.episode, message.step)

    def _go_on_holding(self, now: float) -> Command | None:
        """The next command of the hold, paced by the states, or by local time where these do not come."""
        measured, stopped = self.measured, self.safety.estop
        if measured is None:
            return None
        held = self._commands.go_on_holding(measured, now, lost=self._watchdog.states_lost, urgent=stopped)
        if held is None:
            return None
        self._pacing.note(measured.stamp_ns, now)
        source = Source.ESTOP if stopped else Source.IDLE
        return Command(measured.stamp_ns, source, held.target, held.gripper_width, held.joint_positions)

    def _hold_if_silent(self, now: float) -> Command | None:
        """Where time runs: who leads has been silent for too long or has let go, so the arm is held."""
        held = self.measured is not None and self._watchdog.begins_hold(self.measured, now)
        return self._go_on_holding(now) if held else None
