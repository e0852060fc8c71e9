# SPDX-License-Identifier: Apache-2.0
"""A controller with a pretended arm and clock, for tests without ROS."""

from functools import cache
from typing import Any

import numpy as np
from serl_robots.control.action import ActionSpec
from serl_robots.control.arbitration import ActionInput
from serl_robots.control.arm_controller import ArmController
from serl_robots.control.arm_task import ArmTask
from serl_robots.control.control_step import Command, Measured
from serl_robots.control.move_to import MoveOutcome
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose
from serl_robots.model.robot import RobotModel, load_robot
from serl_robots.safety.limits import SafetyLimits
from serl_robots.safety.overload import NO_LOADS
from serl_robots.safety.safety_state import SafetyState

PERIOD = 0.1
PERIOD_NS = 100_000_000
SCALE = 0.02
ACTION = ActionSpec(names=("dx", "dy", "dz", "gripper"), scale=(SCALE, SCALE, SCALE, 0.08))
FORWARD, BACK, STILL = (1.0, 0.0, 0.0, 0.0), (-1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0)
LIMITS: dict[str, Any] = {
    "workspace_min": (0.3, -0.3, 0.02),
    "workspace_max": (0.7, 0.3, 0.5),
    "min_gripper_width": 0.0,
    "max_gripper_width": 0.08,
    "max_step": 0.05,
    "max_velocity": 0.5,
    "max_acceleration": 10.0,
    "max_gripper_velocity": 1.0,
}


@cache
def panda() -> tuple[RobotModel, Kinematics]:
    """The robot of these tests."""
    robot = load_robot("panda")
    return robot, Kinematics(robot)


class Rig:
    """Feeds events to an `ArmController` and plays the arm that obeys it.

    The arm is wherever it was commanded to, one state later, unless it is `blocked`. In lockstep `state()` is the
    world's answer to a command; in real time it is one of ten in a control period.
    """

    def __init__(self, *, lockstep: bool, start: bool = True, action: ActionSpec = ACTION, **limits: Any) -> None:
        robot, kinematics = panda()
        task = ArmTask(
            name="test",
            robot="panda",
            control_period=PERIOD,
            action=action,
            limits=SafetyLimits(**{**LIMITS, **limits}),
        )
        self.limits = task.limits
        self._still = tuple(action.rest(0.04).tolist()) if action.joint_block else (0.0, 0.0, 0.0, 0.0)
        self.kinematics = kinematics
        self.controller = ArmController(task, robot, kinematics, lockstep=lockstep)
        self.lockstep = lockstep
        self.joints = np.array(robot.named_configurations["home"])
        self.tcp = kinematics.tcp(self.joints)
        self.width = 0.04
        self.now = 100.0
        self.stamp_ns = 5_000_000_000
        self.blocked = False
        self.loads = NO_LOADS
        self.commands: list[Command] = []
        self.outcomes: list[MoveOutcome] = []
        self.controller.on_timer(self.now)
        if start:
            self.state()

    @property
    def x(self) -> float:
        """Commanded x of the newest command [m]."""
        return float(self.commands[-1].target.position[0])

    @property
    def safety(self) -> SafetyState:
        """What the controller would publish on `arm/safety`."""
        return self.controller.safety

    def take(self, command: Command | None) -> Command | None:
        """Obeys a command."""
        if command is not None:
            self.commands.append(command)
            if not self.blocked:
                self.width = command.gripper_width
                self.tcp = command.target
                if command.joint_positions is not None:
                    self.joints = command.joint_positions
        return command

    def state(self, seconds: float | None = None) -> Command | None:
        """Joint states come in, `seconds` of state and local time after the last ones."""
        if seconds is None:
            seconds = PERIOD if self.lockstep else 0.1 * PERIOD
        self.stamp_ns += round(seconds * 1e9)
        self.now += 0.001 if self.lockstep else seconds
        measured = Measured(self.stamp_ns, self.tcp, self.joints, self.width, self.now, self.loads)
        return self.take(self.controller.on_state(measured))

    def states(self, seconds: float) -> list[Command]:
        """Joint states for so long, in real time; the commands that they led to."""
        commands = [self.state() for _ in range(round(seconds / (0.1 * PERIOD)))]
        return [command for command in commands if command is not None]

    def policy(self, episode: int, step: int, *action: float, stamp_ns: int = 0) -> Command | None:
        """A step of the policy; without numbers one that stays."""
        return self.take(
            self.controller.on_policy(ActionInput(episode, step, action or self._still, stamp_ns), self.now)
        )

    def teleop(
        self,
        *action: float,
        active: bool = True,
        synchronous: bool = False,
        episode: int = 0,
        step: int = 0,
        sender: str = "",
        priority: int = 0,
        stamp_ns: int = 0,
    ) -> Command | None:
        """A message of a person's device."""
        message = ActionInput(episode, step, action or self._still, stamp_ns, active, synchronous, sender, priority)
        return self.take(self.controller.on_teleop(message, self.now))

    def answer(self, episode: int, step: int, *action: float, active: bool = True) -> Command | None:
        """A synchronous person answers a step."""
        return self.teleop(*action, active=active, synchronous=True, episode=episode, step=step)

    def episode(self, number: int, *, human_expected: bool = False, running: bool = True) -> Command | None:
        """An episode is announced."""
        return self.take(
            self.controller.on_episode(number, running=running, human_expected=human_expected, now=self.now)
        )

    def wait(self, seconds: float) -> list[Command]:
        """Local time passes without messages."""
        commands = []
        for _ in range(round(seconds / 0.05)):
            self.now += 0.05
            command = self.take(self.controller.on_timer(self.now))
            if command is not None:
                commands.append(command)
        return commands

    def move_to_pose(self, position: Any, scaling: float = 1.0, orientation: Any = (1.0, 0.0, 0.0, 0.0)) -> None:
        """Asks for a tool pose; the outcome comes to `outcomes`."""
        goal = Pose(position, orientation)
        self.take(self.controller.move_to_pose(goal, scaling, self.outcomes.append, self.now))

    def move_to_joints(self, goal: Any, scaling: float = 1.0) -> None:
        """Asks for joint positions; the outcome comes to `outcomes`."""
        self.take(self.controller.move_to_joints(np.asarray(goal), scaling, self.outcomes.append, self.now))
