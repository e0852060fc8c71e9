# SPDX-License-Identifier: Apache-2.0
"""A person made of code: demonstrates, watches the policy, takes over when it drifts and gives back."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from serl_robots.control.action import BlockKind
from serl_robots.model.pose import Pose
from serl_tasks.drift import DriftMonitor

from serl_tasks import ArmSample, Task
from serl_teleop.scripted.traits import RECENT, Traits
from serl_teleop.scripted.unsteady_hand import UnsteadyHand

_OF_THE_TRAITS = 1  # beside seed and episode: what they draw leaves expert and drift as they are


@dataclass
class _Remembered:
    """A training episode, as the person saw it."""

    episode: int
    led: bool = False
    success: bool = False


class ScriptedHuman:
    """Decides for each control step whether the person leads, and with which action.

    With the traits that are the default an episode depends on seed and number alone. Otherwise also on what the person
    has seen and done before, in the session that begins with this object.
    """

    def __init__(
        self,
        task: Task,
        seed: int,
        *,
        demonstration_noise: float | None = None,
        interventions: bool = True,
        traits: Traits | None = None,
    ) -> None:
        """Make a person.

        Args:
            task: with a scripted expert.
            seed: of the person's own randomness.
            demonstration_noise: standard deviation added to the normalized actions of demonstrations, so that they
                show recoveries too; None: as the task says.
            interventions: whether the person takes over during training.
            traits: what is human about them; None: nothing.
        """
        self._task, self._seed = task, seed
        self._noise = task.demonstration_noise if demonstration_noise is None else demonstration_noise
        self._interventions = interventions
        self.traits = traits if traits is not None else Traits()
        motions = [block.indices for block in task.action.blocks if block.kind is not BlockKind.GRIPPER]
        self._motions = [index for indices in motions for index in indices]  # a gripper is a button: closed or open
        self._led_steps = 0  # in this session
        self._seen: deque[_Remembered] = deque(maxlen=RECENT + 1)  # training episodes, the running one last
        self.begin(0, 0, demonstrating=True)

    def begin(self, episode: int, start_seed: int, *, demonstrating: bool) -> None:
        """Start an episode; the same seed and episode give the same person.

        Args:
            episode: its number.
            start_seed: the seed of its start state, and so of what the person knows of that.
            demonstrating: whether the person leads all the time.

        Raises:
            ValueError: `start_seed` is negative.
        """
        self._errors = self._task.errors.draw(start_seed)
        self._at_start = True
        rng = np.random.default_rng([self._seed, episode])
        self._demonstrating = demonstrating
        self._expert = self._task.make_expert(rng, noise=self._noise if demonstrating else 0.0)
        self._drift = DriftMonitor(rng)

        period, tiredness = self._task.control_period, self.tiredness
        self._rng = np.random.default_rng([self._seed, episode, _OF_THE_TRAITS])
        self._late = deque([False] * self.traits.delay_steps(period, tiredness))
        deviation = self.traits.deviation(tiredness)
        self._hand = UnsteadyHand(self._rng, len(self._motions), deviation, period, self.traits.imprecision_time)
        self._longest, self._pause = (
            max(1, round(time / period)) if self.traits.longest_help else 0
            for time in (self.traits.longest_help, self.traits.rest)
        )
        self._turn = self._rest = 0
        self._watches: bool | None = None
        if not demonstrating and not (self._seen and self._seen[-1].episode == episode):
            self._seen.append(_Remembered(episode))

    @property
    def tiredness(self) -> float:
        """How tired the person is by now, in [0, 1)."""
        return self.traits.tiredness(self._led_steps * self._task.control_period)

    @property
    def alone(self) -> float:
        """Share of the last training episodes that succeeded without the person, of `RECENT`; what is not seen did not.

        The running episode is not counted.
        """
        return sum(each.success and not each.led for each in list(self._seen)[:-1]) / RECENT

    def succeeded(self, episode: int) -> None:
        """See that a training episode, one of the last, has succeeded."""
        for each in self._seen:
            if each.episode == episode:
                each.success = True

    def act(self, arm: ArmSample, objects: Mapping[str, Pose]) -> NDArray[np.float32] | None:
        """Return the person's action (n,) in [-1, 1], or None while the policy leads. Call it once for each step.

        The person sees from the true poses, which these are, how the policy gets on. They act on what the robot knows.
        """
        if self._at_start:
            self._at_start, arm = False, arm.at_start()
        self._late.append(self._wants_to_lead(objects))
        leads = self._holds_on(self._late.popleft())
        trembling = self._hand.step()
        if not leads:
            return None
        self._led_steps += 1
        if not self._demonstrating:
            self._seen[-1].led = True
        action = self._expert.act(self._errors.arm(arm), self._errors.objects(objects))
        if trembling.any():
            action = action.copy()
            action[self._motions] = np.clip(action[self._motions] + trembling, -1.0, 1.0)
        return action

    def _wants_to_lead(self, objects: Mapping[str, Pose]) -> bool:
        """Whether the person would lead if they could do so at once."""
        if self._demonstrating:
            return True
        return self._interventions and self._drift.leads(self._task.distance_to_goal(objects)) and self._is_watching()

    def _is_watching(self) -> bool:
        """Whether the person helps in this training episode at all; decided when there is first reason to."""
        if self._watches is None:
            probability = self.traits.help_probability(self.alone, self.tiredness)
            self._watches = bool(self._rng.random() < probability)
        return self._watches

    def _holds_on(self, leads: bool) -> bool:
        """Whether a hand that lets go after a while, and rests then, leads on."""
        if self._demonstrating or not self._longest:
            return leads
        if self._rest:
            self._rest -= 1
            return False
        self._turn = self._turn + 1 if leads else 0
        if self._turn == self._longest:
            self._turn, self._rest = 0, self._pause
        return leads
