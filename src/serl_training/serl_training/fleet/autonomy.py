# SPDX-License-Identifier: Apache-2.0
"""How far a fleet gets without a person, over the training episodes of all its arms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from serl_tasks.messages import MessageError

from serl_training.actor.autonomy import Autonomy
from serl_training.actor.rollout import EpisodeSummary

_COUNTED: Final = ("episode_length", "episode_return", "success", "intervention_rate")


class FleetAutonomy:
    """Counts what actors tell of their training episodes, in the order in which it comes."""

    def __init__(self) -> None:
        """Begin without an episode."""
        self._counted = Autonomy()

    def hear(self, values: Mapping[str, float]) -> dict[str, float]:
        """The numbers `autonomy/...` of the fleet after a training episode of one arm; empty where it is none.

        Args:
            values: what an actor tells on `metrics`, by name.

        Raises:
            MessageError: one of those that count is not finite.
        """
        length, total, success, led = (values.get(f"train/{name}", 0.0) for name in _COUNTED)
        if not all(map(math.isfinite, (length, total, success, led))):
            raise MessageError(f"train/{', '.join(_COUNTED)}: expected finite numbers, found one that is not")
        if round(length) < 1:
            return {}
        self._counted.add(
            EpisodeSummary(
                episode=0,
                length=round(length),
                total_reward=total,
                success=success > 0.5,
                interventions=round(length * led),
            )
        )
        return self._counted.numbers()
