# SPDX-License-Identifier: Apache-2.0
"""How the networks of a policy become actions, in numpy: one kind for each kind of actor. Imports no JAX."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from serl_rl.policy.grasps import STAY, GripperPlace, arm_components, check_grippers, grasp_table
from serl_rl.policy.network import Network
from serl_rl.spec import DataError, TransitionSpec

Observation = Mapping[str, NDArray[Any]]
Look = Callable[[], NDArray[np.float32]]
"""Gives the vector that the networks take; costs something where there are frames."""
ReadNetwork = Callable[[str, int | None], Network]
"""The network whose arrays have a prefix, with a number of outputs, if that is known."""

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
Bound = Annotated[float, Field(ge=-50.0, le=50.0)]


class Acting(Protocol):
    """Chooses actions, one observation after the other."""

    action_dim: int

    def reset(self) -> None:
        """Begin an episode."""

    def check(self, spec: TransitionSpec) -> None:
        """Raise DataError unless observations of `spec` have what is needed beside the vector."""

    def act(self, observation: Observation, look: Look, rng: np.random.Generator | None) -> NDArray[np.float32]:
        """Action (A,) in [-1, 1]: one that explores, or the best one without a generator."""


@dataclass(frozen=True, config=_STRICT)
class SquashedGaussian:
    """Outputs are mean and log standard deviation of a Gaussian, which tanh squashes."""

    log_std_bounds: tuple[Bound, Bound]
    """Between which the log standard deviation is clipped."""
    kind: Literal["squashed_gaussian"] = "squashed_gaussian"


@dataclass(frozen=True, config=_STRICT)
class NoisyMean:
    """tanh of the outputs, plus normal noise that explores."""

    scale: float = Field(ge=0.0, le=10.0)
    """Standard deviation of the noise."""
    kind: Literal["noisy_mean"] = "noisy_mean"


@dataclass(frozen=True, config=_STRICT)
class ActionChunk:
    """tanh of the outputs are the next `chunk` actions; after `execute` of them the policy looks again.

    It does not explore. A step in which a person led counts like any other.
    """

    chunk: int = Field(ge=1, le=64)
    execute: int = Field(ge=1, le=64)
    kind: Literal["action_chunk"] = "action_chunk"


@dataclass(frozen=True, config=_STRICT)
class ArmAndGrasp:
    """A `SquashedGaussian` for the arm, and a second network with the values of all grasps, of which the best is taken.

    `stay` repeats the command that the observation says holds.
    """

    log_std_bounds: tuple[Bound, Bound]
    grippers: Annotated[tuple[GripperPlace, ...], Field(min_length=1, max_length=2)]
    epsilon: float = Field(ge=0.0, le=1.0)
    """Share of random grasps that explore."""
    kind: Literal["arm_and_grasp"] = "arm_and_grasp"


Actor = Annotated[SquashedGaussian | NoisyMean | ActionChunk | ArmAndGrasp, Field(discriminator="kind")]


def make_acting(actor: Actor, read: ReadNetwork) -> Acting:
    """What acts as described, with the networks that `read` gives; raises DataError if they do not fit."""
    match actor:
        case SquashedGaussian():
            return _SquashedGaussian(actor, read)
        case NoisyMean():
            return _NoisyMean(actor, read)
        case ActionChunk():
            return _ActionChunk(actor, read)
        case ArmAndGrasp():
            return _ArmAndGrasp(actor, read)


class _Memoryless:
    """Every step is like the first, and the vector is all that is needed."""

    action_dim: int

    def reset(self) -> None:
        pass

    def check(self, spec: TransitionSpec) -> None:
        pass


class _SquashedGaussian(_Memoryless):
    def __init__(self, actor: SquashedGaussian | ArmAndGrasp, read: ReadNetwork) -> None:
        low, high = self._bounds = actor.log_std_bounds
        if low > high:
            raise DataError("log_std_bounds", "low <= high", str(self._bounds))
        self._network = read("", None)
        self.action_dim = _divided(self._network.outputs, 2)

    def act(self, observation: Observation, look: Look, rng: np.random.Generator | None) -> NDArray[np.float32]:
        return self.squashed(look(), rng)

    def squashed(self, vector: NDArray[np.float32], rng: np.random.Generator | None) -> NDArray[np.float32]:
        mean, log_std = self.distribution(vector)
        if rng is not None:
            mean += np.exp(log_std) * rng.standard_normal(self.action_dim, dtype=np.float32)
        return np.tanh(mean)

    def distribution(self, vector: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and log standard deviation, (A,) each, before the squashing."""
        mean, log_std = np.split(self._network(vector), 2)
        return mean, np.clip(log_std, *self._bounds)


class _NoisyMean(_Memoryless):
    def __init__(self, actor: NoisyMean, read: ReadNetwork) -> None:
        self._scale = np.float32(actor.scale)
        self._network = read("", None)
        self.action_dim = self._network.outputs

    def act(self, observation: Observation, look: Look, rng: np.random.Generator | None) -> NDArray[np.float32]:
        action = np.tanh(self._network(look()))
        if rng is not None:
            action += self._scale * rng.standard_normal(self.action_dim, dtype=np.float32)
        return np.clip(action, np.float32(-1.0), np.float32(1.0))


class _ActionChunk:
    def __init__(self, actor: ActionChunk, read: ReadNetwork) -> None:
        if actor.execute > actor.chunk:
            raise DataError("execute", f"at most {actor.chunk}, the actions of a chunk", str(actor.execute))
        self._chunk, self._execute = actor.chunk, actor.execute
        self._network = read("", None)
        self.action_dim = _divided(self._network.outputs, actor.chunk)
        self.reset()

    def reset(self) -> None:
        self._planned: list[NDArray[np.float32]] = []

    def check(self, spec: TransitionSpec) -> None:
        pass

    def act(self, observation: Observation, look: Look, rng: np.random.Generator | None) -> NDArray[np.float32]:
        if not self._planned:
            actions = np.tanh(self._network(look())).reshape(self._chunk, self.action_dim)
            self._planned = list(actions[: self._execute])
        return self._planned.pop(0)


class _ArmAndGrasp(_Memoryless):
    def __init__(self, actor: ArmAndGrasp, read: ReadNetwork) -> None:
        self._grippers, self._epsilon = actor.grippers, actor.epsilon
        self._arm = _SquashedGaussian(actor, read)
        self._table = grasp_table(len(actor.grippers))
        self._values = read("grasp/", len(self._table))
        self.action_dim = self._arm.action_dim + len(actor.grippers)
        self._arm_components = arm_components(self.action_dim, actor.grippers)

    def check(self, spec: TransitionSpec) -> None:
        check_grippers(spec, self._grippers)

    def act(self, observation: Observation, look: Look, rng: np.random.Generator | None) -> NDArray[np.float32]:
        vector = look()
        action = np.empty(self.action_dim, np.float32)
        action[self._arm_components] = self._arm.squashed(vector, rng)
        if rng is not None and rng.random() < self._epsilon:
            grasp = self._table[rng.integers(len(self._table))]
        else:
            grasp = self._table[np.argmax(self._values(vector))]
        for gripper, choice in zip(self._grippers, grasp, strict=True):
            held = np.clip(observation[gripper.entry][gripper.index], -1.0, 1.0)
            action[gripper.action] = held if choice == STAY else choice
        return action


def _divided(outputs: int, parts: int) -> int:
    size, rest = divmod(outputs, parts)
    if rest or not size:
        raise DataError("head/kernel", f"a multiple of {parts} outputs", str(outputs))
    return size
