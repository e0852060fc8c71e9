# SPDX-License-Identifier: Apache-2.0
"""Grasps: close, stay or open for each gripper, and where grippers are in actions and observations. Imports no JAX."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from serl_rl.config import Gripper
from serl_rl.spec import DataError, TransitionSpec

CLOSE, STAY, OPEN = -1.0, 0.0, 1.0

SAME = 0.1
"""Difference up to which two commands of a gripper are the same, of a range of 2."""


def grasp_table(grippers: int) -> NDArray[np.float32]:
    """All grasps (M, G) of G grippers: CLOSE, STAY or OPEN for each."""
    return np.array(list(product((CLOSE, STAY, OPEN), repeat=grippers)), np.float32)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class GripperPlace:
    """Where a gripper is in the actions and observations of one specification."""

    action: Annotated[int, Field(ge=-1000, lt=1000)]
    """Place of its component in the action; negative ones count from the end."""
    entry: str
    """Flat entry of the observation which has the command that holds, in the units of the action."""
    index: Annotated[int, Field(ge=0)]
    """Place of that command in the entry."""


def locate_grippers(spec: TransitionSpec, grippers: Sequence[Gripper]) -> tuple[GripperPlace, ...]:
    """Find grippers in the actions and observations of a specification.

    Raises:
        DataError: a gripper is not in the action, the values of its entry have no such name, or
            `check_grippers` finds something else.
    """
    places = tuple(GripperPlace(gripper.action, gripper.entry, _index(spec, gripper)) for gripper in grippers)
    check_grippers(spec, places)
    return places


def _index(spec: TransitionSpec, gripper: Gripper) -> int:
    """Place of the command that holds: the one that is given, or that of the value with the name."""
    if gripper.index is not None:
        return gripper.index
    names = [value.get("name") for value in spec.meaning.get(gripper.entry, ())]
    if names.count(gripper.term) != 1:
        expected = " or ".join(map(str, names)) if names else "an index instead, since nothing names the values"
        raise DataError(f"gripper term, in {gripper.entry}", expected, repr(gripper.term))
    return names.index(gripper.term)


def arm_components(action_dim: int, grippers: Sequence[GripperPlace]) -> list[int]:
    """Places in the action that belong to no gripper."""
    taken = {gripper.action % action_dim for gripper in grippers}
    return [index for index in range(action_dim) if index not in taken]


def check_grippers(spec: TransitionSpec, grippers: Sequence[GripperPlace]) -> None:
    """Raise DataError unless actions have the grippers and something else, and observations their commands."""
    actions = spec.action_dim
    for gripper in grippers:
        if not -actions <= gripper.action < actions:
            raise DataError("gripper action", f"a place among the {actions} components", str(gripper.action))
        entry = spec.observation.get(gripper.entry)
        if entry is None or entry.kind != "vector":
            raise DataError("gripper entry", " or ".join(spec.vector_names) or "a vector", repr(gripper.entry))
        if gripper.index >= entry.elements:
            raise DataError("gripper index", f"0 to {entry.elements - 1}, in {gripper.entry}", str(gripper.index))
    if len({gripper.action % actions for gripper in grippers}) < len(grippers):
        raise DataError("grippers", "an action component of its own for each", "one that two share")
    if not arm_components(actions, grippers):
        raise DataError("action_dim", "a component that is no gripper", str(actions))
