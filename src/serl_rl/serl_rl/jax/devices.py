# SPDX-License-Identifier: Apache-2.0
"""Several devices that train one agent, in one process and one program: computation follows where its arrays lie.

An agent whose arrays lie on a mesh is updated on all of its devices. The axis of the mesh says what is divided: the
rows of each minibatch, with the whole agent on every device, or the critics of an ensemble, with every minibatch on
every device. XLA divides the program and puts the sums together; random numbers are those of the whole minibatch,
however many devices draw them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from serl_rl.config import LearningConfig
from serl_rl.devices import number_of

AgentT = TypeVar("AgentT")
Tree = TypeVar("Tree")

ROWS = "rows"
CRITICS = "critics"

_ROWS_AXIS = 2  # of a leaf (n_steps, utd_ratio, B, ...)
_ENSEMBLES = ("critic/params", "target_critic/params", "critic_optimizer/0/mu/params", "critic_optimizer/0/nu/params")


def found() -> list[str]:
    """Names of the devices that JAX finds, as `cpu:0`."""
    return [f"{device.platform}:{device.id}" for device in jax.local_devices()]


def mesh_for(config: LearningConfig) -> Mesh | None:
    """The devices that the settings ask for; None for the only one, or the first.

    Raises:
        DeviceError: there are fewer, or what is split does not divide by them.
    """
    if config.devices == 1:
        return None
    count = number_of(config.devices, found())
    config.check_split(count)
    return None if count == 1 else make_mesh(jax.local_devices()[:count], config.split)


def make_mesh(devices: Sequence[jax.Device], split: str) -> Mesh:
    """A mesh of devices (N,), which divides `rows` or `critics`."""
    return Mesh(np.array(devices), (split,))


def mesh_of(array: jax.Array) -> Mesh | None:
    """The mesh that an array of an agent, as its key (), lies on; None where it lies on one device, as by default."""
    sharding = array.sharding
    return sharding.mesh if isinstance(sharding, NamedSharding) else None  # type: ignore[return-value]


def on_mesh(agent: AgentT, mesh: Mesh) -> AgentT:
    """The agent with its arrays on the devices of a mesh: whole on each, but for critics that are divided."""
    return jax.device_put(agent, _layout(agent, mesh))


def kept_on(mesh: Mesh, step: Callable[[AgentT, Any], tuple[AgentT, Tree]]) -> Callable[..., tuple[AgentT, Tree]]:
    """A step, to be compiled, that leaves the agent where it was on a mesh, and tells every device what it reports."""

    def kept(agent: AgentT, batch: Any) -> tuple[AgentT, Tree]:
        agent, info = step(agent, batch)
        return (
            jax.lax.with_sharding_constraint(agent, _layout(agent, mesh)),
            jax.lax.with_sharding_constraint(info, NamedSharding(mesh, PartitionSpec())),
        )

    return kept


def placed(batch: Tree, mesh: Mesh) -> Tree:
    """A batch (n_steps, utd_ratio, B, ...) on the devices of a mesh, each with its rows of every minibatch.

    Leaves whose rows do not divide by the devices are whole on each, as all are where critics are divided.
    """
    whole = NamedSharding(mesh, PartitionSpec())
    if ROWS not in mesh.axis_names:
        return jax.device_put(batch, whole)
    own = NamedSharding(mesh, PartitionSpec(None, None, ROWS))

    def layout(leaf: Any) -> NamedSharding:
        return whole if leaf.shape[_ROWS_AXIS] % mesh.size else own

    return jax.device_put(batch, jax.tree.map(layout, batch))


def _layout(agent: AgentT, mesh: Mesh) -> AgentT:
    """Where each array of an agent lies."""
    whole = NamedSharding(mesh, PartitionSpec())
    if CRITICS not in mesh.axis_names:
        return jax.tree.map(lambda _: whole, agent)
    divided = NamedSharding(mesh, PartitionSpec(CRITICS))

    def layout(path: Sequence[Any], _: Any) -> NamedSharding:
        name = jax.tree_util.keystr(tuple(path), simple=True, separator="/")
        return divided if name.startswith(_ENSEMBLES) else whole

    return jax.tree_util.tree_map_with_path(layout, agent)
