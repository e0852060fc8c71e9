# SPDX-License-Identifier: Apache-2.0
"""What every policy is to whoever acts by it, wherever it came from and whatever computes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from serl_rl.spec import TransitionSpec


class ActingPolicy(Protocol):
    """Acts on one observation at a time. `NumpyPolicy` is one; imported policies are made to be one."""

    @property
    def action_dim(self) -> int:
        """Number of action components A."""

    @property
    def planned(self) -> int:
        """Actions that it will execute before it looks again; `reset` makes it look at once."""

    def check(self, spec: TransitionSpec) -> None:
        """Raise DataError unless the policy is for observations and actions of `spec`."""

    def reset(self) -> None:
        """Begin an episode, or go on after somebody else has moved the arm: forget what was planned."""

    def act(
        self, observation: Mapping[str, NDArray[Any]], *, deterministic: bool, rng: np.random.Generator | None = None
    ) -> NDArray[np.float32]:
        """Action (A,) in [-1, 1] for one observation: the best one, or one that explores, drawn with `rng`."""


class ForeignPolicy(Protocol):
    """A policy as its own stack has it: inputs and outputs have the names, orders and units that it was trained with.

    `serl_rl.imported.mapping` makes an `ActingPolicy` of it, for the observations and actions of a task.

    Attributes:
        inputs: shape of each input by its name: (k,) of a vector, float32 in the policy's own units before any
            normalization of its own; (H, W, 3) of a picture, uint8 RGB.
        outputs: number of values of an action, in the policy's own units.
    """

    inputs: Mapping[str, tuple[int, ...]]
    outputs: int

    @property
    def planned(self) -> int:
        """Actions that it will give before it looks again."""

    def reset(self) -> None:
        """Forget what was planned."""

    def act(self, inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """The best action (outputs,) in the policy's own units, for one observation."""
