# SPDX-License-Identifier: Apache-2.0
"""Parameters of networks as layers within layers, and as arrays by their paths, which is how files have them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def nested(named: Mapping[str, Any]) -> dict[str, Any]:
    """Dictionaries within dictionaries, of values by their paths as layer/.../name."""
    tree: dict[str, Any] = {}
    for path, value in named.items():
        *layers, name = path.split("/")
        below = tree
        for layer in layers:
            below = below.setdefault(layer, {})
        below[name] = value
    return tree


def by_path(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Inverse of `nested`."""
    return dict(_by_path(tree))


def _by_path(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _by_path(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value
