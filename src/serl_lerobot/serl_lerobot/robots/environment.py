# SPDX-License-Identifier: Apache-2.0
"""Any robot of LeRobot as a Gymnasium environment, commanded through the safety filter of the arm controller.

It talks to the robot in this process, without a graph; who wants an e-stop, a person's device or a recorder beside it
drives the robot by the graph instead (device `lerobot` of the drivers)::

    env = SERLRobotEnvironment(robot, "NAME", reward=lambda observation: observation["state"][0] > 0.5)
    observation, info = env.reset()
    observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from serl_drivers.device import DriverError
from serl_planning.inverse_kinematics import InverseKinematics
from serl_robots.control.action import GRIPPER, ActionSpec
from serl_robots.control.arm_command import CommandIntegrator
from serl_robots.control.arm_task import ArmTask, load_arm_task
from serl_robots.control.control_step import CommandResult
from serl_robots.control.robot_limits import default_limits
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.link_clearance import LinkClearance
from serl_robots.model.robot import HOME, RobotModel, load_robot
from serl_robots.safety.limits import SafetyLimits
from serl_tasks.camera_view import CameraView
from serl_tasks.task import Judgement

from serl_lerobot.robots.joint_map import FeatureError, JointMap, JointMapSettings
from serl_lerobot.robots.motors import lerobot_errors

Observation = dict[str, NDArray[Any]]
RewardFunction = Callable[[Observation], Judgement | float | bool]
"""What a state is worth: a judgement, or a number, of which any above 0 is the success that ends an episode."""

_THERE: Final = 0.02  # [rad] from where an episode starts
_PATIENCE: Final = 20.0  # [s] to get there
_BLOCKED: Final = 5  # control steps at rest, and not there
_STANDS: Final = 50  # control steps in which every arm has come to rest
_CONE: Final = 1.0  # [rad]
_JOINT_SCALE: Final = 0.05  # [rad] that an action of 1 moves a joint


@dataclass(frozen=True)
class WallTime:
    """The time in which a robot moves."""

    now: Callable[[], float] = time.monotonic
    """Time [s]."""
    sleep: Callable[[float], None] = time.sleep
    """Lets it pass [s]."""


class SERLRobotEnvironment(gym.Env[Observation, NDArray[np.float32]]):
    """One LeRobot robot.

    Observation ``{"state": float32 (2n+1,), "<camera>": uint8 (H, W, 3), ...}``: positions of the n arm joints [rad],
    their velocities [rad/s], opening of the gripper as a share of its range. Action float32 (A,) in [-1, 1] as `task`
    says. ``info`` has ``executed_action`` (after every limit), ``limits`` (names of those that acted) and ``success``.

    Attributes:
        task: how the arm is commanded, with all limits.
        robot: of LeRobot.
        told: what the robot has told last, in its own numbers.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own declaration

    def __init__(
        self,
        robot: Any,
        model: str,
        *,
        task: ArmTask | str | None = None,
        mapping: JointMapSettings | None = None,
        reward: RewardFunction | None = None,
        horizon: int = 100,
        start: str = HOME,
        place: Callable[[], None] = lambda: None,
        views: Mapping[str, CameraView] | None = None,
        substeps: int = 5,
        wall: WallTime | None = None,
    ) -> None:
        """Take a `lerobot.robots.Robot`; it is connected to if it is not yet, and let go of by `close` then.

        Args:
            robot: of LeRobot, or of a plug-in of it.
            model: which robot of `config/robots` it is: its limits and kinematics.
            task: name of a task, or one; None: deltas of the joints, within the limits of the robot's file.
            mapping: what the robot's numbers mean; None: JOINT.pos in degrees, gripper.pos from 0 to 100.
            reward: judges each observation; None: every reward is 0.
            horizon: control steps until an episode is cut off.
            start: named configuration of `model` to which `reset` brings the arm; empty: it stays where it is.
            place: called by `reset` when the arm is there, to put the objects in place.
            views: crop and size of the cameras' pictures; None: each of the robot's in 128 x 128.
            substeps: targets on the wire in a control period.
            wall: the time in which it moves; None: that of the clock on the wall.

        Raises:
            ConfigError: there is no such robot or task.
            FeatureError: the robot has other numbers or cameras than the mapping and views say.
            ValueError: the task is of another robot or of two arms.
            DriverError: the robot cannot be connected to.
        """
        self.robot, self._reward, self._place = robot, reward, place
        self.told: Mapping[str, Any] = {}
        self._wall = wall if wall is not None else WallTime()
        arm = load_robot(model)
        self.task = joint_task(arm) if task is None else load_arm_task(task) if isinstance(task, str) else task
        if self.task.robot != model or self.task.arms:
            raise ValueError(f"task {self.task.name!r}: expected one of a single {model!r}, found {self.task.robot!r}")
        self._who = f"LeRobot's {getattr(robot, 'name', type(robot).__name__)}"
        self._map = JointMap(arm, mapping if mapping is not None else JointMapSettings())
        told = robot.observation_features
        self._map.check(told, f"{self._who} tells")
        self._map.check(robot.action_features, f"{self._who} takes")
        cameras = [name for name, kind in told.items() if isinstance(kind, tuple)]
        self._views = dict.fromkeys(cameras, CameraView()) if views is None else dict(views)
        if unknown := sorted(self._views.keys() - cameras):
            raise FeatureError(f"{self._who}: expected cameras among {', '.join(cameras) or 'none'}, found {unknown}")

        self._arm, self._kinematics = arm, Kinematics(arm)
        limits, period = self.task.limits, self.task.control_period
        self._integrator = CommandIntegrator(self.task.action, limits, period, self._kinematics, self.task.frame)
        self._substeps = substeps
        self._inverse = InverseKinematics(arm, Kinematics(arm), period / substeps)
        self._links = LinkClearance(arm, limits.keep_out, limits.keep_out_link_distance) if limits.keep_out else None
        self._start = None if not start else np.array(arm.configuration(start))
        self._horizon, self._steps, self._running = horizon, 0, False
        self._sent = np.zeros(len(arm.arm_joints))
        self._measured = self._sent
        self._width = 0.0
        self._measured_at = self._due = self._wall.now()

        state = gym.spaces.Box(-np.inf, np.inf, (2 * len(arm.arm_joints) + 1,), np.float32)
        pictures = {name: gym.spaces.Box(0, 255, view.shape, np.uint8) for name, view in self._views.items()}
        self.observation_space = gym.spaces.Dict({"state": state, **pictures})  # type: ignore[assignment]
        self.action_space = gym.spaces.Box(-1.0, 1.0, (len(self.task.action),), np.float32)
        self._is_ours = not robot.is_connected
        if self._is_ours:
            with lerobot_errors(self._who):
                robot.connect()

    # Gymnasium

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Bring the arm to the start, have the objects put in place, and begin an episode.

        Raises:
            DriverError: the robot does not answer, or does not get to the start.
        """
        super().reset(seed=seed)
        self._running = False
        self._read()
        self._integrator.reset(self._kinematics.tcp(self._measured), self._width, self._measured)
        self._sent, self._due = self._measured.copy(), self._wall.now()
        self._inverse.reset()
        if self._start is not None:
            self._go_to(self._start)
        self._place()
        values = self._read()
        self._integrator.reset(self._kinematics.tcp(self._measured), self._width, self._measured)
        self._sent, self._due = self._measured.copy(), self._wall.now()
        self._steps, self._running = 0, True
        return self._observe(values, np.zeros_like(self._measured)), {}

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Act for one control period by a normalized action (A,).

        Raises:
            ActionError: the action has the wrong length, is not finite or outside [-1, 1].
            DriverError: the robot does not answer; the episode is lost, and the arm stands at its last target.
            RuntimeError: the environment was not reset.
        """
        if not self._running:
            raise RuntimeError("step: no episode is running; call reset() first")
        result = self._integrator.step(self.task.action.check(action))
        self._running = False  # unless all of it succeeds
        self._send(result)
        before, then = self._measured, self._measured_at
        values = self._read()
        velocities = (self._measured - before) / max(self._measured_at - then, 1e-3)
        self._follow()
        self._steps, self._running = self._steps + 1, True
        observation = self._observe(values, velocities)
        judged = self._judge(observation)
        truncated = not judged.terminated and self._steps >= self._horizon
        info = {"success": judged.success, "executed_action": result.executed, "limits": result.limits}
        return observation, judged.reward, judged.terminated, truncated, info

    def close(self) -> None:
        """Brake, and disconnect if the environment has connected. A second call does nothing."""
        if not self.robot.is_connected:
            return
        try:
            if self._running:
                self._running = False
                for _ in range(_STANDS):
                    if self._integrator.at_rest:
                        break
                    self._send(self._integrator.brake())
        finally:
            if self._is_ours:
                with lerobot_errors(self._who):
                    self.robot.disconnect()

    @property
    def resting_target(self) -> dict[str, float]:
        """The robot's action, in its own numbers, that leaves the arm where it is commanded."""
        return self._map.theirs(self._sent, self._width)

    def action_towards(self, target: Mapping[str, Any]) -> NDArray[np.float32]:
        """The action (A,) that brings the joints nearest to a target of the robot, in its own numbers, in one step.

        Raises:
            FeatureError: a number is missing or not finite.
            ValueError: actions of the task are not those of all joints and the gripper.
        """
        spec, joints = self.task.action, self._arm.arm_joints
        block = spec.joint_block
        if block is None or len(block.names) != len(joints) or spec.gripper is None:
            raise ValueError(f"task {self.task.name!r}: expected actions of all joints and the gripper")
        positions, width = self._map.ours(target)
        moved = [joints.index(name) if name in joints else int(name.removeprefix("j")) - 1 for name in block.names]
        action = np.zeros(len(spec))
        action[list(block.indices)] = (positions - self._sent)[moved] / np.array(block.scale)
        index, full = spec.gripper
        action[index] = 2.0 * width / full - 1.0
        return action.clip(-1.0, 1.0).astype(np.float32)

    # The robot

    def _read(self) -> Mapping[str, Any]:
        with lerobot_errors(self._who):
            values: Mapping[str, Any] = self.robot.get_observation()
            self._measured, self._width = self._map.ours(values)
        self.told = values
        self._measured_at = self._wall.now()
        return values

    def _follow(self) -> None:
        """Let what is commanded next know where the arm is."""
        tcp = self._kinematics.tcp(self._measured)
        self._integrator.see(tcp)
        self._integrator.observe(tcp, self.task.control_period, self._measured)

    def _send(self, result: CommandResult) -> None:
        """Lead the arm through a control period, by targets for its joints."""
        start, period = self._sent.copy(), self.task.control_period
        width_before, clock = self._width, self._wall
        self._due = max(self._due + period, clock.now() + 0.5 * period)
        for number in range(1, self._substeps + 1):
            share = number / self._substeps
            if result.joint_positions is not None:
                joints = start + share * (result.joint_positions - start)
            else:
                joints = self._inverse.step(self._sent, result.target)
            if self._links is None or not self._links.blocked(self._sent, joints):
                self._sent = joints
            width = width_before + share * (result.gripper_width - width_before)
            with lerobot_errors(self._who):
                self.robot.send_action(self._map.theirs(self._sent, width))
            clock.sleep(max(0.0, self._due - (1.0 - share) * period - clock.now()))

    def _go_to(self, goal: NDArray[np.float64]) -> None:
        """Bring the joints to (n,) [rad] within the limits: in a straight line, and where that is blocked the tool."""
        integrator, until = self._integrator, self._wall.now() + _PATIENCE
        pose, still = self._kinematics.tcp(goal), 0
        if not integrator.led_by_joints:
            integrator.lead_by_joints(self._measured)
        while not (integrator.at_rest and float(np.abs(self._measured - goal).max()) <= _THERE):
            if self._wall.now() > until:
                raise DriverError(
                    f"{self._who}: expected the arm at {np.round(goal, 3).tolist()} rad after {_PATIENCE:g} s, found "
                    f"{np.round(self._measured, 3).tolist()}; what is in its way, or which limit of {self.task.name!r}?"
                )
            self._send(integrator.approach(pose, goal))
            self._read()
            integrator.see(self._kinematics.tcp(self._measured))
            still = still + 1 if integrator.at_rest else 0
            if still > _BLOCKED:
                still = 0
                if integrator.led_by_joints:
                    integrator.lead_by_tool()
                    self._inverse.reset()
                else:
                    integrator.lead_by_joints(self._sent)

    # What is observed

    def _observe(self, values: Mapping[str, Any], velocities: NDArray[np.float64]) -> Observation:
        limits = self.task.limits
        opening = (self._width - limits.min_gripper_width) / (limits.max_gripper_width - limits.min_gripper_width)
        state = np.concatenate([self._measured, velocities, [opening]]).astype(np.float32)
        return {"state": state, **{name: view.apply(np.asarray(values[name])) for name, view in self._views.items()}}

    def _judge(self, observation: Observation) -> Judgement:
        found = 0.0 if self._reward is None else self._reward(observation)
        if isinstance(found, Judgement):
            return found
        return Judgement(float(found), bool(found > 0.0), bool(found > 0.0))


def joint_task(robot: RobotModel, control_period: float = 0.1) -> ArmTask:
    """Deltas of all joints of an arm, 0.05 rad each, and its gripper, within the limits of its file.

    The tool stays within 1 rad of how it is turned in the configuration `home`.

    Args:
        robot: of `config/robots`.
        control_period: of one step [s].
    """
    x, y, z, w = Kinematics(robot).tcp(robot.configuration(HOME)).quaternion.tolist()
    names = tuple(f"j{number}" for number in range(1, len(robot.arm_joints) + 1))
    return ArmTask(
        name=f"joints of {robot.name}",
        robot=robot.name,
        control_period=control_period,
        action=ActionSpec((*names, GRIPPER), (_JOINT_SCALE,) * len(names) + (robot.gripper.max_width,)),
        limits=SafetyLimits(
            **default_limits(robot),
            keep_out=_boxes(robot),
            reference_orientation=(x, y, z, w),
            orientation_cone=_CONE,
        ),
    )


def _boxes(robot: RobotModel) -> tuple[float, ...]:
    return tuple(number for box in robot.keep_out.values() for number in (*box.lower, *box.upper))
