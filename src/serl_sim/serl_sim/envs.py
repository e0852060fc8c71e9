# SPDX-License-Identifier: Apache-2.0
"""Tasks as Gymnasium environments in one process, without ROS.

They command through the same safety filter as the arm controller, so that they behave as the lockstep graph does::

    import gymnasium
    import serl_sim

    env = gymnasium.make("serl/PickCube-v0")
    several = gymnasium.make_vec("serl/InsertPeg-v0", num_envs=4)
"""

import copy
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from serl_robots.control.arm_command import CommandIntegrator, keep_apart_of
from serl_robots.control.control_step import CommandResult
from serl_robots.model.pose import Pose
from serl_robots.safety.overload import NO_LOADS, Loads

from serl_sim.rendering import PRETTY
from serl_sim.scene.scene import OVERVIEW
from serl_sim.world import SimulationError, World
from serl_tasks import ArmSample, Task, get_task

Observation = dict[str, NDArray[Any]]


class TaskEnv(gym.Env[Any, Any]):
    """One task.

    Observations are ``{"state": float32 (k,), "<camera>": uint8 (H, W, 3), ...}``, actions float32 (n,) in [-1, 1],
    both as the task defines them. ``terminated`` is the task's end, ``truncated`` its horizon.
    ``info`` has ``success``, ``executed_action`` (after every limit) and ``limits`` (names of those that acted).
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 - Gymnasium's own declaration

    def __init__(
        self,
        task: str | Task = "pick_cube",
        *,
        render_mode: str | None = None,
        render_size: tuple[int, int] = (640, 480),
    ) -> None:
        """Build the world.

        Args:
            task: name of a registered task, or the task.
            render_mode: ``rgb_array`` to let ``render()`` give images of the scene, as nice as they get.
            render_size: width and height of those images [pixels].

        Raises:
            ValueError: unknown task or render mode, a camera that its world does not have, an action of several arms,
                or of joints that the robot does not have.
        """
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode: expected None or rgb_array, found {render_mode!r}")
        self.task = get_task(task) if isinstance(task, str) else task
        self.metadata = {**self.metadata, "render_fps": round(1.0 / self.task.control_period)}
        self.render_mode = render_mode
        self.render_size = render_size
        self.world = World(self.task)
        unknown = self.task.cameras.keys() - self.world.cameras.keys()
        if unknown:
            raise ValueError(f"no camera {', '.join(sorted(unknown))}; there are {', '.join(self.world.cameras)}")
        self._integrators = self._make_integrators()
        self._observer = self.task.make_observer()
        self._steps = 0
        self._running = False
        # Copies: what is sampled from one environment's spaces must not depend on another's.
        self.action_space = copy.deepcopy(self.task.action_space)
        self.observation_space = copy.deepcopy(self.task.observation_space)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; `seed` alone decides where the objects lie, and how well that is known.

        Raises:
            ValueError: options are given, and there are none.
        """
        super().reset(seed=seed)
        if options:
            raise ValueError(f"reset: there are no options, found {', '.join(options)}")
        if seed is None:
            seed = int(self.np_random.integers(2**31))
        self.world.reset(seed)
        for name, integrator in self._integrators.items():
            own = self.world.sample_of(name)
            integrator.reset(own.tcp, own.gripper_width, own.joint_positions)
        self._observer.begin(self.world.arm_sample(), seed)
        self._steps = 0
        self._running = True
        return self._observe(), {"seed": seed}

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Act for one control period by a normalized action (n,).

        Raises:
            ActionError: the action has the wrong length, is not finite or outside [-1, 1].
            SimulationError: the simulation diverged. The episode is over, and nothing of it is worth learning from.
            RuntimeError: the environment was not reset.
        """
        if not self._running:
            raise RuntimeError("step: no episode is running; call reset() first")
        commands = self._commands(self.task.action.check(action))
        try:
            self._move(commands)
        except SimulationError:
            self._running = False
            raise
        spec = self.task.action
        executed = spec.join({name: commands[arm].executed for name, arm in zip(spec.arms, commands, strict=True)})
        self._observer.advance(executed)
        self._steps += 1
        for name, integrator in self._integrators.items():
            own = self.world.sample_of(name)
            integrator.see(own.tcp)
            integrator.feel(_loads(own), own.tcp, own.joint_positions, self.task.control_period)
            integrator.observe(own.tcp, self.task.control_period, own.joint_positions)
        objects = self.world.objects()
        judgement = self.task.judge(objects)
        truncated = not judgement.terminated and self._steps >= self.task.horizon
        info = {
            "success": judgement.success,
            "executed_action": executed,
            "limits": tuple(dict.fromkeys(limit for command in commands.values() for limit in command.limits)),
        }
        return self._observe(), judgement.reward, judgement.terminated, truncated, info

    def render(self) -> NDArray[np.uint8] | None:
        """RGB image of the scene, uint8 (height, width, 3), or None without a render mode."""
        if self.render_mode is None:
            return None
        width, height = self.render_size
        return self.world.render(OVERVIEW, width, height, PRETTY)

    def close(self) -> None:
        """Give the OpenGL contexts back."""
        self.world.close()

    def known(self) -> tuple[ArmSample, Mapping[str, Pose]]:
        """What is known of the arm and of the objects: what an expert acts on, `expert.act(*env.known())`.

        Without errors in the task it is the truth.

        Raises:
            RuntimeError: the environment was not reset.
        """
        return self._observer.known(self._arm_sample(), self.world.objects())

    def _arm_sample(self) -> ArmSample:
        return self.task.joined(
            {
                name: dataclasses.replace(self.world.sample_of(name), commanded=integrator.target)
                for name, integrator in self._integrators.items()
            }
        )

    def _make_integrators(self) -> dict[str, CommandIntegrator]:
        """What commands each arm, by its prefix."""
        task, kinematics = self.task, self.world.kinematics
        return {
            name: CommandIntegrator(
                task.of_arm(name).action,
                task.limits,
                task.control_period,
                kinematics,
                task.frame,
                keep_apart_of(task, name, kinematics),
            )
            for name in task.arm_names
        }

    def _commands(self, action: NDArray[np.float32]) -> dict[str, CommandResult]:
        """The next command of each arm, by its prefix: all of them follow from where all were commanded before."""
        parts, integrators = self.task.action.split(action), self._integrators
        for name, integrator in integrators.items():
            for other in integrators:
                if other != name and integrator.filter.keep_apart is not None:
                    integrator.filter.keep_apart.see(integrators[other].target)
        return {
            name: integrator.step(part)
            for (name, integrator), part in zip(integrators.items(), parts.values(), strict=True)
        }

    def _move(self, commands: Mapping[str, CommandResult]) -> None:
        """Let a control period pass, in which the arms follow their commands."""
        world = self.world
        for name, command in commands.items():
            if command.joint_positions is not None:  # of a single arm
                world.step_joints(command.joint_positions, command.gripper_width)
                return
            world.command_pose(command.target, name)
            world.command_gripper(command.gripper_width, name)
        world.advance(world.steps_per_period)

    def _observe(self) -> Observation:
        world = self.world
        observation: Observation = {"state": self._observer.state(self._arm_sample(), world.objects())}
        for name, view in self.task.cameras.items():
            observation[name] = view.apply(world.render(name, *world.picture_size(name)))
        return observation


def _loads(sample: ArmSample) -> Loads:
    """What an arm pushes with, as its controller hears it."""
    if sample.wrench is None:
        return NO_LOADS
    values = sample.wrench.tolist()
    return Loads(math.hypot(*values[:3]), math.hypot(*values[3:]))
