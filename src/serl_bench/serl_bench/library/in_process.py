# SPDX-License-Identifier: Apache-2.0
"""Trainings without the graph: actor, learner and a simulated world in one process, on one thread."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from serl_rl.agent import Agent
from serl_rl.backends import create_agent, make_policy
from serl_rl.capacity import transitions_of
from serl_rl.config import LearningConfig
from serl_rl.policy.acting_policy import ActingPolicy
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.replay.buffer import ReplayBuffer
from serl_rl.replay.sampler import make_sampler
from serl_rl.storage.chunk import Chunk
from serl_sim.envs import TaskEnv
from serl_training.actor.actor import Actor, ActorSettings
from serl_training.actor.job import TrainGoal, TrainResult
from serl_training.actor.perception import Perception, make_perception
from serl_training.env.episode import EpisodeMode, Observation
from serl_training.link.learner_link import LearnerTotals

from serl_tasks import Task

N_STEPS = 8
"""Env steps' worth of updates in one compiled call, as the learner node has it."""


class ShownEnv(gym.Wrapper[Observation, NDArray[np.float32], Observation, NDArray[np.float32]]):
    """A task's environment that is shown by the task's scripted expert in demonstrations."""

    def __init__(self, env: TaskEnv, seed: int) -> None:
        """Let an expert with the noise of the task's demonstrations, drawn from `seed`, show `env`."""
        super().__init__(cast(gym.Env[Observation, NDArray[np.float32]], env))
        self._world = env
        self._expert = env.task.make_expert(np.random.default_rng(seed), env.task.demonstration_noise)
        self._shown = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode; `options` say what it is for."""
        self._shown = (options or {}).get("mode") is EpisodeMode.DEMONSTRATION
        self._expert.reset()
        return self._world.reset(seed=seed)

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, Any, bool, bool, dict[str, Any]]:
        """Act by the action (A,), or by what the expert shows."""
        if self._shown:
            action = self._expert.act(*self._world.known())
        observation, reward, terminated, truncated, info = self._world.step(action)
        return observation, reward, terminated, truncated, {**info, "intervention": self._shown}


class InProcessLearner:
    """The learner of an actor in the same process: it trains whenever the actor has sent enough.

    Attributes:
        agent: as it was trained last.
        totals: what is stored.
    """

    lag = 0

    def __init__(self, perception: Perception, config: LearningConfig, seed: int) -> None:
        """Make the agent of a configuration, with the same seeds as the learner node."""
        self.agent: Agent = create_agent(seed, perception.spec, config, perception.weights)
        self.totals = LearnerTotals()
        self._config, self._encoder = config, perception.weights
        self._online = ReplayBuffer(perception.spec, transitions_of(config.replay_capacity, perception.spec))
        self._shown = ReplayBuffer(perception.spec, config.demonstration_capacity)
        self._sampler = make_sampler(config, self._online, self._shown, None, seed)
        self._trained = 0
        self._policy: ActingPolicy | None = None

    @property
    def policy_version(self) -> int:
        """Number of updates of the newest policy."""
        return int(self.agent.updates)

    @property
    def policy(self) -> ActingPolicy:
        """The newest policy, as it would arrive from a learner."""
        if self._policy is None:
            snapshot = PolicySnapshot.from_bytes(self.agent.policy_snapshot().to_bytes())
            self._policy = make_policy(snapshot, self._encoder)
        return self._policy

    def connect(self) -> None:
        """There is nothing to wait for."""

    def send(self, chunk: Chunk) -> None:
        """Store a chunk, and train for it."""
        (self._shown if chunk.demonstration else self._online).insert(chunk)
        own, total = 0 if chunk.demonstration else len(chunk), self.totals
        self.totals = LearnerTotals(
            total.env_steps + own,
            total.demonstrations + int(chunk.demonstration and chunk.last),
            max(total.episodes, chunk.episode),
        )
        if self.totals.env_steps < self._config.training_starts:
            self._trained = self.totals.env_steps
        while self.totals.env_steps - self._trained >= N_STEPS:
            self._update()
            self._trained += N_STEPS

    def discard(self, episode: int, first_step: int) -> None:
        """Nobody discards anything here."""

    def await_updates(self, count: int) -> None:
        """Train on the demonstrations alone."""
        while int(self.agent.updates) < count:
            self._update()

    def _update(self) -> None:
        self.agent, _ = self.agent.update(self._sampler.sample(N_STEPS, self._config.utd_ratio))
        self._policy = None

    def throttle(self) -> None:
        """It is never behind."""

    def settle(self, env_steps: int = 0) -> None:
        """It is settled."""

    def flush(self) -> None:
        """All has arrived."""


class Host:
    """A host of an actor's jobs that lets them go on, and keeps what they report.

    Attributes:
        evaluations: env steps and success rate of each evaluation.
    """

    def __init__(self, say: Callable[[str], None] = lambda _line: None) -> None:
        """Tell each evaluation to `say`."""
        self.evaluations: list[tuple[int, float]] = []
        self._say = say

    def report(self, env_steps: int, values: dict[str, float]) -> None:
        """Keep the evaluations."""
        if "eval/success_rate" in values:
            self.evaluations.append((env_steps, values["eval/success_rate"]))
            self._say(f"    {env_steps} env steps: {values['eval/success_rate']:.0%}")

    def mind(self, component: str, concern: str) -> None:
        """Nothing is minded."""

    def check(self) -> None:
        """It goes on."""

    def wait_until_ready(self) -> None:
        """It is ready."""

    def end_episode(self) -> None:
        """Nobody discards it."""


class InProcessTraining:
    """One training of one task.

    Attributes:
        learner: with the agent.
        host: with the evaluations.
        actor: that trains and evaluates.
    """

    def __init__(
        self,
        task: Task,
        config: LearningConfig,
        seed: int,
        base: ActingPolicy | None = None,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        """Put a training together.

        Args:
            task: to learn, in its simulated world.
            config: of the learning.
            seed: of networks, start states, exploration and demonstrations.
            base: the imported policy that is improved; None where none is.
            say: takes a line for each evaluation.
        """
        perception = make_perception(task, config, seed, simulated=True, base=base)
        self._world = TaskEnv(task)
        self.learner, self.host = InProcessLearner(perception, config, seed), Host(say)
        settings = ActorSettings(
            "actor_0",
            human_expected=frozenset({EpisodeMode.DEMONSTRATION}),
            random_steps=config.random_steps,
            updates_before_acting=config.updates_before_acting,
        )
        env = perception.wrap(ShownEnv(self._world, seed))
        self.actor = Actor(env, self.learner, self.host, perception.spec, settings)

    def train(self, goal: TrainGoal) -> TrainResult:
        """Train until the goal, as `Actor.train`."""
        return self.actor.train(goal, lambda _stage, _env_steps, _rate: None)

    def save_policy(self, path: Path) -> None:
        """Write the policy of this moment into a file."""
        path.write_bytes(self.learner.agent.policy_snapshot().to_bytes())

    def close(self) -> None:
        """Give the world back."""
        self._world.close()
