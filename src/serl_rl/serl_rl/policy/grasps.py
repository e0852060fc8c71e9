# SPDX-License-Identifier: Apache-2.0
"""Grasps: close, stay or open for each gripper, and where grippers are in actions and observations. Imports no JAX."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from serl_rl.config import Gripper
from serl_rl.spec import DataError, TransitionSpec

CLOSE, STAY, OPEN = -1.0, 0.0, 1.0


def grasp_table(grippers: int) -> NDArray[np.float32]:
    """All grasps (M, G) of G grippers: CLOSE, STAY or OPEN for each."""
    return np.array(list(product((CLOSE, STAY, OPEN), repeat=grippers)), np.float32)


def arm_components(action_dim: int, grippers: Sequence[Gripper]) -> list[int]:
    """Places in the action that belong to no gripper."""
    taken = {gripper.action % action_dim for gripper in grippers}
    return [index for index in range(action_dim) if index not in taken]


def check_grippers(spec: TransitionSpec, grippers: Sequence[Gripper]) -> None:
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
