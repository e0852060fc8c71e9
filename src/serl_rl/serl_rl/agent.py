# SPDX-License-Identifier: Apache-2.0
"""What everybody needs of an agent, whatever its algorithm and its backend: to train, to keep and to publish it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Self, SupportsInt

from numpy.typing import NDArray

from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.spec import TransitionSpec


class Checkpointable(Protocol):
    """What a checkpoint keeps: a state of named arrays and the policy in it."""

    @property
    def spec(self) -> TransitionSpec:
        """The specification of the transitions that it learns from."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The whole state as named arrays, but for what never changes (frozen encoders)."""

    def with_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The agent with that state. Raises DataError if names, shapes or dtypes are not those of `arrays()`."""

    def policy_snapshot(self) -> PolicySnapshot:
        """A copy of what acting needs."""


class Agent(Checkpointable, Protocol):
    """Parameters and optimizer states of one algorithm, immutable. `serl_rl.backends.create_agent` makes one."""

    @property
    def updates(self) -> SupportsInt:
        """Number of critic updates done so far, or of policy updates where there is no critic."""

    def update(self, batch: dict[str, Any]) -> tuple[Self, dict[str, Any]]:
        """Train on minibatches, one after the other.

        Args:
            batch: leaves (n_steps, utd_ratio, B, ...): minibatches of B transitions, `utd_ratio` of them for each of
                `n_steps` environment steps, as `SymmetricSampler.sample` draws them.

        Returns:
            The new agent, and scalars by name, averaged over the call. The buffers of the old agent are reused: it is
            gone.
        """
