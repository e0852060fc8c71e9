# SPDX-License-Identifier: Apache-2.0
"""What is human about the scripted person: they are late and imprecise, help less as it gets better, and tire."""

import math
from dataclasses import dataclass, fields

RECENT = 20
"""Training episodes that a person remembers."""


@dataclass(frozen=True)
class Traits:
    """Settings of a person. As they are by default the person is prompt, exact, tireless and always ready to help."""

    reaction_delay: float = 0.0
    """From what is seen until the hand takes over, or gives back [s]; rounded to whole control steps.

    It is of decisions alone. Who leads already foresees where their own motion leads (Miall et al. 1993, J. Mot. Behav.
    25, 203-216). An expert that foresees nothing is no model of that: with actions that are one control step late it
    swings about the goal.
    """
    imprecision: float = 0.0
    """Standard deviation of what the hand adds to normalized motions, fractions of a full action."""
    imprecision_time: float = 0.5
    """Time in which that is forgotten [s]: its correlation falls to 1/e; 0: at once."""
    most_help: float = 1.0
    """Probability to watch a training episode, and take over where it drifts, while the policy never succeeds alone."""
    least_help: float = 1.0
    """Probability to watch when it always succeeds alone; in between it falls in proportion."""
    longest_help: float = 0.0
    """Longest time to lead at a stretch in training [s], then the hand lets go; 0: no bound beyond the drift's own."""
    rest: float = 0.0
    """Time after `longest_help` before the hand takes over again [s]; at least one control step."""
    endurance: float = 0.0
    """Time of leading, over the session, that tires by 63 % [s]; 0: never tired."""

    def __post_init__(self) -> None:
        """Refuse what nobody is.

        Raises:
            ValueError: names the field, what was expected and what was found.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f"{field.name}: expected a number from 0, found {value}")
        if not self.least_help <= self.most_help <= 1.0:
            raise ValueError(
                f"least_help, most_help: expected least_help <= most_help <= 1, found {self.least_help} and "
                f"{self.most_help}"
            )
        if self.rest and not self.longest_help:
            raise ValueError(
                f"rest: nobody rests who never has to let go; expected longest_help above 0 with {self.rest}"
            )

    @property
    def eases_off(self) -> bool:
        """Whether the person helps less as the policy gets better, so has to see how it gets on."""
        return self.least_help < self.most_help

    def tiredness(self, led: float) -> float:
        """How tired a person is, in [0, 1): 1 - exp(-led / endurance).

        Args:
            led: for how long they have led in this session [s].
        """
        return -math.expm1(-led / self.endurance) if self.endurance else 0.0

    def help_probability(self, alone: float, tiredness: float) -> float:
        """Probability to watch a training episode, in [0, 1]; falls with both.

        Args:
            alone: share of the recent episodes that succeeded without help, in [0, 1].
            tiredness: in [0, 1]; who is entirely tired does not help.
        """
        return (1.0 - tiredness) * (self.most_help - (self.most_help - self.least_help) * alone)

    def delay_steps(self, period: float, tiredness: float) -> int:
        """The reaction delay in control steps of `period` [s]; twice as long for who is entirely tired."""
        return round((1.0 + tiredness) * self.reaction_delay / period)

    def deviation(self, tiredness: float) -> float:
        """Standard deviation of the imprecision; twice as large for who is entirely tired."""
        return (1.0 + tiredness) * self.imprecision
