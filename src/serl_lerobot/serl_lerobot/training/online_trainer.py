# SPDX-License-Identifier: Apache-2.0
"""Online reinforcement learning that begins with an imported policy, on one robot, in one process.

The episodes in which the imported policy succeeds are the demonstrations of a learner (RLPD, Ball et al., arXiv
2302.02948), which improves it as `./serl train --from-policy` does: its critics choose between the imported policy's
action and its own, or it corrects the imported one. In a graph there are a person and an e-stop as well.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from serl_config.atomic_files import write_whole
from serl_config.files import FileError, read_bytes
from serl_config.optional import setup_line
from serl_config.resources import listing
from serl_config.schema import ConfigError
from serl_rl.base_action import BASE_ACTION
from serl_rl.policy.reference import read_reference
from serl_robots.model.robot import FOLDER, load_robot
from serl_training.actor.behaviours import Behaviour, Exploring
from serl_training.actor.perception import FrameStacker
from serl_training.actor.rollout import ChunkFormat, EpisodeSummary, run_episode
from serl_training.env.episode import EpisodeMode, EpisodeStart, Observation

from serl_lerobot.robots.environment import SERLRobotEnvironment, WallTime
from serl_lerobot.training.config import TrainingConfig
from serl_lerobot.training.local_learner import LocalLearner
from serl_lerobot.training.native_policy import NativePolicy
from serl_lerobot.training.perceiving import cameras_of, perceive
from serl_lerobot.training.policy_converter import PolicyConverter

_METRICS: Final = ("iteration", "env_steps", "success_rate", "intervention_rate", "critic_loss", "actor_loss")
_METRICS_FILE: Final = "metrics.csv"
_MAX_METRICS: Final = 2**26  # bytes
_POLICY: Final = "policy_fingerprint.txt"
_log = logging.getLogger(__name__)


class OnlineRLTrainer:
    """Trains a policy on a robot.

    Attributes:
        env: in which episodes are run.
        spec: of the transitions that are stored.
        metrics: of each iteration of this trainer, by seed-independent names: `success_rate`, `intervention_rate` and
            so on; `metrics.csv` in the run's folder has those before as well.
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
        self._path = initial_policy_path
        self._learning = config.learning_config(
            cameras=bool(cameras_of(self.env)), initial=initial_policy_path is not None
        )
        base = self._initial if self._learning.improves else None
        self._seen, self.spec = perceive(self.env, self._learning, base, config.seed)
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
            ConfigError: the run was begun with another policy, the initial one has never succeeded, or `metrics.csv` of
                the run is none of ours.
            DriverError: the robot does not answer.
            TrainingError, JournalError: training cannot go on.
        """
        config = self._config
        config.run_dir.mkdir(parents=True, exist_ok=True)
        self._remember_policy()
        rows = _rows(config.run_dir / _METRICS_FILE)
        learner = LocalLearner(config.run_dir, self.spec, self._learning, seed=config.seed, report=self._report)
        run = _wandb_run(config)
        self._episode = learner.totals.episodes
        try:
            if learner.totals.demonstrations == 0:
                self._demonstrate(learner)
            alone = self._learning.random_steps if not learner.totals.demonstrations or self._learning.improves else 0
            acting = Exploring(learner, FrameStacker(self.spec), np.random.default_rng(config.seed), alone)
            for _ in range(num_iterations):
                done = [self._run(acting, learner) for _ in range(episodes_per_iteration)]
                self._note(rows, done, learner.totals.env_steps, run)
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

    def _remember_policy(self) -> None:
        """Note which policy the run improves; refuse another one than it was begun with."""
        if not self._learning.improves:
            return
        file, found = self._config.run_dir / _POLICY, read_reference(f"act:{self._path}").fingerprint
        if not file.is_file():
            file.write_text(found + "\n", encoding="utf-8")
        elif (begun := file.read_text(encoding="utf-8").strip()) != found:
            raise ConfigError(
                f"{self._config.run_dir}: was begun with another initial policy, whose base actions it has stored: "
                f"expected the fingerprint {begun}, found {found} at {self._path}"
            )

    def _demonstrate(self, learner: LocalLearner) -> None:
        if self._initial is None:
            return
        shows = _Showing(self._initial, asks=not self._learning.improves)
        for _ in range(self._config.demonstration_episodes):
            self._run(shows, learner, demonstrates=True)
        if learner.totals.demonstrations == 0:
            raise ConfigError(
                f"initial policy: expected a success in {self._config.demonstration_episodes} episodes, found none; is "
                "it for this robot, with this calibration and these cameras, or is the reward wrong?"
            )

    def _run(self, behaviour: Behaviour, learner: LocalLearner, *, demonstrates: bool = False) -> EpisodeSummary:
        self._episode += 1
        mode = EpisodeMode.DEMONSTRATION if demonstrates else EpisodeMode.TRAINING
        start = EpisodeStart(mode=mode, number=self._episode, seed=self._config.seed + self._episode)
        chunks: list[Any] = []
        done = run_episode(
            self._seen, behaviour, start, ChunkFormat(self.spec), on_chunk=chunks.append, whole=demonstrates
        )
        if not demonstrates or done.success:
            for chunk in chunks:
                learner.send(chunk)
        return done

    def _report(self, env_steps: int, values: Mapping[str, float]) -> None:
        self._losses = {name.removeprefix("learner/"): value for name, value in values.items()}

    def _note(self, rows: list[dict[str, Any]], done: list[EpisodeSummary], env_steps: int, run: Any) -> None:
        """Add the metrics of an iteration to those of the run so far, `rows`."""
        steps = sum(each.length for each in done)
        values = {
            "iteration": float(len(rows)),
            "env_steps": float(env_steps),
            "success_rate": float(np.mean([each.success for each in done])),
            "intervention_rate": sum(each.interventions for each in done) / max(steps, 1),
        }
        values |= {name: self._losses[name] for name in ("critic_loss", "actor_loss") if name in self._losses}
        self.metrics.append(values)
        rows.append(values)
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, _METRICS)
        writer.writeheader()
        writer.writerows(rows)
        write_whole(self._config.run_dir / _METRICS_FILE, text.getvalue().encode())
        if run is not None:
            run.log(values, step=int(env_steps))


def _rows(path: Path) -> list[dict[str, Any]]:
    """The metrics of a run so far, an iteration a row; none of a new one."""
    if not path.exists():
        return []
    try:
        read = csv.DictReader(io.StringIO(read_bytes(path, _MAX_METRICS).decode(), newline=""), strict=True)
        rows = list(read)
    except (FileError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: expected the metrics of a run, found {error}; move it away") from error
    if tuple(read.fieldnames or ()) != _METRICS or any(None in row or None in row.values() for row in rows):
        found = ", ".join(read.fieldnames or ())[:100] or "nothing"
        raise ConfigError(f"{path}: expected rows of {', '.join(_METRICS)}, found {found}; move it away")
    return rows


class _Showing:
    """The initial policy, as a behaviour: it is asked, or its base actions are taken where observations have them."""

    def __init__(self, policy: NativePolicy, *, asks: bool) -> None:
        self._policy, self._asks = policy, asks

    def reset(self) -> None:
        if self._asks:
            self._policy.reset()

    def act(self, observation: Observation, info: Mapping[str, Any]) -> tuple[NDArray[np.float32], int]:
        if self._asks:
            return self._policy.act(observation, deterministic=True), 0
        return observation[BASE_ACTION], 0


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
