# SPDX-License-Identifier: Apache-2.0
"""What references share: their state, what they draw, whole updates, and the comparison with an agent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar

import jax
import numpy as np
import pytest
from numpy.typing import NDArray
from serl_rl.backends import create_agent
from serl_rl.config import LearningConfig, TorchConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.replay.buffer import map_batch
from serl_rl.spec import TransitionSpec

from .networks import State, adam
from .tape import Value, gradients

Batch = dict[str, Any]
Info = dict[str, float]

AFTER_ONE = 1e-4
"""Largest difference after one update, as a part of the largest change in the same array: agents count in float32."""
AFTER_TWENTY = 1e-3
"""The same after twenty: roundings grow most where one of them moves a hidden unit over the edge of its relu."""


class Agent(Protocol):
    def arrays(self) -> dict[str, NDArray]: ...

    def with_arrays(self, arrays: Mapping[str, NDArray]) -> Any: ...


AgentT = TypeVar("AgentT", bound=Agent)


class Keys:
    """The random numbers of an agent: each step takes one half of a split, the other is the key from then on."""

    def __init__(self, data: NDArray) -> None:
        self._key = jax.random.wrap_key_data(data)

    def step(self) -> jax.Array:
        self._key, own = jax.random.split(self._key)
        return own

    def split(self, count: int) -> list[jax.Array]:
        self._key, *own = jax.random.split(self._key, 1 + count)
        return own


def normal(key: jax.Array, shape: tuple[int, ...]) -> NDArray[np.float64]:
    return np.asarray(jax.random.normal(key, shape), np.float64)


def components(batch: Batch) -> tuple[int, int]:
    """Shape (B, A) of single actions, or (B, H * A) of chunks."""
    size, *rest = batch["action"].shape
    return size, int(np.prod(rest))


def chunk_length(batch: Batch) -> int:
    return batch["action"].shape[1] if batch["action"].ndim == 3 else 1


def valued(batch: Batch, following: NDArray) -> NDArray:
    """Actions as critics take them: those of a chunk, and from where it is cut the first that follow, (B, H * A)."""
    if batch["action"].ndim == 2:
        return batch["action"]
    rows = []
    for actions, valid, plan in zip(batch["action"], batch["valid"], following, strict=True):
        steps = [action for action, there in zip(actions, valid, strict=True) if there]
        steps += list(plan.reshape(actions.shape))[: len(actions) - len(steps)]
        rows.append(np.concatenate(steps))
    return np.stack(rows)


class Reference(Protocol):
    """An independent implementation of an algorithm, which changes its `state` in place."""

    state: State

    def prepare(self, batch: Batch) -> Batch: ...

    def critic_step(self, batch: Batch) -> Info: ...

    def actor_step(self, batch: Batch) -> Info: ...


def update(reference: Reference, batch: Batch) -> Info:
    """One critic step on each minibatch, and one actor step on the last minibatch of each environment step."""
    collected: dict[str, list[float]] = {}
    n_steps, utd_ratio = batch["action"].shape[:2]
    for step in range(n_steps):
        for number in range(utd_ratio):
            minibatch = reference.prepare(map_batch(lambda rows, at=(step, number): rows[at], batch))
            infos = [reference.critic_step(minibatch)]
            if number == utd_ratio - 1:
                infos.append(reference.actor_step(minibatch))
            for name, value in (item for info in infos for item in info.items()):
                collected.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in collected.items()}


def parameters(state: State, *networks: str) -> dict[str, Value]:
    """The parameters of some networks, NETWORK/... each."""
    return {
        name: Value(array) for name, array in state.items() if any(name.startswith(f"{part}/") for part in networks)
    }


def descend(state: State, network: str, loss: Callable[[dict[str, Value]], Value], rate: float) -> float:
    """One step of Adam down a loss of the parameters NETWORK/..., in place; returns the loss before it."""
    params = parameters(state, network)
    value = loss(params)
    slopes = gradients(value, list(params.values()))
    by_name = {name.removeprefix(f"{network}/"): slope.array for name, slope in zip(params, slopes, strict=True)}
    adam(state, network, f"{network}_optimizer", by_name, rate)
    return float(value.array)


def follow(state: State, target: str, network: str, rate: float) -> None:
    """Move a target network by a share of the way to its network, in place (Lillicrap et al., arXiv 1509.02971)."""
    for name in [name for name in state if name.startswith(f"{target}/")]:
        online = state[name.replace(target, network, 1)]
        state[name] = (1.0 - rate) * state[name] + rate * online


def make_agent(backend: str, spec: TransitionSpec, encoder: Encoder | None = None, **settings: Any) -> Any:
    """A new agent of a backend, stirred, with these settings of `LearningConfig`."""
    computing = TorchConfig(device="cpu", compile=False)
    config = LearningConfig(backend=backend, torch=computing, **settings)  # type: ignore[arg-type]
    return stirred(create_agent(0, spec, config, encoder))


def stirred(agent: AgentT, seed: int = 0, only: Iterable[str] = ("",)) -> AgentT:
    """The agent with parameters that are nowhere 0 or 1 or equal to each other, as fresh ones are."""
    rng = np.random.default_rng(seed)
    arrays = agent.arrays()
    for name, array in arrays.items():
        if "/params/" in name and "optimizer" not in name and name.startswith(tuple(only)):
            arrays[name] = (array + 0.2 * rng.standard_normal(array.shape)).astype(np.float32)
    return agent.with_arrays(arrays)


def state_of(agent: Agent) -> State:
    return {name: array.astype(np.float64) for name, array in agent.arrays().items() if not name.endswith("key")}


def expect_same(agent: Agent, expected: State, start: State, tolerance: float) -> None:
    """Every array has changed from `start` as expected, but for a part of the largest change in it."""
    found = state_of(agent)
    assert found.keys() == expected.keys()
    wrong = []
    for name, array in expected.items():
        change = np.abs(array - start[name]).max()
        rounding = 3e-7 * np.abs(array).max()
        off = np.abs(found[name] - array).max()
        if not off <= tolerance * change + rounding:
            wrong.append(f"{name} is off by {off:.2e}, where the largest change is {change:.2e}")
    assert not wrong, f"{len(wrong)} of {len(expected)} arrays: " + "; ".join(wrong[:5])


def expect_same_info(found: Mapping[str, jax.Array], expected: Info, tolerance: float) -> None:
    """What is reported of an update; `q` and losses can be near 0."""
    numbers = {name: float(value) for name, value in found.items()}
    assert numbers == pytest.approx(expected, rel=tolerance, abs=tolerance)
