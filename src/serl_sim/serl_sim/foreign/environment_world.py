# SPDX-License-Identifier: Apache-2.0
"""A Gymnasium environment that others wrote as a world: a hand that goes where it is commanded, objects, pictures.

What is commanded are positions of the tool, what such an environment takes are deltas. So this world keeps where the
environment has been told to go since the reset, and tells it the way from there: what an action could not say, because
it was at its bound, is part of the next one.
"""

from __future__ import annotations

import math
import os
from importlib import import_module
from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import Error as GymnasiumError
from numpy.typing import NDArray
from serl_config.schema import ConfigError
from serl_config.text import printable
from serl_robots.control.task_robot import robot_of
from serl_robots.model.pose import Pose, PoseError
from serl_tasks.arm_sample import TOOL
from serl_tasks.environment_mapping import Source, SourceError
from serl_tasks.kinds.gym import GymTask
from serl_tasks.task import Judgement

from serl_sim.foreign.gantry import is_gantry


class WorldFailure(RuntimeError):
    """The environment raised something, or gives what its mapping does not say; it must be reset."""


class EnvironmentWorld:
    """One environment. Nothing is asked of it before the first `reset`.

    Attributes:
        task: whose mapping is used.
        robot: that stands for the hand: its joints are the position of the tool [m], then the fingers [m].
        joint_positions: float64 (n,) [m], in the order of `robot.joints`.
        joint_velocities: float64 (n,) [m/s]: how far they went in the last control period, over its length.
        joint_efforts: float64 (n,); 0, nobody knows them.
        wrench: None, nobody measures it.
        judgement: of the newest state, by the environment.
    """

    def __init__(self, task: GymTask) -> None:
        """Make the environment.

        Raises:
            ConfigError: the robot's joints are not the tool's position, there is no such environment, or its spaces do
                not fit the mapping.
        """
        self.task, self.robot = task, robot_of(task)
        self._mapping = mapping = task.environment
        self._check_robot()
        self._env = _make(task)
        space = self._env.action_space
        where = f"task {task.name!r}: environment {mapping.id!r}"
        if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
            raise ConfigError(f"{where}: expected actions of real numbers, a Box of shape (n,), found {space}")
        highest = max([*mapping.axes, *(() if mapping.gripper is None else (mapping.gripper.index,))])
        if highest >= space.shape[0]:
            raise ConfigError(f"{where}: expected actions of more than {highest} components, found {space}")
        self._lowest, self._highest = space.low.astype(np.float64), space.high.astype(np.float64)
        self._action_dtype = space.dtype
        self._axes = list(mapping.axes)
        self._positions = {name: Source.parse(text) for name, text in mapping.positions.items()}
        self._quaternions = {name: Source.parse(text) for name, text in mapping.quaternions.items()}
        self._down = task.limits.reference_orientation
        self._told = np.zeros(3)
        self._observation: Any = None
        self._drawn: Any = None  # by the environment, of the newest state
        self._share = 0.0  # of the gripper's opening, measured
        self._objects: dict[str, Pose] = {}
        joints = len(self.robot.joints)
        self.joint_positions = np.zeros(joints)
        self.joint_velocities = np.zeros(joints)
        self.joint_efforts = np.zeros(joints)
        self.wrench: NDArray[np.float64] | None = None
        self.judgement = Judgement(0.0, success=False, terminated=False)

    def close(self) -> None:
        """Let go of the environment."""
        self._env.close()

    def objects(self) -> dict[str, Pose]:
        """Poses of ``"tcp"`` and of every object, base frame."""
        return self._objects

    def reset(self, seed: int) -> None:
        """Go to the start state of `seed`.

        Raises:
            ValueError: `seed` is negative.
            WorldFailure: the environment fails, or gives what the mapping does not say.
        """
        if seed < 0:
            raise ValueError(f"seed: expected a number from 0, found {seed}")
        np.random.seed(seed % 2**32)  # noqa: NPY002 - not all environments draw from the generator that reset seeds
        try:
            self._observation, _ = self._env.reset(seed=seed)
        except Exception as error:  # somebody else's code may raise anything
            raise WorldFailure(f"reset of {self._mapping.id}: {_said(error)}") from error
        self.judgement = Judgement(0.0, success=False, terminated=False)
        self._look()
        self.joint_velocities[:] = 0.0
        self._told = self.joint_positions[:3].copy()

    def readings(self, arm: str) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Positions, velocities and efforts of the only arm's joints, float64 (n,) each, see above."""
        return self.joint_positions, self.joint_velocities, self.joint_efforts

    def step(self, position: NDArray[np.float64], width: float) -> None:
        """Lead the hand to `position` (3,) [m] and the fingers to `width` [m], for one control period.

        Raises:
            WorldFailure: the environment fails, or gives what the mapping does not say.
        """
        mapping, reward, success, terminated = self._mapping, 0.0, False, False
        for left in range(mapping.repeat, 0, -1):
            action = self._action((position - self._told) / left, width)
            self._told += mapping.scale * action[self._axes]
            try:
                self._observation, earned, ended, _, info = self._env.step(action.astype(self._action_dtype))
                reward += float(earned)
            except Exception as error:  # somebody else's code may raise anything
                raise WorldFailure(f"step of {mapping.id}: {_said(error)}") from error
            if not math.isfinite(reward):
                raise WorldFailure(f"step of {mapping.id}: reward: expected a finite number, found {reward}")
            success, terminated = self._is_done(info, bool(ended)), bool(ended)
            if success or terminated:
                break
        before = self.joint_positions.copy()
        self._look()
        self.joint_velocities[:] = (self.joint_positions - before) / self.task.control_period
        worth = float(success) if mapping.reward == "success" else reward
        self.judgement = Judgement(worth, success=success, terminated=success or terminated)

    def picture(self, camera: str) -> NDArray[np.uint8]:
        """What a camera sees, uint8 (H, W, 3). Raises WorldFailure: that is no picture."""
        mapping = self._mapping.cameras[camera]
        try:
            if mapping.drawn is None:
                picture = Source.parse(mapping.picture).value(self._observation)
            else:
                if self._drawn is None:  # once for all cameras
                    self._drawn = self._env.render()
                picture = self._drawn if mapping.drawn < 0 else self._drawn[mapping.drawn]
        except Exception as error:  # somebody else's code may raise anything
            raise WorldFailure(f"picture of {camera} of {self._mapping.id}: {_said(error)}") from error
        if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.shape[2:] != (3,):
            found = f"{picture.dtype} {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
            raise WorldFailure(
                f"picture of {camera} of {self._mapping.id} ({mapping.picture}): expected uint8 (H, W, 3), found "
                f"{found}" + ("; does arguments.render_mode say rgb_array?" if mapping.is_rendered else "")
            )
        return np.ascontiguousarray(picture)

    def _action(self, way: NDArray[np.float64], width: float) -> NDArray[np.float64]:
        """The environment's action (n,) for a way (3,) [m] of one of its steps."""
        action = np.zeros_like(self._lowest)
        action[self._axes] = way / self._mapping.scale
        gripper = self._mapping.gripper
        if gripper is not None:
            share = width / self.robot.gripper.max_width
            now = self._share if gripper.relative else 0.0
            start = 0.0 if gripper.relative else gripper.closed
            action[gripper.index] = start + (share - now) * (gripper.open - gripper.closed)
        return np.clip(action, self._lowest, self._highest)

    def _is_done(self, info: dict[str, Any], ended: bool) -> bool:
        source = self._mapping.success_source
        if source is None:
            return ended
        try:
            return bool(source.read(info, 1)[0] > 0.0)
        except SourceError as error:
            raise WorldFailure(f"info of {self._mapping.id}: success: {error}") from error

    def _look(self) -> None:
        """Read hand and objects out of the observation."""
        self._drawn = None
        observation, mapping = self._observation, self._mapping
        try:
            tool = mapping.tool_source.read(observation, 3)
            poses = {name: self._pose(name) for name in self._positions}
            share = 0.0
            if mapping.gripper is not None:
                measured = Source.parse(mapping.gripper.measured).read(observation, 1)[0]
                closed, opened = mapping.gripper.measured_closed, mapping.gripper.measured_open
                share = min(max(float((measured - closed) / (opened - closed)), 0.0), 1.0)
        except (SourceError, PoseError) as error:
            raise WorldFailure(f"observation of {mapping.id}: {error}") from error
        self._objects = {TOOL: Pose(tool, self._down), **poses}
        self._share = share
        gripper = self.robot.gripper
        self.joint_positions[:3] = tool
        self.joint_positions[3:] = gripper.position(share * gripper.max_width)

    def _pose(self, name: str) -> Pose:
        position = self._positions[name].read(self._observation, 3)
        if name not in self._quaternions:
            return Pose(position)
        w, x, y, z = self._quaternions[name].read(self._observation, 4)
        return Pose(position, (x, y, z, w))

    def _check_robot(self) -> None:
        if not is_gantry(self.robot):
            raise ConfigError(
                f"task {self.task.name!r}: robot: expected one whose arm joints are the position of its tool, as those "
                f"of gantry are, found {self.robot.name!r}"
            )


def _make(task: GymTask) -> gymnasium.Env[Any, Any]:
    mapping = task.environment
    where = f"task {task.name!r}: environment {mapping.id!r}"
    os.environ.setdefault("MUJOCO_GL", "egl")  # as our own worlds; MuJoCo's own choice needs a screen
    module, separator, _ = mapping.id.partition(":")
    try:
        if separator:
            import_module(module)
        variant: dict[str, Any] = {} if task.variant is None else {"variant": task.variant}
        return gymnasium.make(mapping.id, disable_env_checker=True, **mapping.arguments, **variant)
    except ImportError as error:
        advice = mapping.advice or (
            "; expected a package that is installed beside this node: pip install it, or put the folder of the module "
            "into PYTHONPATH"
        )
        raise ConfigError(f"{where}: {printable(error)}{advice}") from error
    except GymnasiumError as error:
        raise ConfigError(f"{where}: expected the id of an environment, found: {printable(error)}") from error
    except Exception as error:  # somebody else's code may raise anything
        raise ConfigError(f"{where} cannot be made: {_said(error)}") from error


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {printable(error)}"
