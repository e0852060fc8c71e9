# SPDX-License-Identifier: Apache-2.0
"""Online reinforcement learning that begins with an imported policy, on one robot, in one process.

The episodes in which the imported policy succeeds are the demonstrations of a learner (RLPD, Ball et al., arXiv
2302.02948), which then acts by itself. In a graph `./serl train` does more: a person, an e-stop, pictures.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from serl_config.optional import setup_line
from serl_config.resources import listing
from serl_config.schema import ConfigError
from serl_rl.spec import ArraySpec, TransitionSpec
from serl_robots.model.robot import FOLDER, load_robot
from serl_training.actor.rollout import ChunkFormat, EpisodeSummary, run_episode
from serl_training.env.episode import EpisodeMode, EpisodeStart, Observation

from serl_lerobot.robots.environment import SERLRobotEnvironment, WallTime
from serl_lerobot.training.config import TrainingConfig
from serl_lerobot.training.local_learner import LocalLearner
from serl_lerobot.training.native_policy import NativePolicy
from serl_lerobot.training.policy_converter import PolicyConverter

_METRICS: Final = ("iteration", "env_steps", "success_rate", "intervention_rate", "critic_loss", "actor_loss")
_log = logging.getLogger(__name__)


class OnlineRLTrainer:
    """Trains a policy on a robot.

    Attributes:
        env: in which episodes are run.
        metrics: of each iteration, by seed-independent names: `success_rate`, `intervention_rate` and so on.
    """

    def __init__(
        self,
        config: TrainingConfig,
        robot: Any,
        initial_policy_path: str | Path | None = None,
        *,
        wall: WallTime | None = None,
    ) -> None:
        """Connect to the robot and open the policy.

        Args:
            config: of the training.
            robot: a `lerobot.robots.Robot`, or a Gymnasium environment with the entry `state`, whose info has
                `executed_action` and `success`.
            initial_policy_path: folder of the policy that demonstrates; None: there is none.
            wall: the time in which the robot moves; None: that of the clock on the wall.

        Raises:
            ConfigError: the robot is none that `config.model` says, or has another number of action components.
            DriverError: the robot cannot be connected to.
            ForeignError: the policy cannot be opened.
            FeatureError: it is for another robot.
        """
        self._config = config
        self.metrics: list[dict[str, float]] = []
        self.env: gym.Env[Observation, NDArray[np.float32]] = (
            robot if isinstance(robot, gym.Env) else _environment(config, robot, wall)
        )
        size = int((self.env.action_space.shape or (0,))[0])
        if config.action_dim not in (None, size):
            raise ConfigError(f"action_dim: expected {size}, as the robot's actions have, found {config.action_dim}")
        self._initial = None if initial_policy_path is None else _open(Path(initial_policy_path), self.env)
        state = self.env.observation_space["state"]  # type: ignore[index]
        self._spec = TransitionSpec({"state": ArraySpec(state.shape, "float32")}, size)
        self._learning = config.learning_config()
        self._losses: dict[str, float] = {}
        self._episode = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def run_training(self, num_iterations: int, episodes_per_iteration: int) -> list[dict[str, float]]:
        """Train; what was reached by iteration, as in `metrics`. Ctrl-C ends it early, with a checkpoint.

        Args:
            num_iterations: how often metrics are made.
            episodes_per_iteration: episodes of the learner in each.

        Raises:
            DriverError: the robot does not answer.
            TrainingError, JournalError: training cannot go on.
        """
        config = self._config
        config.run_dir.mkdir(parents=True, exist_ok=True)
        learner = LocalLearner(config.run_dir, self._spec, self._learning, seed=config.seed, report=self._report)
        run = _wandb_run(config)
        env = _StateOnly(self.env)
        self._episode = learner.totals.episodes
        try:
            if learner.totals.demonstrations == 0:
                self._demonstrate(env, learner)
            acting = _Acting(learner, np.random.default_rng(config.seed), self._learning.random_steps)
            for iteration in range(num_iterations):
                done = [self._run(env, acting, learner) for _ in range(episodes_per_iteration)]
                self._note(iteration, done, learner.totals.env_steps, run)
        except KeyboardInterrupt:
            _log.warning("interrupted; the run is in %s and goes on from there", config.run_dir)
        finally:
            learner.close()
            if run is not None:
                run.finish()
        return self.metrics

    def close(self) -> None:
        """Let go of the robot."""
        self.env.close()

    def _demonstrate(self, env: _StateOnly, learner: LocalLearner) -> None:
        if self._initial is None:
            return
        shows = _Showing(self._initial, env)
        for _ in range(self._config.demonstration_episodes):
            self._run(env, shows, learner, demonstrates=True)
        if learner.totals.demonstrations == 0:
            raise ConfigError(
                f"initial policy: expected a success in {self._config.demonstration_episodes} episodes, found none; is "
                "it for this robot, with this calibration and these cameras, or is the reward wrong?"
            )

    def _run(
        self, env: gym.Env[Any, Any], behaviour: Any, learner: LocalLearner, *, demonstrates: bool = False
    ) -> EpisodeSummary:
        self._episode += 1
        mode = EpisodeMode.DEMONSTRATION if demonstrates else EpisodeMode.TRAINING
        start = EpisodeStart(mode=mode, number=self._episode, seed=self._config.seed + self._episode)
        chunks: list[Any] = []
        done = run_episode(env, behaviour, start, ChunkFormat(self._spec), on_chunk=chunks.append, whole=demonstrates)
        if not demonstrates or done.success:
            for chunk in chunks:
                learner.send(chunk)
        return done

    def _report(self, env_steps: int, values: Mapping[str, float]) -> None:
        self._losses = {name.removeprefix("learner/"): value for name, value in values.items()}

    def _note(self, iteration: int, done: list[EpisodeSummary], env_steps: int, run: Any) -> None:
        steps = sum(each.length for each in done)
        values = {
            "iteration": float(iteration),
            "env_steps": float(env_steps),
            "success_rate": float(np.mean([each.success for each in done])),
            "intervention_rate": sum(each.interventions for each in done) / max(steps, 1),
        }
        values |= {name: self._losses[name] for name in ("critic_loss", "actor_loss") if name in self._losses}
        self.metrics.append(values)
        with (self._config.run_dir / "metrics.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, _METRICS)
            writer.writeheader()
            writer.writerows(self.metrics)
        if run is not None:
            run.log(values, step=int(env_steps))


class _StateOnly(gym.Wrapper[Any, Any, Any, Any]):
    """An environment whose learner sees `state` alone; `whole` is the newest observation with its pictures."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; the environment is asked for no options."""
        self.whole, info = self.env.reset(seed=seed)
        return self._part(), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act for one step."""
        self.whole, reward, terminated, truncated, info = self.env.step(action)
        return self._part(), reward, terminated, truncated, {"intervention": False, **info}

    def _part(self) -> Observation:
        return {"state": self.whole["state"]}


class _Showing:
    """The initial policy, as a behaviour."""

    def __init__(self, policy: NativePolicy, env: _StateOnly) -> None:
        self._policy, self._env = policy, env

    def reset(self) -> None:
        self._policy.reset()

    def act(self, observation: Observation, info: Mapping[str, Any]) -> tuple[NDArray[np.float32], int]:
        return self._policy.act(self._env.whole, deterministic=True), 0


class _Acting:
    """The newest policy, exploring, after some random steps where nobody has demonstrated."""

    def __init__(self, learner: LocalLearner, rng: np.random.Generator, random_steps: int) -> None:
        self._learner, self._rng = learner, rng
        self._random_steps = 0 if learner.totals.demonstrations else random_steps

    def reset(self) -> None:
        self._policy = self._learner.policy
        self._policy.reset()

    def act(self, observation: Observation, info: Mapping[str, Any]) -> tuple[NDArray[np.float32], int]:
        if self._learner.totals.env_steps < self._random_steps:
            return self._rng.uniform(-1.0, 1.0, self._policy.action_dim).astype(np.float32), 0
        return self._policy.act(observation, deterministic=False, rng=self._rng), self._learner.policy_version


class _AskedAtEnd(gym.Wrapper[Any, Any, Any, Any]):
    """A person says at the end of each episode whether it has succeeded."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act for one step, and ask after the last one."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if truncated and input("has it succeeded? [y/N] ").strip().lower() in ("y", "yes"):
            return observation, 1.0, True, False, {**info, "success": True}
        return observation, reward, terminated, truncated, info


def _environment(config: TrainingConfig, robot: Any, wall: WallTime | None) -> gym.Env[Any, Any]:
    env = SERLRobotEnvironment(
        robot,
        config.model or _only_model(robot, config),
        task=config.task,
        mapping=config.mapping,
        reward=config.reward_function,
        horizon=config.max_episode_length,
        place=config.place,
        wall=wall,
    )
    return env if config.reward_function is not None else _AskedAtEnd(env)


def _only_model(robot: Any, config: TrainingConfig) -> str:
    """The one robot of ours that has joints of these names."""
    told = set(robot.action_features) - {config.mapping.gripper}
    names = [*listing(FOLDER, ".yaml")]
    found = [name for name in names if {f"{joint}.pos" for joint in load_robot(name).arm_joints} == told]
    if len(found) != 1:
        raise ConfigError(
            f"model: say which of {', '.join(names)} the robot is; with joints {', '.join(sorted(told))} there is "
            f"{', '.join(found) or 'none'}"
        )
    return found[0]


def _open(path: Path, env: gym.Env[Any, Any]) -> NativePolicy:
    """The initial policy, as one of the environment's actions."""
    of_robot = env.unwrapped
    if not isinstance(of_robot, SERLRobotEnvironment):
        raise ConfigError(
            f"{path}: an initial policy shows on a robot of LeRobot, found {type(of_robot).__name__}; for "
            "a graph there is ./serl policy import"
        )
    return NativePolicy(PolicyConverter().load(path), of_robot, str(path))


def _wandb_run(config: TrainingConfig) -> Any:
    if not config.wandb_project:
        return None
    try:
        wandb = import_module("wandb")
    except ImportError:
        _log.warning("wandb_project: wandb is not installed: %s; metrics.csv has the numbers", setup_line("wandb"))
        return None
    return wandb.init(project=config.wandb_project, dir=str(config.run_dir))
