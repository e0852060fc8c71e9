# SPDX-License-Identifier: Apache-2.0
"""Acting on a task by what a learner of SERL publishes: the parameters of its agent, of which the actor is taken."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from serl_rl.foreign.serl.agent import take_actor
from serl_rl.foreign.serl.policy import LOG_DEVIATIONS, STATE, SerlPolicy
from serl_rl.imported.mapped import MappedPolicy
from serl_rl.imported.mapping import PolicyMapping
from serl_rl.policy.acting import SquashedGaussian
from serl_rl.policy.acting_policy import ActingPolicy
from serl_rl.policy.network import PolicyArrays
from serl_rl.policy.numpy_policy import NumpyPolicy
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.spec import DataError, TransitionSpec

_ACTOR: Final = "modules_actor/"
_ENCODER: Final = "modules_actor/encoder/"


def published_policy(parameters: Mapping[str, NDArray[Any]], spec: TransitionSpec) -> ActingPolicy:
    """The policy of published parameters.

    Args:
        parameters: float32 arrays by their paths, as "modules_actor/Dense_0/kernel"; critics may be among them.
        spec: of the task's observations, `state` and pictures.

    Raises:
        DataError: they are none of an agent of SERL, or not of one for this task.
    """
    if not any(name.startswith(_ACTOR) for name in parameters):
        found = ", ".join(sorted({name.split("/")[0] for name in parameters})[:5]) or "nothing"
        raise DataError("parameters", "those of an agent of SERL, modules_actor among them", found)
    if any(name.startswith(_ENCODER) for name in parameters):
        return _SeeingPolicy(parameters, spec)
    actor, _, state = take_actor(PolicyArrays({n: each for n, each in parameters.items() if n.startswith(_ACTOR)}))
    policy = NumpyPolicy(PolicySnapshot(actor, {STATE: state}, "tanh", SquashedGaussian(LOG_DEVIATIONS)))
    policy.check(spec)
    if policy.action_dim != spec.action_dim:
        raise DataError("modules_actor/Dense_0/bias", f"{spec.action_dim} actions", str(policy.action_dim))
    return policy


class _Sampled:
    """Actions that explore, as a `ForeignPolicy`; the generator that draws them changes."""

    planned = 0

    def __init__(self, policy: SerlPolicy) -> None:
        self.inputs: Mapping[str, tuple[int, ...]] = policy.inputs
        self.outputs = policy.outputs
        self.rng = np.random.default_rng(0)
        self._policy = policy

    def reset(self) -> None:
        pass

    def act(self, inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        return self._policy.sample(inputs, self.rng)


class _SeeingPolicy:
    """A policy of SERL that looks at pictures, as an `ActingPolicy` that explores."""

    planned = 0

    def __init__(self, parameters: Mapping[str, NDArray[Any]], spec: TransitionSpec) -> None:
        pictures = [name for name, entry in spec.observation.items() if entry.kind == "image"]
        known = [name for name in pictures if any(each.startswith(f"{_ENCODER}encoder_{name}/") for each in parameters)]
        order = known if len(known) > 2 else ()  # of one or two it shows
        policy = SerlPolicy(Path("parameters"), parameters, order)
        if f"{_ACTOR}Dense_1/kernel" not in parameters:
            raise DataError(f"{_ACTOR}Dense_1", "a deviation, by which the policy explores", "nothing")
        self._spec, self._sampled = spec, _Sampled(policy)
        self._best = MappedPolicy(policy, spec, PolicyMapping())
        self._exploring = MappedPolicy(self._sampled, spec, PolicyMapping())

    @property
    def action_dim(self) -> int:
        return self._spec.action_dim

    def check(self, spec: TransitionSpec) -> None:
        self._best.check(spec)

    def reset(self) -> None:
        pass

    def act(
        self, observation: Mapping[str, NDArray[Any]], *, deterministic: bool, rng: np.random.Generator | None = None
    ) -> NDArray[np.float32]:
        if deterministic or rng is None:
            return self._best.act(observation, deterministic=True)
        self._sampled.rng = rng
        return self._exploring.act(observation, deterministic=False)
