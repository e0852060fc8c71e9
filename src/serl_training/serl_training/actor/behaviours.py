# SPDX-License-Identifier: Apache-2.0
"""What chooses an actor's actions: the newest policy while it learns, one policy without noise, or nobody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from serl_rl.base_action import BASE_ACTION
from serl_rl.policy.acting_policy import ActingPolicy

from serl_training.actor.perception import FrameStacker
from serl_training.env.episode import Observation
from serl_training.link.learner_link import LearnerTotals


class Behaviour(Protocol):
    """What chooses actions."""

    def reset(self) -> None:
        """Begin an episode."""

    def act(self, observation: Observation, info: Mapping[str, Any]) -> tuple[NDArray[np.float32], int]:
        """Choose an action.

        Args:
            observation: the newest one.
            info: what the environment said along with it.

        Returns:
            the action (A,) in [-1, 1], and the version of the policy that chose it.
        """


class NewestPolicy(Protocol):
    """Where policies come from while they are learned; every `LearnerLink` is one."""

    @property
    def totals(self) -> LearnerTotals:
        """What is stored of the run."""

    @property
    def policy(self) -> ActingPolicy:
        """The newest one."""

    @property
    def policy_version(self) -> int:
        """Version of the newest policy."""


def _is_void(info: Mapping[str, Any]) -> bool:
    """Whether what was planned before the last step says nothing any more: somebody led, or the arm was held."""
    return bool(info.get("interrupted", info.get("intervention", False)))


class Exploring:
    """Uniformly random actions for the first steps of a run, then the newest policy with its own noise.

    Where an imported policy is improved the first steps are its own.
    """

    def __init__(self, learner: NewestPolicy, stack: FrameStacker, rng: np.random.Generator, random_steps: int) -> None:
        """Explore.

        Args:
            learner: gives policies, and says how many env steps the run has.
            stack: of the frames that a policy sees.
            rng: draws the noise.
            random_steps: env steps of the run with uniformly random actions, or with those of the imported policy.
        """
        self._policy: ActingPolicy | None = None  # whose plan is executed; a newer one takes over where it looks again
        self._version = 0
        self._learner, self._stack, self._rng, self._random_steps = learner, stack, rng, random_steps

    def reset(self) -> None:
        """Begin an episode."""
        self._stack.reset()
        self._policy = None

    def act(self, observation: Observation, info: Mapping[str, Any]) -> tuple[NDArray[np.float32], int]:
        """Choose an action with the newest policy; see `Behaviour`."""
        observation = self._stack(observation)
        if self._learner.totals.env_steps < self._random_steps:
            if BASE_ACTION in observation:
                return observation[BASE_ACTION], self._learner.policy_version
            action = self._rng.uniform(-1.0, 1.0, self._stack.spec.action_dim)
            return action.astype(np.float32), self._learner.policy_version
        if self._policy is None or not self._policy.planned or _is_void(info):
            self._policy, self._version = self._learner.policy, self._learner.policy_version
            self._policy.reset()
        return self._policy.act(observation, deterministic=False, rng=self._rng), self._version


class Greedy:
    """One policy, without noise."""

    def __init__(self, policy: ActingPolicy, version: int, stack: FrameStacker) -> None:
        """Act with `policy`, of this `version`, on frames that `stack` puts together."""
        self._policy, self._version, self._stack = policy, version, stack

    def reset(self) -> None:
        """Begin an episode."""
        self._stack.reset()
        self._policy.reset()

    def act(self, observation: Observation, info: Mapping[str, Any]) -> tuple[NDArray[np.float32], int]:
        """Choose the action that the policy takes for best; see `Behaviour`."""
        if _is_void(info):
            self._policy.reset()
        return self._policy.act(self._stack(observation), deterministic=True, rng=None), self._version


class Still:
    """No motion; the person leads. When they let go the arm keeps what was commanded last, the gripper too."""

    def __init__(self, action_dim: int) -> None:
        """Rest, with zeros where the environment names no action that changes nothing."""
        self._zero = np.zeros(action_dim, np.float32)

    def reset(self) -> None:
        """Begin an episode."""

    def act(self, observation: Observation, info: Mapping[str, Any]) -> tuple[NDArray[np.float32], int]:
        """Choose the environment's ``rest_action``; see `Behaviour`."""
        return np.asarray(info.get("rest_action", self._zero), np.float32), 0
