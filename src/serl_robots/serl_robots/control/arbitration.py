# SPDX-License-Identifier: Apache-2.0
"""Who leads the arm: e-stop, then a person, then `move_to`, then the policy, then nobody."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from serl_robots.control.action import ActionSpec

_LONGEST_SENDER = 200  # characters
_MOST_SENDERS = 32  # whose newest stamps are kept


@dataclass(frozen=True, slots=True)
class ActionInput:
    """One `ActionCommand`: a normalized action and the control step it is meant for."""

    episode: int
    step: int
    action: tuple[float, ...]
    stamp_ns: int = 0  # of the state it answers; 0: not said
    active: bool = True
    synchronous: bool = False
    sender: str = ""  # of a person's actions
    priority: int = 0  # among senders of these

    def problem(self, spec: ActionSpec) -> str | None:
        """Why it cannot be executed, or None."""
        if len(self.sender) > _LONGEST_SENDER:
            return f"sender: expected at most {_LONGEST_SENDER} characters, found {len(self.sender)}"
        return spec.problem(self.action) if self.active else None


class Sender(NamedTuple):
    """Who sends a person's actions: an empty name where nobody does, or they do not say."""

    name: str
    priority: int


NOBODY = Sender("", 0)


class Policy:
    """What the policy has said.

    Attributes:
        pending: a step that is not commanded yet.
        pending_since: local time [s] since when there is one.
    """

    def __init__(self) -> None:
        """Begin unheard."""
        self.pending: ActionInput | None = None
        self.pending_since = 0.0
        self._last: tuple[int, int] | None = None  # newest step
        self._heard_ns: int | None = None  # state time
        self._heard_at = -math.inf  # local time

    def is_old(self, message: ActionInput, episode: int | None) -> bool:
        """Whether a step is doubled, or from an episode that is over; `episode` is the newest one announced."""
        if self._last is not None and message.episode == self._last[0]:
            return message.step <= self._last[1]
        if episode is None and self._last is not None:
            episode = self._last[0]
        return episode is not None and message.episode < episode

    def take(self, message: ActionInput, now: float) -> bool:
        """Takes in a step that is not old, at the local time `now` [s]; whether it replaces one that was pending."""
        replaces = self.pending is not None
        if not replaces:
            self.pending_since = now
        self.pending, self._last = message, (message.episode, message.step)
        return replaces

    def hear(self, stamp_ns: int | None, now: float) -> None:
        """It is alive, at the state time `stamp_ns`, if there is one, and the local time `now` [s]."""
        self._heard_at = now
        if stamp_ns is not None:
            self._heard_ns = stamp_ns

    def begin(self, episode: int) -> None:
        """A new episode is announced: its steps begin anew."""
        self._last = None
        if self.pending is not None and self.pending.episode != episode:
            self.pending = None

    def forget_state_time(self) -> None:
        """State time has begun anew."""
        self._heard_ns = None

    def is_silent(self, now: float, patience: float) -> bool:
        """Whether it has not been heard for `patience` [s] of local time."""
        return now - self._heard_at > patience

    def was_heard(self, stamp_ns: int, within_ns: float) -> bool:
        """Whether it was heard within so much state time."""
        return self._heard_ns is not None and stamp_ns - self._heard_ns <= within_ns


class Person:
    """What a person's device has said: one device of all that send, until it lets go or falls silent."""

    def __init__(self, stale_timeout: float) -> None:
        """A device that is silent for longer than `stale_timeout` [s] no longer leads."""
        self._stale_timeout = stale_timeout
        self._newest: ActionInput | None = None
        self._heard_at = 0.0
        self._stamps_ns: dict[str, int] = {}  # newest one of each sender
        self._forgotten_ns = 0  # newest one of those that there was no room for
        self.has_led = False  # the arm was commanded what they want, and they have not let go since
        self.lost = False  # a synchronous person was waited for in vain, and not heard since

    @property
    def sender(self) -> Sender:
        """Who sent the newest action; nobody once they have let go."""
        newest = self._newest
        return NOBODY if newest is None or not newest.active else Sender(newest.sender, newest.priority)

    def admits(self, message: ActionInput, now: float) -> bool:
        """Whether a message may be heard: two who lead at the same time would pull the arm to and fro.

        While one sender leads it is the only one that is heard, but for the action of one with a higher priority. Who
        answers the steps of an episode leads in this one alone.
        """
        newest = self._newest
        if newest is None or not newest.active or now - self._heard_at > self._stale_timeout:
            return True
        if message.sender == newest.sender or (message.active and message.priority > newest.priority):
            return True
        return newest.synchronous and message.synchronous and message.episode > newest.episode

    def repeats(self, message: ActionInput) -> bool:
        """Whether an active message is nothing new: its stamp is not after that of its sender's before.

        A device that says the same again and again is dead, whoever sends it and whether it is followed or not. One
        that was started again, with another clock, is heard from its second message on. However many names there are,
        the stamp of who leads stays known, and who was forgotten is taken to have said what any of these said last.
        """
        before = self._stamps_ns.pop(message.sender, self._forgotten_ns)
        if len(self._stamps_ns) >= _MOST_SENDERS:
            leader = self.sender.name
            forgotten = next(name for name in self._stamps_ns if name != leader)
            self._forgotten_ns = max(self._forgotten_ns, self._stamps_ns.pop(forgotten))
        self._stamps_ns[message.sender] = message.stamp_ns
        return message.active and 0 < message.stamp_ns <= before

    def is_gone(self, now: float) -> bool:
        """Whether who led by themselves has fallen silent without having let go: what became of them is not known."""
        newest = self._newest
        if newest is None or not newest.active or newest.synchronous:
            return False
        return self.has_led and now - self._heard_at > self._stale_timeout

    def hear(self, message: ActionInput, now: float) -> None:
        """Takes a message in; `now` [s] is the local time of its arrival."""
        self._newest = message
        self._heard_at = now
        self.has_led &= message.active
        if message.synchronous:
            self.lost = False

    def forget(self) -> None:
        """Nobody leads until the next message."""
        self._heard_at = -math.inf

    @property
    def has_let_go(self) -> bool:
        """Whether the newest message says that the person does not lead."""
        return self._newest is not None and not self._newest.active

    def answer(self, episode: int, step: int) -> ActionInput | None:
        """What a synchronous person said to this step, if they did."""
        newest = self._newest
        if newest is not None and newest.synchronous and (newest.episode, newest.step) == (episode, step):
            return newest
        return None

    def leading(self, now: float, *, by_answers: bool) -> ActionInput | None:
        """The newest action, while the person leads.

        Without `by_answers` those of a synchronous person count for their own step only; see `answer`.
        """
        newest = self._newest
        if newest is None or not newest.active or now - self._heard_at > self._stale_timeout:
            return None
        return newest if by_answers or not newest.synchronous else None
