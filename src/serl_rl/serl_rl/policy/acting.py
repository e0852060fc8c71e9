# SPDX-License-Identifier: Apache-2.0
"""How the networks of a policy become actions, in numpy: one kind for each kind of actor. Imports no JAX."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from serl_rl.base_action import BASE_ACTION
from serl_rl.config import MAX_CHUNK
from serl_rl.policy.grasps import STAY, GripperPlace, arm_components, check_grippers, grasp_table
from serl_rl.policy.network import Network
from serl_rl.spec import DataError, TransitionSpec

Observation = Mapping[str, NDArray[Any]]
ReadNetwork = Callable[[str, int | None], Network]
"""The network whose arrays have a prefix, with a number of outputs, if that is known."""
ReadCritic = Callable[[int, int], Network]
"""The critic of a number, for actions of so many components."""

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
Bound = Annotated[float, Field(ge=-50.0, le=50.0)]
Steps = Annotated[int, Field(ge=1, le=MAX_CHUNK)]


class Look(Protocol):
    """Looks at the observation of the moment, which costs something where there are frames."""

    def __call__(self, *, as_critics: bool = False) -> NDArray[np.float32]:
        """The vector that the actor's networks take, or the one that the critics do, which have eyes of their own."""


class Planner(Protocol):
    """Chooses the actions of a chunk from one observation."""

    action_dim: int

    def check(self, spec: TransitionSpec) -> None:
        """Raise DataError unless observations of `spec` have what is needed beside the vector."""

    def plan(self, observation: Observation, look: Look, rng: np.random.Generator | None) -> NDArray[np.float32]:
        """Actions (chunk, A) in [-1, 1]: ones that explore, or the best ones without a generator."""


class Acting:
    """Chooses actions, one observation after the other: it looks, executes what it has planned, and looks again."""

    def __init__(self, planner: Planner, execute: int) -> None:
        """Execute the first `execute` actions of each plan."""
        self.planner = planner
        self._execute = execute
        self._rest: list[NDArray[np.float32]] = []

    @property
    def action_dim(self) -> int:
        """Number of action components A."""
        return self.planner.action_dim

    @property
    def planned(self) -> int:
        """Actions that are left of the plan, which are executed before anybody looks again."""
        return len(self._rest)

    def reset(self) -> None:
        """Forget the plan."""
        self._rest = []

    def act(self, observation: Observation, look: Look, rng: np.random.Generator | None) -> NDArray[np.float32]:
        """Action (A,) in [-1, 1]: one that explores, or the best one without a generator."""
        if not self._rest:
            self._rest = list(self.planner.plan(observation, look, rng)[: self._execute])
        return self._rest.pop(0)


@dataclass(frozen=True, config=_STRICT)
class SquashedGaussian:
    """Outputs are mean and log standard deviation of a Gaussian, which tanh squashes."""

    log_std_bounds: tuple[Bound, Bound]
    """Between which the log standard deviation is clipped."""
    chunk: Steps = 1
    """Consecutive actions that are chosen at once; one in files from before there were more."""
    execute: Steps = 1
    """How many of them are executed before the policy looks again."""
    kind: Literal["squashed_gaussian"] = "squashed_gaussian"


@dataclass(frozen=True, config=_STRICT)
class NoisyMean:
    """tanh of the outputs, plus normal noise that explores."""

    scale: float = Field(ge=0.0, le=10.0)
    """Standard deviation of the noise."""
    chunk: Steps = 1
    execute: Steps = 1
    """How many of the `chunk` actions that are chosen at once are executed before the policy looks again."""
    kind: Literal["noisy_mean"] = "noisy_mean"


@dataclass(frozen=True, config=_STRICT)
class ActionChunk:
    """tanh of the outputs are the next `chunk` actions; after `execute` of them the policy looks again.

    It does not explore.
    """

    chunk: Steps
    execute: Steps
    kind: Literal["action_chunk"] = "action_chunk"


@dataclass(frozen=True, config=_STRICT)
class ArmAndGrasp:
    """A `SquashedGaussian` for the arm, and a second network with the values of all grasps, of which the best is taken.

    `stay` repeats the command that the observation says holds. The grasp is the same for all actions of a chunk.
    """

    log_std_bounds: tuple[Bound, Bound]
    grippers: Annotated[tuple[GripperPlace, ...], Field(min_length=1, max_length=2)]
    epsilon: float = Field(ge=0.0, le=1.0)
    """Share of random grasps that explore."""
    chunk: Steps = 1
    execute: Steps = 1
    """How many of the `chunk` actions that are chosen at once are executed before the policy looks again."""
    kind: Literal["arm_and_grasp"] = "arm_and_grasp"


@dataclass(frozen=True, config=_STRICT)
class Residual:
    """A `SquashedGaussian` whose actions, times `scale`, are added to the base action that the observation has."""

    log_std_bounds: tuple[Bound, Bound]
    scale: float = Field(gt=0.0, le=2.0)
    """Largest correction of each component."""
    chunk: Literal[1] = 1
    execute: Literal[1] = 1
    kind: Literal["residual"] = "residual"


@dataclass(frozen=True, config=_STRICT)
class Proposals:
    """A `SquashedGaussian`, and critics that choose between its action and the base action that the observation has.

    The one with the larger value is taken; the value is the least that any of the critics says.
    """

    log_std_bounds: tuple[Bound, Bound]
    critics: int = Field(ge=1, le=100)
    """Their number."""
    chunk: Literal[1] = 1
    execute: Literal[1] = 1
    kind: Literal["proposals"] = "proposals"


OneActor = Annotated[
    SquashedGaussian | NoisyMean | ActionChunk | ArmAndGrasp | Residual | Proposals, Field(discriminator="kind")
]


@dataclass(frozen=True, config=_STRICT)
class ArmActor:
    """What acts for one of several arms. The names of its arrays begin with that of the arm."""

    arm: Annotated[str, Field(min_length=1, max_length=200)]
    """Name of the arm."""
    components: Annotated[tuple[Annotated[int, Field(ge=0, lt=1000)], ...], Field(min_length=1)]
    """Places of its components in the action."""
    actor: OneActor
    """What the outputs of its networks mean."""


@dataclass(frozen=True, config=_STRICT)
class PerArm:
    """Each arm has networks of its own, which see the whole observation and choose its components of the action."""

    arms: Annotated[tuple[ArmActor, ...], Field(min_length=2, max_length=16)]
    kind: Literal["per_arm"] = "per_arm"


Actor = Annotated[
    SquashedGaussian | NoisyMean | ActionChunk | ArmAndGrasp | Residual | Proposals | PerArm,
    Field(discriminator="kind"),
]


def make_acting(actor: OneActor, read: ReadNetwork, read_critic: ReadCritic) -> Acting:
    """What acts as described, with the networks that are read; raises DataError if they do not fit."""
    if actor.execute > actor.chunk:
        raise DataError("execute", f"at most {actor.chunk}, the actions of a chunk", str(actor.execute))
    return Acting(_make_planner(actor, read, read_critic), actor.execute)


def _make_planner(actor: OneActor, read: ReadNetwork, read_critic: ReadCritic) -> Planner:
    match actor:
        case Residual():
            return _Residual(actor, read)
        case Proposals():
            return _Proposals(actor, read, read_critic)
        case SquashedGaussian():
            return _SquashedGaussian(actor, read)
        case NoisyMean():
            return _NoisyMean(actor, read)
        case ActionChunk():
            return _ActionChunk(actor, read)
        case ArmAndGrasp():
            return _ArmAndGrasp(actor, read)


class _SeesEnough:
    """The vector is all that is needed."""

    def check(self, spec: TransitionSpec) -> None:
        pass


class _SquashedGaussian(_SeesEnough):
    def __init__(self, actor: SquashedGaussian | ArmAndGrasp | Residual | Proposals, read: ReadNetwork) -> None:
        low, high = self._bounds = actor.log_std_bounds
        if low > high:
            raise DataError("log_std_bounds", "low <= high", str(self._bounds))
        self._network = read("", None)
        self._chunk = actor.chunk
        self.action_dim = _divided(self._network.outputs, 2 * actor.chunk)

    def plan(self, observation: Observation, look: Look, rng: np.random.Generator | None) -> NDArray[np.float32]:
        return self.squashed(look(), rng)

    def squashed(self, vector: NDArray[np.float32], rng: np.random.Generator | None) -> NDArray[np.float32]:
        """Actions (chunk, A) for the vector (D,) of an observation."""
        mean, log_std = self.distribution(vector)
        if rng is not None:
            mean += np.exp(log_std) * rng.standard_normal(len(mean), dtype=np.float32)
        return np.tanh(mean).reshape(self._chunk, self.action_dim)

    def distribution(self, vector: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and log standard deviation, (chunk * A,) each, before the squashing."""
        mean, log_std = np.split(self._network(vector), 2)
        return mean, np.clip(log_std, *self._bounds)


class _BesideBase:
    """Acts beside an imported policy, whose action is in the observation."""

    def __init__(self, actor: Residual | Proposals, read: ReadNetwork) -> None:
        self._own = _SquashedGaussian(actor, read)
        self.action_dim = self._own.action_dim

    def check(self, spec: TransitionSpec) -> None:
        entry = spec.observation.get(BASE_ACTION)
        if entry is None or entry.shape != (self.action_dim,):
            found = "none" if entry is None else str(entry.shape)
            raise DataError(f"observation.{BASE_ACTION}", f"({self.action_dim},), of an imported policy", found)


class _Residual(_BesideBase):
    def __init__(self, actor: Residual, read: ReadNetwork) -> None:
        super().__init__(actor, read)
        self._scale = np.float32(actor.scale)

    def plan(self, observation: Observation, look: Look, rng: np.random.Generator | None) -> NDArray[np.float32]:
        corrected = observation[BASE_ACTION] + self._scale * self._own.squashed(look(), rng)
        return np.clip(corrected, np.float32(-1.0), np.float32(1.0))


class _Proposals(_BesideBase):
    def __init__(self, actor: Proposals, read: ReadNetwork, read_critic: ReadCritic) -> None:
        super().__init__(actor, read)
        self._critics = [read_critic(number, self.action_dim) for number in range(actor.critics)]

    def plan(self, observation: Observation, look: Look, rng: np.random.Generator | None) -> NDArray[np.float32]:
        own, base = self._own.squashed(look(), rng), observation[BASE_ACTION][None]
        seen = look(as_critics=True)
        return own if self._value(seen, own) > self._value(seen, base) else base

    def _value(self, seen: NDArray[np.float32], action: NDArray[np.float32]) -> float:
        inputs = np.concatenate([seen, action[0]])
        return min(float(critic(inputs)[0]) for critic in self._critics)


class _NoisyMean(_SeesEnough):
    def __init__(self, actor: NoisyMean, read: ReadNetwork) -> None:
        self._scale = np.float32(actor.scale)
        self._network = read("", None)
        self._chunk = actor.chunk
        self.action_dim = _divided(self._network.outputs, actor.chunk)

    def plan(self, observation: Observation, look: Look, rng: np.random.Generator | None) -> NDArray[np.float32]:
        actions = np.tanh(self._network(look()))
        if rng is not None:
            actions += self._scale * rng.standard_normal(len(actions), dtype=np.float32)
        return np.clip(actions, np.float32(-1.0), np.float32(1.0)).reshape(self._chunk, self.action_dim)


class _ActionChunk(_SeesEnough):
    def __init__(self, actor: ActionChunk, read: ReadNetwork) -> None:
        self._chunk = actor.chunk
        self._network = read("", None)
        self.action_dim = _divided(self._network.outputs, actor.chunk)

    def plan(self, observation: Observation, look: Look, rng: np.random.Generator | None) -> NDArray[np.float32]:
        return np.tanh(self._network(look())).reshape(self._chunk, self.action_dim)


class _ArmAndGrasp:
    def __init__(self, actor: ArmAndGrasp, read: ReadNetwork) -> None:
        self._grippers, self._epsilon = actor.grippers, actor.epsilon
        self._arm = _SquashedGaussian(actor, read)
        self._table = grasp_table(len(actor.grippers))
        self._values = read("grasp/", len(self._table))
        self.action_dim = self._arm.action_dim + len(actor.grippers)
        self._arm_components = arm_components(self.action_dim, actor.grippers)

    def check(self, spec: TransitionSpec) -> None:
        check_grippers(spec, self._grippers)

    def plan(self, observation: Observation, look: Look, rng: np.random.Generator | None) -> NDArray[np.float32]:
        vector = look()
        arm = self._arm.squashed(vector, rng)
        actions = np.empty((len(arm), self.action_dim), np.float32)
        actions[:, self._arm_components] = arm
        if rng is not None and rng.random() < self._epsilon:
            grasp = self._table[rng.integers(len(self._table))]
        else:
            grasp = self._table[np.argmax(self._values(vector))]
        for gripper, choice in zip(self._grippers, grasp, strict=True):
            held = np.clip(observation[gripper.entry][gripper.index], -1.0, 1.0)
            actions[:, gripper.action] = held if choice == STAY else choice
        return actions


def _divided(outputs: int, parts: int) -> int:
    size, rest = divmod(outputs, parts)
    if rest or not size:
        raise DataError("head/kernel", f"a multiple of {parts} outputs", str(outputs))
    return size
