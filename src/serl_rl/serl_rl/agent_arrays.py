# SPDX-License-Identifier: Apache-2.0
"""The state of an agent as named arrays, whatever its backend: which names there are, and which came later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from numpy.typing import NDArray

from serl_rl.spec import DataError

_LATER = {"acting_average/actor": "actor", "acting_average/vision": "critic/vision"}
"""Parts of the state that older checkpoints lack, and what they begin as."""


def check_names(arrays: Iterable[str], names: Iterable[str]) -> None:
    """Raise DataError unless the arrays have these names and no others."""
    known, found = set(names), set(arrays)
    if known != found:
        surplus, missing = sorted(found - known), sorted(known - found)
        raise DataError("arrays", f"{len(known)} known names", f"unknown {surplus[:3]}, missing {missing[:3]}")


def with_later_parts(arrays: Mapping[str, NDArray[Any]], names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """The arrays, and for those of `names` that came later what they begin as."""
    completed = dict(arrays)
    for name in names:
        for later, earlier in _LATER.items():
            source = name.replace(later, earlier, 1)
            if name not in arrays and source != name and source in arrays:
                completed[name] = arrays[source]
    return completed
