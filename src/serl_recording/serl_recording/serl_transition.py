# SPDX-License-Identifier: Apache-2.0
"""Transitions as SERL and HIL-SERL keep and send them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from serl_rl.pickles.arrays import PickledArray
from serl_rl.pickles.machine import kind_of
from serl_rl.spec import DataError


@dataclass(frozen=True)
class SerlTransition:
    """A transition of SERL.

    observation: name -> picture uint8 (H, W, C) or vector float32 (k,)
    following: the same of the next observation
    action: (A,) float32
    reward: of the step
    done: whether the episode ended
    mask: 0 where nothing follows that could be worth something; None where it is not said
    led: whether a person led
    succeeded: whether the episode succeeded, None where it is not said
    """

    observation: dict[str, NDArray[Any]]
    following: dict[str, NDArray[Any]]
    action: NDArray[np.float32]
    reward: float
    done: bool
    mask: float | None
    led: bool
    succeeded: bool | None


def leads_to(before: SerlTransition, after: SerlTransition) -> bool:
    """Whether an observation is what the transition before led to."""
    return all(np.array_equal(rows, after.observation[name]) for name, rows in before.following.items())


def read_transition(item: Any, where: str) -> SerlTransition:
    """A transition as SERL and HIL-SERL write it, of arrays or of what stands for them in a pickle that is not run.

    Args:
        item: a dictionary with `observations`, `actions`, `next_observations`, `rewards`, `dones` and others.
        where: it is, for the message.

    Raises:
        DataError: something is missing, or of another type.
    """
    if not isinstance(item, dict):
        raise DataError(where, "a dictionary", kind_of(item))
    infos = item.get("infos") if isinstance(item.get("infos"), dict) else {}
    assert isinstance(infos, dict)
    observation = _observation(item.get("observations"), f"{where}.observations")
    following = _observation(item.get("next_observations"), f"{where}.next_observations")
    shapes = {name: rows.shape for name, rows in observation.items()}
    if shapes != {name: rows.shape for name, rows in following.items()}:
        raise DataError(f"{where}.next_observations", f"shapes {shapes}", "others")
    action = _array(item.get("actions"), f"{where}.actions")
    if action.ndim != 1 or not len(action):
        raise DataError(f"{where}.actions", "a vector (A,)", f"shape {action.shape}")
    succeed = infos.get("succeed")
    return SerlTransition(
        observation,
        following,
        action.astype(np.float32),
        float(_number(item.get("rewards"), f"{where}.rewards")),
        bool(_number(item.get("dones"), f"{where}.dones")),
        None if "masks" not in item else float(_number(item["masks"], f"{where}.masks")),
        "intervene_action" in infos,
        None if succeed is None else bool(_number(succeed, f"{where}.infos.succeed")),
    )


def _observation(tree: Any, where: str) -> dict[str, NDArray[Any]]:
    """The newest of a stack of observations, by name: pictures uint8 (H, W, C), vectors float32 (k,).

    Scripts that learn from the state alone have a vector in place of arrays by name.
    """
    if isinstance(tree, np.ndarray | PickledArray):
        tree = {"state": tree}
    if not isinstance(tree, dict) or not tree:
        raise DataError(where, "arrays by name", kind_of(tree))
    entries: dict[str, NDArray[Any]] = {}
    for name, value in tree.items():
        rows = _array(value, f"{where}.{name}")
        picture = rows.dtype == np.uint8 and rows.ndim >= 3
        while rows.ndim > (3 if picture else 1):
            if not len(rows):
                raise DataError(f"{where}.{name}", "a value", f"shape {rows.shape}")
            rows = rows[-1]
        entries[name] = rows if picture else rows.astype(np.float32)
    return entries


def _array(value: Any, where: str) -> NDArray[Any]:
    if isinstance(value, PickledArray):
        value = value.values
    if not isinstance(value, np.ndarray):
        raise DataError(where, "an array", kind_of(value))
    return value


def _number(value: Any, where: str) -> float:
    if isinstance(value, PickledArray):
        value = value.values
    if isinstance(value, np.ndarray | np.generic) and value.size == 1 and value.dtype.kind in "biuf":
        return float(value.reshape(-1)[0])
    if isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 2**63):
        return float(value)
    raise DataError(where, "a number", kind_of(value))
