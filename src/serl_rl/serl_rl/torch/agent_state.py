# SPDX-License-Identifier: Apache-2.0
"""The state of an agent as named arrays: what checkpoints hold, the same as those of the JAX backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from serl_rl.agent_arrays import check_names, with_later_parts
from serl_rl.spec import DataError
from serl_rl.torch.computing.tree import Node, named_leaves, with_leaves

Tree = TypeVar("Tree")

KEY = "key"
"""Name of the fields that hold random keys, whose words are uint32 in arrays."""


def named_arrays(tree: Any) -> dict[str, NDArray[Any]]:
    """All leaves by their path, as field/.../name; random keys as two words."""
    return {name: _as_array(name, leaf) for name, leaf in named_leaves(tree)}


def with_named_arrays(tree: Tree, arrays: Mapping[str, NDArray[Any]]) -> Tree:
    """A tree of the same structure with leaves from `named_arrays`; raises DataError if they differ in kind."""
    leaves = dict(named_leaves(tree))
    check_names(arrays, leaves)
    return with_leaves(tree, [_restored(name, arrays[name], leaf) for name, leaf in leaves.items()])


class NamedState(Node):
    """Gives an agent its `arrays` and `with_arrays`."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The whole state as named arrays."""
        return named_arrays(self)

    def with_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The agent with the state of `arrays`, as of another agent of the same specification and configuration.

        The other agent may be of the JAX backend. What acts on average, which older checkpoints lack, begins as it was
        trained last.

        Raises DataError if names, shapes or dtypes differ.
        """
        names = [name for name, _ in named_leaves(self)]
        return with_named_arrays(self, with_later_parts(arrays, names))


def _is_key(name: str) -> bool:
    return name.rpartition("/")[2] == KEY


def _as_array(name: str, leaf: torch.Tensor) -> NDArray[Any]:
    array = leaf.detach().cpu().numpy()
    # A copy: the update writes into the tensors that it is given.
    return array.astype(np.uint32) if _is_key(name) else array.copy()


def _restored(name: str, array: NDArray[Any], leaf: torch.Tensor) -> torch.Tensor:
    like = _as_array(name, leaf)
    if array.shape != like.shape or array.dtype != like.dtype:
        raise DataError(name, f"{like.dtype} {like.shape}", f"{array.dtype} {array.shape}")
    return torch.tensor(array.astype(np.int64) if _is_key(name) else array, dtype=leaf.dtype, device=leaf.device)
