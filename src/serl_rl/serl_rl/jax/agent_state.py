# SPDX-License-Identifier: Apache-2.0
"""The state of an agent, a PyTree, as named arrays: what checkpoints hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from serl_rl.agent_arrays import check_names, with_later_parts
from serl_rl.jax.devices import mesh_of
from serl_rl.spec import DataError

Tree = TypeVar("Tree")


def named_arrays(tree: Any) -> dict[str, NDArray[Any]]:
    """All leaves by their path, as field/.../name; random keys as their data."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {_name(path): np.asarray(jax.device_get(_as_data(leaf))) for path, leaf in leaves}


def with_named_arrays(tree: Tree, arrays: Mapping[str, NDArray[Any]]) -> Tree:
    """A tree of the same structure with leaves from `named_arrays`; raises DataError if they differ in kind."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    names = [_name(path) for path, _ in leaves]
    check_names(arrays, names)
    restored = [_restored(name, arrays[name], leaf) for name, (_, leaf) in zip(names, leaves, strict=True)]
    return cast(Tree, jax.tree_util.tree_unflatten(structure, restored))


class NamedState:
    """Gives an agent its `arrays` and `with_arrays`."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The whole state as named arrays."""
        return named_arrays(self)

    def with_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The agent with the state of `arrays`, as of another agent of the same specification and configuration.

        What acts on average, which older checkpoints lack, begins as it was trained last.

        Raises DataError if names, shapes or dtypes differ.
        """
        return with_named_arrays(self, with_later_parts(arrays, self.arrays()))


def _name(path: Sequence[Any]) -> str:
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/")


def _is_key(leaf: jax.Array) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def _as_data(leaf: jax.Array) -> jax.Array:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _restored(name: str, array: NDArray[Any], leaf: jax.Array) -> jax.Array:
    data = _as_data(leaf)
    if array.shape != data.shape or array.dtype != data.dtype:
        raise DataError(name, f"{data.dtype} {data.shape}", f"{array.dtype} {array.shape}")
    # A copy: the update donates its buffers, which must not be memory that numpy or a file owns.
    value = jnp.array(array, copy=True)
    value = jax.random.wrap_key_data(value, impl=jax.random.key_impl(leaf)) if _is_key(leaf) else value
    return value if mesh_of(leaf) is None else jax.device_put(value, leaf.sharding)
