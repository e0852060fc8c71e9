# SPDX-License-Identifier: Apache-2.0
"""Who of policy and person gives the next command, by what each of them has said and when."""

from collections.abc import Sequence
from dataclasses import dataclass

from serl_robots.control.arbitration import ActionInput, Person, Policy
from serl_robots.control.arm_task import ArmTask
from serl_robots.control.control_step import Measured
from serl_robots.control.pacing.pacing import Pacing
from serl_robots.safety.silence import patience
from serl_robots.safety.source import Source


@dataclass(frozen=True, slots=True)
class Turn:
    """Whose action is commanded, and as which control step it is told."""

    source: Source
    action: Sequence[float] | None
    """None: the one that changes nothing."""
    episode: int = 0
    step: int = 0


class Leaders:
    """Book of policy, person and episodes.

    Attributes:
        policy: what the policy has said.
        person: what the person's device has said.
        episode: newest one, None before the first.
        expects_person: whether the person of this episode answers its steps.
        has_announcer: whether somebody is there who announces episodes, so that the first one is announced, too.
        is_announced: whether any episode was.
    """

    def __init__(self, task: ArmTask, pacing: Pacing, human_timeout: float) -> None:
        """Begin without anybody; `human_timeout` [s] is the longest wait for what is announced or expected."""
        self._stale_timeout, self._period = task.limits.stale_timeout, task.control_period
        self._pacing, self._human_timeout = pacing, human_timeout
        self.policy, self.person = Policy(), Person(task.limits.stale_timeout)
        self.episode: int | None = None
        self.expects_person = self.has_announcer = False
        self._episode_runs = False
        self._begun: int | None = None  # episode whose first step was taken
        self._announced: int | None = None

    @property
    def is_announced(self) -> bool:
        """Whether any episode was announced."""
        return self._announced is not None

    def missing(self, now: float) -> str:
        """Sentence which says that a person is missing at the local time `now` [s]; empty when nobody is."""
        if self._is_person_gone(now):
            return "who led has fallen silent; the arm is held until somebody takes it and lets go, or teleop/release"
        if not (self.expects_person and self.person.lost):
            return ""
        return f"no answer of the person within {self._human_timeout:g} s; going on without until they are heard"

    def announce(self, episode: int, *, running: bool, human_expected: bool) -> bool:
        """`EpisodeStatus` came: whether an episode begins that no step has begun yet."""
        self._episode_runs = running
        self.expects_person = running and human_expected
        if not running:
            return False
        self.episode = episode
        late = episode == self._begun and episode != self._announced
        self._announced = episode
        if late:  # its first steps were quicker than this
            return False
        self._begun = None
        self.policy.begin(episode)
        return True

    def is_early(self, message: ActionInput) -> bool:
        """Whether the EpisodeStatus of a step has not come yet; nobody has to wait for such a policy."""
        return message.episode != self.episode and (self.has_announcer or self.episode is not None)

    # Who is next

    def turn_of_step(self, message: ActionInput, now: float) -> Turn | None:
        """Who acts in a step of the policy that is due at the local time `now` [s]; None: it has to wait."""
        pacing, person = self._pacing, self.person
        overdue = now - self.policy.pending_since >= self._human_timeout
        if self.is_early(message):
            if not overdue:
                return None
            self.episode, self.expects_person = message.episode, False
        led = pacing.answer(person, message)
        if self.expects_person and self.leading(now) is None and pacing.waits_for(person, led):
            if not overdue:
                return None
            person.lost = True
        if led is None or not led.active:
            led = self.leading(now)
        if led is None and self._is_person_gone(now):
            return Turn(Source.HUMAN, None, message.episode, message.step)
        if led is None:
            return Turn(Source.POLICY, message.action, message.episode, message.step)
        return Turn(Source.HUMAN, led.action, message.episode, message.step)

    def begins(self, message: ActionInput) -> bool:
        """Whether a step is the first one of its episode; asked once."""
        first, self._begun = message.episode != self._begun, message.episode
        return first

    def turn_of_person(self, measured: Measured, now: float) -> Turn | None:
        """The person's own turn, while no policy asks for steps; whether a command is due is another question."""
        if self._awaits_its_turn:
            return None  # the step is the person's as soon as it is due
        led = self.leading(now)
        if led is None or led.synchronous:  # who answers steps has none to answer
            return None
        if self._is_policy_alive(measured) or not self._pacing.may_person_drive(now):
            return None
        return Turn(Source.HUMAN, led.action)

    def leading(self, now: float) -> ActionInput | None:
        """What the person wants, while they lead: who answers the policy's steps does so only as long as it speaks."""
        person = self._pacing.leading(self.person, now)
        return None if person is not None and person.synchronous and self._is_policy_silent(now) else person

    def _is_person_gone(self, now: float) -> bool:
        """Whether the policy may not go on although nobody leads: a device or page that died has agreed to nothing.

        Where time stands still without commands, nobody leads who could fall silent.
        """
        return self._pacing.time_runs and self.person.is_gone(now)

    @property
    def _awaits_its_turn(self) -> bool:
        """Whether a step of the policy is there that nobody may come before."""
        pending = self.policy.pending
        return pending is not None and self._pacing.comes_first(early=self.is_early(pending))

    # Who has fallen silent

    def is_silent(self, mode: Source, measured: Measured, now: float) -> bool:
        """Whether the policy or the person that led last, as `mode` says, no longer does."""
        if mode == Source.POLICY:
            return self._is_policy_silent(now)
        return self.leading(now) is None and not self._awaits_its_turn and not self._is_policy_alive(measured)

    def _is_policy_silent(self, now: float) -> bool:
        """Whether, by local time, the policy has been silent for too long."""
        return self.policy.is_silent(now, patience(self._stale_timeout, self._pacing.pace.local(self._period)))

    def _is_policy_alive(self, measured: Measured) -> bool:
        return self._pacing.is_policy_alive(self.policy, measured, episode_runs=self._episode_runs)
