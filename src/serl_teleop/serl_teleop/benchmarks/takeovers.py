# SPDX-License-Identifier: Apache-2.0
"""A robot, a policy, a leader arm and a restless hand: what is commanded while the lead goes to and fro.

Everything that commands in a graph is the same here: leader, operator, mapping, arm controller with its safety filter.
Pretended are the leader's servos, the hand, the robot that obeys, and time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from serl_robots.benchmarks.storm import random_limits
from serl_robots.control.arbitration import ActionInput
from serl_robots.control.arm_controller import ArmController
from serl_robots.control.arm_task import ArmTask
from serl_robots.control.control_step import Command, Measured
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose
from serl_robots.model.robot import HOME, RobotModel, load_robot
from serl_robots.safety.limits import SafetyLimits
from serl_robots.safety.source import Source

from serl_tasks import ArmSample, Task
from serl_teleop.devices.action_mapping import ActionMapping
from serl_teleop.devices.axes import NONE, TOOL_AXES, AxisMapping
from serl_teleop.devices.buttons import Function
from serl_teleop.devices.device import GRAB, Device, DeviceError
from serl_teleop.devices.hand import Hand
from serl_teleop.devices.leader.arm import LeaderArm, LeaderReading, LeaderSettings
from serl_teleop.devices.leader.chain import SERVO_LEADER, Joints, RobotChain, solve
from serl_teleop.devices.leader.grab import GrabSettings
from serl_teleop.devices.leader.space import JointSpace, Space, ToolSpace
from serl_teleop.devices.operator import DeviceSettings, Operator
from serl_teleop.devices.takeover import Phase, Timing

_LOOK: Final = 0.02  # [s] between two looks at the leader, and two joint states
_LONGEST: Final = 2000  # looks at the leader for one takeover
_STEP_OF_ENCODER: Final = 2.0 * math.pi / 4096
_FASTEST_HAND: Final = 3.0  # [rad/s] of each joint
_SERVO_LEADER_HOME: Final = np.array([0.0, -0.4, 0.2, 0.8, 0.0])


@cache
def servo_leader() -> Kinematics:
    """The kinematics of a servo leader, made once for all worlds of this process."""
    return Kinematics(load_robot(SERVO_LEADER))


@dataclass
class Jumps:
    """What was commanded, over what one control step may be."""

    takeovers: int = 0
    releases: int = 0
    step: float = 0.0
    """Largest step of the commanded tool between two commands, of way or turn, in step limits."""
    first_step: float = 0.0
    """Largest such step of the first command after each change of who leads, in step limits."""
    asked: float = 0.0
    """Largest component of the first action that a person asked for after a grab, of 1."""
    commands: int = 0
    led: int = 0

    def add(self, other: Jumps) -> None:
        """Take in what was found elsewhere."""
        self.takeovers += other.takeovers
        self.releases += other.releases
        self.commands += other.commands
        self.led += other.led
        self.step = max(self.step, other.step)
        self.first_step = max(self.first_step, other.first_step)
        self.asked = max(self.asked, other.asked)


class PretendedLeader:
    """Servos that follow their goals as those of an SO-101 do, unless a hand has them; see `LeaderHardware`.

    Attributes:
        hand: where it holds the joints (n,) [rad]; None: it does not.
        gone: whether it is unplugged.
    """

    description = "a pretended leader"
    is_driven = True

    def __init__(self, joints: Joints, lag: float, rng: np.random.Generator) -> None:
        """Begin at rest; `lag` [s] is that of the servos."""
        self.joints, self._goal, self._lag, self._rng = joints.copy(), joints.copy(), lag, rng
        self.handle = 1.0
        self.hand: NDArray[np.float64] | None = None
        self.gone = False

    def move(self, seconds: float) -> None:
        """Let time pass."""
        if self.hand is not None:
            self.joints = self.hand.copy()
        else:
            self.joints = self.joints + (1.0 - math.exp(-seconds / self._lag)) * (self._goal - self.joints)

    def read(self, now: float) -> LeaderReading:
        """Where it is, as encoders tell it; see `LeaderHardware`.

        Raises:
            DeviceError: it is unplugged.
        """
        self._check()
        noise = self._rng.integers(-1, 2, len(self.joints)) * (self._rng.random(len(self.joints)) < 0.05)
        steps = np.rint(self.joints / _STEP_OF_ENCODER) + noise
        return LeaderReading(np.asarray(steps * _STEP_OF_ENCODER, dtype=np.float64), self.handle)

    def send(self, joints: Joints, handle: float, *, held: bool) -> None:
        """Go there; see `LeaderHardware`.

        Raises:
            DeviceError: it is unplugged.
        """
        self._check()
        self._goal = joints.copy()
        if not held:
            self.handle = handle

    def close(self) -> None:
        """It stays where it is."""
        self._goal = self.joints.copy()

    def _check(self) -> None:
        if self.gone:
            raise DeviceError("the leader is gone")


class World:
    """One robot and its leader, until a number of takeovers is reached. Time is that of the simulation."""

    def __init__(
        self,
        task: Task,
        limits: SafetyLimits,
        kinematics: Kinematics,
        rng: np.random.Generator,
        jumps: Jumps,
        *,
        by_joints: bool,
    ) -> None:
        """Begin with both arms at home.

        Args:
            task: whose robot, action, frame and control period these are.
            limits: that hold.
            kinematics: of the robot.
            rng: chance.
            jumps: where what happens is written down.
            by_joints: whether the leader is built as the robot and leads its joints; else it is an SO-101.
        """
        robot = load_robot(task.robot)
        self._task = task
        self._limits, self._rng, self._jumps, self._kinematics = limits, rng, jumps, kinematics
        commanded = ArmTask(
            name=task.name,
            robot=task.robot,
            control_period=task.control_period,
            action=task.action,
            frame=task.frame,
            limits=limits,
        )
        self.controller = ArmController(commanded, robot, kinematics, lockstep=False)
        self._full_width = robot.gripper.max_width if task.action.gripper is None else task.action.gripper[1]
        self._joints = np.array(robot.configuration(HOME))
        self._tcp, self._width = kinematics.tcp(self._joints), 0.04
        self._chain = RobotChain(kinematics) if by_joints else None
        self._goal: Command | None = None
        self._now, self._stamp_ns, self._tick = 100.0, 5_000_000_000, 0
        self._step = 0
        self._source: Source | None = None
        self._leader_home = self._joints.copy() if by_joints else _SERVO_LEADER_HOME
        self.leader = PretendedLeader(self._leader_home, float(rng.uniform(0.03, 0.08)), rng)
        model = kinematics if by_joints else servo_leader()
        self._reach = 0.5 * (model.upper - model.lower)
        self._make = self._maker(robot, by_joints=by_joints)
        settings = DeviceSettings(
            AxisMapping.parse([NONE] * len(TOOL_AXES), [1.0] * len(TOOL_AXES), 0.0),
            Timing(0.0, 0.0, math.inf),
            {GRAB: Function.LEAD},
        )
        self.hand = Hand(Operator("leader", settings), self._make)
        self._mapping = ActionMapping(task)
        self._moving = [index for _, index, _ in task.action.twist]
        self._led = False
        self._velocity = np.zeros(len(self._leader_home))
        self._until = 0.0
        self.controller.on_timer(self._now)

    def _maker(self, robot: RobotModel, *, by_joints: bool) -> Callable[[], Device]:
        rng = self._rng
        grab = GrabSettings(start_window=float(rng.uniform(0.06, 0.2)), release_window=float(rng.uniform(0.1, 0.4)))
        settings = LeaderSettings(grab, speed=float(rng.uniform(0.5, 1.5)), blend=float(rng.uniform(0.0, 0.3)))
        space: Space = JointSpace(self._kinematics)
        if not by_joints:
            leader = servo_leader()
            space = ToolSpace(
                RobotChain(leader),
                self._leader_home,
                self._kinematics.tcp(robot.configuration(HOME)),
                leader.lower,
                leader.upper,
                float(rng.uniform(0.5, 3.0)),
                float(rng.uniform(-3.0, 3.0)),
            )
        return lambda: LeaderArm(self.leader, space, settings, self._sample, self._full_width)

    def run(self, takeovers: int) -> None:
        """Let the hand take and leave the leader so many times."""
        target, ticks = self._jumps.releases + takeovers, 0
        while self._jumps.releases < target and ticks < _LONGEST * takeovers:
            ticks += 1
            self.advance()

    def advance(self) -> None:
        """One look at the leader: 20 ms."""
        self._now += _LOOK
        self._stamp_ns += round(_LOOK * 1e9)
        self._tick += 1
        self._move_hand()
        self.leader.move(_LOOK)
        self._obey()
        self._take(self.controller.on_state(self._measured()))
        if self._tick % round(self._task.control_period / _LOOK) == 0:
            self._act()
        self._look()
        self._take(self.controller.on_timer(self._now))

    # The hand

    def _move_hand(self) -> None:
        """Now and then it takes the leader, moves it about, holds it still, and leaves it where it is."""
        rng, leader = self._rng, self.leader
        if self._now >= self._until:
            held = leader.hand is not None
            chance = rng.random()
            if leader.gone:
                leader.gone = False
            elif held and chance < 0.75:
                leader.hand = None
            elif held and chance < 0.77:
                leader.gone, leader.hand = True, None
                if rng.random() < 0.5:
                    self.hand.operator.takeover.consent()
            elif held and chance < 0.85:
                self._velocity = np.zeros_like(self._velocity)
            else:
                leader.hand = leader.joints.copy() if leader.hand is None else leader.hand
                fastest = _FASTEST_HAND * rng.random()
                self._velocity = rng.uniform(-fastest, fastest, len(self._velocity))
            # whoever has let go may take it again before anybody could tell, while the lead fades, or later
            self._until = self._now + float(rng.uniform(0.05, 0.3 if leader.hand is not None else 0.9))
        if leader.hand is not None:
            moved = leader.hand + _LOOK * self._velocity
            leader.hand = np.clip(moved, self._leader_home - self._reach, self._leader_home + self._reach)

    # The robot

    def _obey(self) -> None:
        """The robot goes half of the way to where it is commanded in 30 ms."""
        goal = self._goal
        if goal is None:
            return
        share = 1.0 - 0.5 ** (_LOOK / 0.03)
        turn = Pose.from_rotation_vector((0.0, 0.0, 0.0), share * self._tcp.rotation_vector_to(goal.target))
        quaternion = turn.compose(Pose((0.0, 0.0, 0.0), self._tcp.quaternion)).quaternion
        self._tcp = Pose(self._tcp.position + share * (goal.target.position - self._tcp.position), quaternion)
        self._width = goal.gripper_width
        if self._chain is not None:
            kinematics = self._kinematics
            self._joints = solve(
                self._chain, self._tcp, self._joints, kinematics.lower, kinematics.upper, turn_weight=0.3
            )

    def _measured(self) -> Measured:
        return Measured(self._stamp_ns, self._tcp, self._joints, self._width, self._now)

    def _sample(self) -> ArmSample:
        controller = self.controller
        return ArmSample(
            self._tcp,
            np.zeros(6),
            self._width,
            controller.gripper_target,
            controller.target,
            self._joints if self._chain is not None else None,
        )

    # Who wants what

    def _act(self) -> None:
        """A step of a policy that knows nothing."""
        action = tuple(self._rng.uniform(-1.0, 1.0, len(self._task.action)).tolist())
        self._take(self.controller.on_policy(ActionInput(1, self._step, action, self._stamp_ns), self._now))
        self._step += 1

    def _look(self) -> None:
        """What the node `teleop` does."""
        arm = self._sample()
        intent = self.hand.ask(self._mapping.gripper_of(self._mapping.rest(arm)), self._now)
        if intent.phase.leads:
            motion = intent.motion or (0.0,) * 6
            action = self._mapping.action_for(motion, intent.gripper, arm)
            if not self._led:
                self._jumps.asked = max(self._jumps.asked, float(np.abs(action[self._moving]).max()))
        else:
            action = self._mapping.rest(arm)
        if intent.phase.leads or self._led:
            message = ActionInput(0, 0, tuple(action.tolist()), 0, intent.phase.leads)
            self._take(self.controller.on_teleop(message, self._now))
        self._led = intent.phase.leads

    def _take(self, command: Command | None) -> None:
        """Measure a command against the one before, and obey it."""
        if command is None:
            return
        before, self._goal, jumps = self._goal, command, self._jumps
        jumps.commands += 1
        jumps.led += command.source is Source.HUMAN
        changed = command.source is not self._source
        if changed and command.source is Source.HUMAN:
            jumps.takeovers += 1
        elif changed and self._source is Source.HUMAN:
            jumps.releases += 1
        self._source = command.source
        if before is None:
            return
        step = max(
            before.target.distance(command.target) / self._limits.max_step,
            before.target.angle(command.target) / self._limits.max_rotation_step,
        )
        jumps.step = max(jumps.step, step)
        if changed:
            jumps.first_step = max(jumps.first_step, step)

    @property
    def holds(self) -> bool:
        """Whether the arm is held because its leader was lost."""
        return self.hand.operator.takeover.phase is Phase.HOLDING


def take_over(tasks: Sequence[Task], takeovers: int, seed: int, each: int = 50) -> Jumps:
    """Lets a hand take over and let go `takeovers` times, in worlds with random limits and settings.

    A world gets `each` takeovers before a new one takes its place, with the next of the tasks, which have one robot; of
    four, one is led by joints.
    """
    rng, jumps, robot = np.random.default_rng(seed), Jumps(), load_robot(tasks[0].robot)
    kinematics = Kinematics(robot)
    number = 0
    while jumps.releases < takeovers:
        limits = random_limits(rng, robot.gripper)
        task = tasks[number % len(tasks)]
        world = World(task, limits, kinematics, rng, jumps, by_joints=number % 4 == 3)
        world.run(min(each, takeovers - jumps.releases))
        number += 1
    return jumps
