# SPDX-License-Identifier: Apache-2.0
"""A policy of its own for each arm, learned side by side from the same minibatches. See `serl_rl.jax.per_arm`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Protocol

import numpy as np
import torch

from serl_rl.config import TorchConfig, VisionConfig
from serl_rl.policy.arms import arm_components
from serl_rl.policy.snapshot import PolicySnapshot, joined_snapshot
from serl_rl.spec import TransitionSpec
from serl_rl.torch.agent_state import NamedState
from serl_rl.torch.computing import random
from serl_rl.torch.computing.tree import static
from serl_rl.torch.update import Batch, Info, Step, SteppingAgent, Update


class ArmAgent(SteppingAgent, Protocol):
    """An agent of `serl_rl.torch` that chooses the action of one arm."""

    @property
    def steps(self) -> Update[Any]:
        """What its update is made of."""

    @property
    def updates(self) -> torch.Tensor:
        """Updates done so far, int32 ()."""

    def policy_snapshot(self) -> PolicySnapshot:
        """A copy of what acting needs."""


@dataclass(frozen=True)
class PerArmAgent(NamedState):
    """An agent for each arm, by the arm's name. See `Agent`."""

    key: torch.Tensor
    """Random key (2,), of what both are shown alike."""
    arms: dict[str, Any]
    """Their agents, an `ArmAgent` each."""
    spec: TransitionSpec = static()
    """The specification of the transitions, with the action of all arms."""
    components: tuple[tuple[str, tuple[int, ...]], ...] = static()
    """Arms, and places of what is theirs in the action."""

    @classmethod
    def create(cls, seed: int, spec: TransitionSpec, create: Callable[[int, TransitionSpec], ArmAgent]) -> PerArmAgent:
        """New agents for the arms that the actions of `spec` name.

        Args:
            seed: of all that they draw, each something else.
            spec: of the transitions.
            create: makes the agent of one arm, from a seed and the specification with the action of this arm alone.

        Raises:
            DataError: the actions are not of several arms, or as `create`.
        """
        components = arm_components(spec)
        agents = {
            arm: create(
                int(np.random.SeedSequence([seed, index]).generate_state(1)[0]), replace(spec, action_dim=len(places))
            )
            for index, (arm, places) in enumerate(components.items())
        }
        device = next(iter(agents.values())).key.device
        return cls(random.from_seed(seed, device), agents, spec, tuple(components.items()))

    @property
    def updates(self) -> torch.Tensor:
        """Updates of each of them done so far, int32 ()."""
        return self._any.updates

    @property
    def vision(self) -> VisionConfig:
        """How they look at frames."""
        return self._any.vision

    @property
    def computing(self) -> TorchConfig:
        """How their steps are computed."""
        return self._any.computing

    @property
    def steps(self) -> Update[PerArmAgent]:
        """What their update is made of."""
        return _side_by_side(self._any.steps)

    def update(self, batch: Batch) -> tuple[PerArmAgent, Info]:
        """Update all of them on the same minibatches, each with its part of the actions; as `Agent.update`.

        What they report is named after them, as in `left/critic_loss`; its means have the names that one policy has.
        """
        return self.steps(self, batch)

    def policy_snapshot(self) -> PolicySnapshot:
        """Copy of what acting needs, of all arms."""
        parts = {arm: (places, self.arms[arm].policy_snapshot()) for arm, places in self.components}
        return joined_snapshot(parts)

    @property
    def _any(self) -> ArmAgent:
        return self.arms[self.components[0][0]]


@cache
def _side_by_side(of_arm: Update[Any]) -> Update[PerArmAgent]:
    """The update that takes the steps of one arm's for each of them."""
    last = _of_all(of_arm.last_step) if of_arm.last_step else None
    return Update(_of_all(of_arm.step), last, of_arm.entries)


def _of_all(step: Step[Any]) -> Step[PerArmAgent]:
    def stepped(agent: PerArmAgent, batch: Batch) -> tuple[PerArmAgent, Info]:
        agents, infos = {}, {}
        for arm, places in agent.components:
            own = batch | {"action": batch["action"][..., list(places)]}
            agents[arm], infos[arm] = step(agent.arms[arm], own)
        return agent.replace(arms=agents), _told(infos)

    return stepped


def _told(infos: dict[str, Info]) -> Info:
    """What each arm's agent reports under its name, and the means over all arms."""
    info = {f"{arm}/{name}": value for arm, told in infos.items() for name, value in told.items()}
    for name in next(iter(infos.values())):
        info[name] = torch.stack([told[name] for told in infos.values()]).mean()
    return info
