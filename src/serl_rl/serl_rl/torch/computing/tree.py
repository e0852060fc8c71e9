# SPDX-License-Identifier: Apache-2.0
"""Trees of tensors: dictionaries of them, and states of agents, which are dataclasses with them in some fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Self, TypeVar

import torch

Tree = TypeVar("Tree")


def static(**arguments: Any) -> Any:
    """A field of a `Node` that holds no tensors, and says how they are computed with."""
    return field(metadata={"static": True}, **arguments)


@dataclass(frozen=True)
class Node:
    """A state whose fields are trees, but for those that are `static`; these are hashable."""

    def replace(self, **changes: Any) -> Self:
        """A copy with other values in some fields."""
        return replace(self, **changes)

    @cached_property
    def flat(self) -> Flat:
        """Its tensors, and what they are like; found once, because no field is ever another one."""
        return Flat(leaves(self), structure(self))


@dataclass(frozen=True, eq=False)
class Flat:
    """The tensors of a node."""

    leaves: list[torch.Tensor]
    """All of them, in the order of their names."""
    structure: Any
    """What nodes have in common whose tensors differ only in their values; hashable."""
    programs: dict[Any, Any] = field(default_factory=dict)
    """What computes with them, where someone has found it."""


def children(tree: Any) -> list[tuple[str, Any]]:
    """What a dictionary or a node holds, by name; those of a dictionary in the order of their names."""
    if isinstance(tree, dict):
        return sorted(tree.items())
    return [(each.name, getattr(tree, each.name)) for each in fields(tree) if not each.metadata.get("static")]


def named_leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """All tensors, by their paths as field/.../name."""
    if isinstance(tree, torch.Tensor):
        yield prefix, tree
        return
    for name, child in children(tree):
        yield from named_leaves(child, f"{prefix}/{name}" if prefix else name)


def leaves(tree: Any) -> list[torch.Tensor]:
    """All tensors, in the order of `named_leaves`."""
    found: list[torch.Tensor] = []
    _gather(tree, found)
    return found


def _gather(tree: Any, found: list[torch.Tensor]) -> None:
    # Each step of an agent does this a dozen times: no names, and no generators within each other.
    if isinstance(tree, torch.Tensor):
        found.append(tree)
    elif isinstance(tree, dict):
        for name in sorted(tree):
            _gather(tree[name], found)
    else:
        for _, child in children(tree):
            _gather(child, found)


def with_leaves(tree: Tree, values: list[torch.Tensor]) -> Tree:
    """A tree of the same structure with other leaves, in the order of `leaves`."""
    return _filled(tree, iter(values))


def _filled(tree: Any, remaining: Iterator[torch.Tensor]) -> Any:
    if isinstance(tree, dict):
        return {name: _filled(tree[name], remaining) for name in sorted(tree)}
    if isinstance(tree, Node):
        return tree.replace(**{name: _filled(child, remaining) for name, child in children(tree)})
    return next(remaining)


def map_tree(function: Callable[..., Any], tree: Tree, *others: Any) -> Tree:
    """A tree of the same structure, made of what a function says of the leaves at the same place of all trees."""
    if not isinstance(tree, (dict, Node)):
        return function(tree, *others)
    below = [dict(children(other)) for other in others]
    changed = {name: map_tree(function, child, *(other[name] for other in below)) for name, child in children(tree)}
    if isinstance(tree, dict):
        return changed  # type: ignore[return-value]
    return tree.replace(**changed)


def structure(tree: Any) -> Any:
    """What two trees have in common that differ only in the values of their leaves; hashable.

    Raises TypeError for what is no tree.
    """
    if isinstance(tree, torch.Tensor):
        return (tuple(tree.shape), tree.dtype, tree.device)
    if not isinstance(tree, (dict, Node)):
        raise TypeError(f"tree: expected tensors, dictionaries and nodes, found {type(tree).__name__}")
    kind = type(tree)
    fixed: tuple[Any, ...] = ()
    if isinstance(tree, Node):
        fixed = tuple(getattr(tree, each.name) for each in fields(tree) if each.metadata.get("static"))
    return (kind, fixed, tuple((name, structure(child)) for name, child in children(tree)))
