# SPDX-License-Identifier: Apache-2.0
"""How far a fleet gets without a person, over the training episodes of all its arms."""

from __future__ import annotations

from collections.abc import Mapping

from serl_training.actor.autonomy import Autonomy
from serl_training.actor.rollout import EpisodeSummary


class FleetAutonomy:
    """Counts what actors tell of their training episodes, in the order in which it comes."""

    def __init__(self) -> None:
        """Begin without an episode."""
        self._counted = Autonomy()

    def hear(self, values: Mapping[str, float]) -> dict[str, float]:
        """The numbers `autonomy/...` of the fleet after a training episode of one arm; empty where it is none.

        Args:
            values: what an actor tells on `metrics`, by name.
        """
        length = round(values.get("train/episode_length", 0.0))
        if length < 1:
            return {}
        self._counted.add(
            EpisodeSummary(
                episode=0,
                length=length,
                total_reward=values.get("train/episode_return", 0.0),
                success=values.get("train/success", 0.0) > 0.5,
                interventions=round(length * values.get("train/intervention_rate", 0.0)),
            )
        )
        return self._counted.numbers()
