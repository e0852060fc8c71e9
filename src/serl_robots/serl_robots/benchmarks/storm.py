# SPDX-License-Identifier: Apache-2.0
"""An arm controller in a storm of random events, and what its commands amount to, computed from the commands alone."""

import contextlib
import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from serl_robots.benchmarks.watch import PERIOD, Ratios, Watch
from serl_robots.control.action import ActionSpec
from serl_robots.control.arbitration import ActionInput
from serl_robots.control.arm_controller import ArmController
from serl_robots.control.arm_task import ArmTask
from serl_robots.control.control_step import Command, Measured
from serl_robots.control.move_to import MoveRejected
from serl_robots.model.gripper import Gripper
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose
from serl_robots.model.robot import RobotModel
from serl_robots.safety.limits import SafetyLimits

_PERIOD_NS: Final = 100_000_000
_STATE: Final = 0.01  # [s] between joint states in real time
_SMALL_PUSH: Final = 0.01  # [m]
_GLITCH: Final = 0.05  # [m]
_NEWTON_STEPS: Final = 12
_DAMPING: Final = 1e-6
_TOOL_ACTION: Final = ActionSpec(
    names=("dx", "dy", "dz", "rx", "ry", "rz", "gripper"), scale=(0.04, 0.04, 0.04, 0.15, 0.15, 0.15, 0.08)
)
_JOINT_STEP: Final = 0.15  # [rad] that 1 means for each joint: more than it may do in a period

# How often what happens, in real time and in lockstep alike.
_EVENTS: Final = {
    "policy": 20.0,
    "teleop": 6.0,
    "time": 30.0,
    "episode": 2.0,
    "reset_world": 1.0,
    "estop": 1.0,
    "fault": 0.5,
    "release": 3.0,
    "move_pose": 1.0,
    "move_joints": 0.7,
    "cancel": 0.7,
    "push": 1.5,
    "glitch": 1.0,
    "block": 0.7,
    "silence": 1.5,
    "restart_time": 0.2,
    "idle": 0.5,
}


class Storm:
    """A pretended arm, policy, person and world around one controller, all driven by chance."""

    def __init__(
        self,
        robot: RobotModel,
        kinematics: Kinematics,
        limits: SafetyLimits,
        rng: np.random.Generator,
        ratios: Ratios,
        *,
        lockstep: bool,
        joints: bool,
        joint_actions: bool = False,
    ) -> None:
        """Begin at the robot's home with a new controller.

        Args:
            robot: that is commanded.
            kinematics: of the robot.
            limits: that hold.
            rng: chance.
            ratios: where what happens is written down.
            lockstep: whether the world moves for commands only.
            joints: whether the arm's joints belong to its pose, so that they can be commanded.
            joint_actions: whether policy and person move the joints and not the tool.
        """
        action = joint_action(robot) if joint_actions else _TOOL_ACTION
        self._size = len(action)
        task = ArmTask(name="storm", robot=robot.name, control_period=PERIOD, action=action, limits=limits)
        self.controller = ArmController(task, robot, kinematics, lockstep=lockstep)
        self._kinematics, self._limits, self._rng, self._lockstep = kinematics, limits, rng, lockstep
        self._watch = Watch(limits, kinematics, ratios, lockstep=lockstep)
        self._home = np.array(robot.configuration("home"))
        self._joints = self._home.copy()
        self._tcp = kinematics.tcp(self._joints)
        self._width = float(rng.uniform(limits.min_gripper_width - 0.001, limits.max_gripper_width + 0.001))
        self._goal: Command | None = None
        self._now, self._stamp_ns = 100.0, 5_000_000_000
        self._really: Measured | None = None  # while joint states are wrong
        self._blocked = False
        self._episode, self._step = 1, 0
        self._push = np.zeros(3)
        self._has_joints = joints or joint_actions
        self._recent: list[str] = []
        self.controller.on_timer(self._now)
        self._state(_STATE)
        names = list(_EVENTS)
        weights = np.array([_EVENTS[name] for name in names])
        self._names, self._weights = names, weights / weights.sum()

    def run(self, events: int) -> None:
        """Let so many events happen."""
        for index in self._rng.choice(len(self._names), size=events, p=self._weights).tolist():
            name = self._names[index]
            self._recent = [*self._recent[-9:], name]
            getattr(self, f"do_{name}")()

    # Events

    def do_policy(self) -> None:
        """A step of the policy, now and then one that must be refused."""
        rng = self._rng
        size = self._size
        action = rng.choice([-1.0, 1.0], size) if rng.random() < 0.6 else rng.uniform(-1.0, 1.0, size)
        if rng.random() < 0.03:
            action[rng.integers(size)] = rng.choice([math.nan, math.inf, 2.0])
        stamp = self._stamp_ns if rng.random() < 0.8 else self._stamp_ns - int(rng.integers(0, 10**9))
        message = ActionInput(self._episode, self._step, tuple(action.tolist()), stamp, bool(rng.random() > 0.02))
        self._step += int(rng.random() > 0.05)
        self._take(self.controller.on_policy(message, self._now))
        if rng.random() < 0.8:
            self._pass(PERIOD + float(rng.choice([-0.04, 0.0, 0.0, 0.04])))

    def do_teleop(self) -> None:
        """A person leads for a while, or rests."""
        rng = self._rng
        for _ in range(int(rng.integers(1, 6))):
            action = tuple(rng.choice([-1.0, 1.0], self._size).tolist())
            stamp = 0 if rng.random() < 0.5 else self._stamp_ns
            step = (self._episode, self._step) if rng.random() < 0.3 else (0, 0)
            message = ActionInput(*step, action, stamp, bool(rng.random() < 0.8), synchronous=step != (0, 0))
            self._take(self.controller.on_teleop(message, self._now))
            self._pass(0.05)

    def do_time(self) -> None:
        """Time passes."""
        self._pass(float(self._rng.choice([0.01, 0.03, 0.1, 0.3])))

    def do_episode(self) -> None:
        """An episode begins, in mid-motion."""
        self._episode, self._step = self._episode + 1, 0
        self._take(self.controller.on_episode(self._episode, running=True, human_expected=False, now=self._now))

    def do_idle(self) -> None:
        """No episode is on."""
        self._take(self.controller.on_episode(self._episode, running=False, human_expected=False, now=self._now))

    def do_reset_world(self) -> None:
        """An episode begins, and the simulator puts the arm somewhere."""
        self.do_episode()
        self._goal = None
        self._joints = self._home + self._rng.uniform(-0.05, 0.05, len(self._home))
        self._tcp = self._kinematics.tcp(self._joints)
        if self._lockstep:
            self._watch.forget()
        else:
            self._watch.doubt(self._stamp_ns + round(PERIOD * 1e9))
        self._now -= 0.0 if self._lockstep else PERIOD - 0.001  # time jumps ahead
        self._state(PERIOD)

    def do_estop(self) -> None:
        """Somebody stops the arm."""
        self._take(self.controller.on_estop())

    def do_fault(self) -> None:
        """The node found an error."""
        self._take(self.controller.on_fault("internal error"))

    def do_release(self) -> None:
        """Somebody releases it."""
        self.controller.reset_estop()

    def do_move_pose(self) -> None:
        """A goal for the tool."""
        low, high = np.array(self._limits.workspace_min), np.array(self._limits.workspace_max)
        goal = Pose(self._rng.uniform(low, high), self._limits.reference_orientation)
        try:
            self._take(self.controller.move_to_pose(goal, self._scaling(), lambda _: None, self._now))
        except MoveRejected:
            return
        self._pass(float(self._rng.uniform(0.0, 2.0)))

    def do_move_joints(self) -> None:
        """A goal for the joints."""
        if not self._has_joints:
            return
        goal = self._joints + self._rng.uniform(-0.3, 0.3, len(self._joints))
        try:
            self._take(self.controller.move_to_joints(goal, self._scaling(), lambda _: None, self._now))
        except MoveRejected:
            return
        self._pass(float(self._rng.uniform(0.0, 2.0)))

    def do_cancel(self) -> None:
        """The goal is taken back."""
        self.controller.cancel_move()

    def do_push(self) -> None:
        """Somebody pushes the arm, by a little or a lot."""
        self._push = self._rng.uniform(-1.0, 1.0, 3) * self._rng.choice([0.005, 0.02, 0.15])

    def do_glitch(self) -> None:
        """One message tells of an arm that is elsewhere, and something happens before the next one."""
        if self._lockstep:
            return
        self._state(_STATE)  # after a silence the arm may be anywhere
        joints, tcp, self._really = self._joints, self._tcp, self.controller.measured
        while self._tcp.distance(tcp) < _GLITCH:  # what an arm may have done is no glitch
            self._joints = self._home + self._rng.uniform(-0.3, 0.3, len(self._home))
            self._tcp = self._kinematics.tcp(self._joints)
        self._state(_STATE)
        if self._watch.is_in_doubt:  # of a reset, which the controller cannot follow before the next state
            self._watch.doubt(self._stamp_ns)
        name = str(self._rng.choice(["estop", "fault", "release", "episode", "policy_now", "move_now", "timer"]))
        self._recent.append(name)
        if name == "policy_now":
            message = ActionInput(self._episode, self._step, tuple(self._rng.choice([-1.0, 1.0], self._size).tolist()))
            self._step += 1
            self._take(self.controller.on_policy(message, self._now))
        elif name == "move_now":
            with contextlib.suppress(MoveRejected):
                self._take(self.controller.move_to_pose(tcp, 1.0, lambda _: None, self._now))
        elif name == "timer":
            self._take(self.controller.on_timer(self._now))
        else:
            getattr(self, f"do_{name}")()
        self._joints, self._tcp, self._really = joints, tcp, None
        self._state(_STATE)

    def do_block(self) -> None:
        """Something is in the way, or no longer."""
        self._blocked = not self._blocked

    def do_silence(self) -> None:
        """Joint states stay away."""
        if self._lockstep:
            self.do_time()
            return
        for _ in range(int(self._rng.integers(1, 40))):
            self._now += 0.02
            self._stamp_ns += 20_000_000
            self._take(self.controller.on_timer(self._now))

    def do_restart_time(self) -> None:
        """The source of the joint states begins anew, with other stamps."""
        if not self._lockstep:
            self._stamp_ns = int(self._rng.choice([0, 10**9, self._stamp_ns + 10**10]))
            self._watch.doubt(self._stamp_ns + round(_STATE * 1e9))
            self._state(_STATE)

    # The world

    def _scaling(self) -> float:
        return float(self._rng.uniform(0.3, 1.0))

    def _pass(self, seconds: float) -> None:
        """Time passes; in lockstep the world answers commands by itself, see `_take`."""
        if self._lockstep:
            self._now += seconds
            self._take(self.controller.on_timer(self._now))
            return
        for _ in range(max(1, round(seconds / _STATE))):
            self._state(_STATE)
            if self._rng.random() < 0.5:
                self._take(self.controller.on_timer(self._now))

    def _state(self, seconds: float) -> None:
        self._stamp_ns += round(seconds * 1e9)
        self._now += 0.001 if self._lockstep else seconds
        self._follow(seconds)
        self._give_way(seconds)
        if self._has_joints:
            self._solve()
        self._take(self.controller.on_state(Measured(self._stamp_ns, self._tcp, self._joints, self._width, self._now)))

    def _take(self, command: Command | None) -> None:
        """The arm obeys; in lockstep the world moves on, which may lead to the next command."""
        self._watch.ratios.events += 1
        if command is None:
            return
        measured = self._really or self.controller.measured
        assert measured is not None
        self._watch.see(command, measured, self._now, " ".join(self._recent))
        self._goal = command
        if self._lockstep:
            self._state(PERIOD)

    def _follow(self, seconds: float) -> None:
        """The arm goes half of the way to where it is commanded in 30 ms, at 1 m/s at most."""
        goal = self._goal
        if goal is None or self._blocked:
            return
        share = 1.0 - 0.5 ** (seconds / 0.03)
        distance = goal.target.distance(self._tcp)
        share = min(share, seconds / max(distance, 1e-9))
        if goal.joint_positions is not None:
            self._joints = self._joints + share * (goal.joint_positions - self._joints)
            self._tcp = self._kinematics.tcp(self._joints)
            return
        offset = share * (goal.target.position - self._tcp.position)
        turn = share * self._tcp.rotation_vector_to(goal.target)
        turned = Pose.from_rotation_vector((0.0, 0.0, 0.0), turn).compose(Pose((0, 0, 0), self._tcp.quaternion))
        self._tcp = Pose(self._tcp.position + offset, turned.quaternion)

    def _give_way(self, seconds: float) -> None:
        """The tool goes where it is pushed to, with 1 m/s."""
        distance = float(np.linalg.norm(self._push))
        if distance > 0.0:
            step = self._push * min(1.0, seconds / distance)
            self._push = self._push - step
            self._tcp = Pose(self._tcp.position + step, self._tcp.quaternion)

    def _solve(self) -> None:
        """Joints for the tool pose; what is left of the error is a push, and a jump where the pose is out of reach."""
        self._joints = solve_joints(self._kinematics, self._joints, self._tcp)
        reached = self._kinematics.tcp(self._joints)
        if reached.distance(self._tcp) > _SMALL_PUSH:
            self._watch.doubt(self._stamp_ns)
        self._tcp = reached


def solve_joints(kinematics: Kinematics, joints: NDArray[np.float64], goal: Pose) -> NDArray[np.float64]:
    """Arm joint positions (n,) [rad] near `joints` (n,) that lead the tool to `goal`, within the joints' limits.

    By damped least squares.
    """
    unit = np.eye(len(joints))
    for _ in range(_NEWTON_STEPS):
        tcp = kinematics.tcp(joints)
        error = np.concatenate([goal.position - tcp.position, tcp.rotation_vector_to(goal)])
        if float(np.abs(error).max()) < 1e-9:
            break
        jacobian = np.stack([kinematics.tcp_velocity(joints, row) for row in unit], axis=1)
        inverse = jacobian.T @ np.linalg.inv(jacobian @ jacobian.T + _DAMPING * np.eye(6))
        joints = np.clip(joints + inverse @ error, kinematics.lower + 0.11, kinematics.upper - 0.11)
    return joints


def joint_action(robot: RobotModel) -> ActionSpec:
    """Deltas of all joints, and the gripper."""
    names = tuple(f"j{number}" for number in range(1, len(robot.arm_joints) + 1))
    return ActionSpec(names=(*names, "gripper"), scale=(_JOINT_STEP,) * len(names) + (0.08,))


def random_limits(rng: np.random.Generator, gripper: Gripper) -> SafetyLimits:
    """Limits from careful to the widest, so that braking takes from one to many periods."""
    centre = np.array([0.5, 0.0, 0.25])
    size = rng.uniform(0.05, 0.25, 3)
    return SafetyLimits(
        workspace_min=tuple((centre - size).tolist()),
        workspace_max=tuple((centre + size).tolist()),
        orientation_cone=float(rng.uniform(0.1, 0.6)),
        max_step=float(rng.uniform(0.005, 0.05)),
        max_rotation_step=float(rng.uniform(0.02, 0.3)),
        max_velocity=float(rng.uniform(0.05, 0.5)),
        max_angular_velocity=float(rng.uniform(0.2, 2.0)),
        max_acceleration=float(10.0 ** rng.uniform(-1.0, 1.0)),
        max_angular_acceleration=float(10.0 ** rng.uniform(-0.7, 1.3)),
        max_joint_step=float(rng.uniform(0.01, 0.3)),
        joint_velocity_scaling=float(rng.uniform(0.05, 1.0)),
        joint_acceleration=float(10.0 ** rng.uniform(-0.3, 1.2)),
        min_gripper_width=gripper.min_width,
        max_gripper_width=gripper.max_width,
    )


def storm(robot: RobotModel, events: int, seed: int, each: int = 500) -> Ratios:
    """Lets `events` things happen to controllers with random limits, joint states and ticks of the timer included.

    A controller gets `each` random events before a new one takes its place.
    """
    kinematics, ratios = Kinematics(robot), Ratios()
    number = 0
    while ratios.events < events:
        storm_around_one(robot, kinematics, (seed, number), ratios, each)
        number += 1
    return ratios


def storm_around_one(
    robot: RobotModel, kinematics: Kinematics, seed: tuple[int, int], ratios: Ratios, events: int
) -> None:
    """So many random `events` around one controller, the same for the same `seed`; its second number says the kind."""
    rng, number = np.random.default_rng(seed), seed[1]
    lockstep, joints, joint_actions = number % 2 == 1, number % 8 < 2, number % 8 in (4, 5)
    Storm(
        robot,
        kinematics,
        random_limits(rng, robot.gripper),
        rng,
        ratios,
        lockstep=lockstep,
        joints=joints,
        joint_actions=joint_actions,
    ).run(events)
