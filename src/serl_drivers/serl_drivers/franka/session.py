# SPDX-License-Identifier: Apache-2.0
"""A connection by `franky`, whose calls may take a second or for ever, for a caller who has a tenth of one.

A robot that is not in control is read from its socket, with a second's patience; a second client is kept waiting
without end; and a robot in control that falls silent goes on to be in control for a second, with the same state. So
threads do what may wait, and the newest that they have found is there for whoever asks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from serl_config.optional import optional_module
from serl_config.text import printable

from serl_drivers.franka.hand_intent import HandIntent

T = TypeVar("T")

_PERIOD: Final = 0.002  # [s] between two looks at the state
_HAND_PERIOD: Final = 0.02  # [s]
_END_PATIENCE: Final = 1.5  # [s] for threads
_HAND_PATIENCE: Final = 3.0  # [s] for one call; the longest way takes the hand less than one


class SessionError(Exception):
    """A robot that cannot be reached, or has stopped. The message is one line without the address."""


def load_franky() -> Any:
    """The module `franky`.

    Raises:
        SessionError: it is not installed.
    """
    return optional_module("franky", extra="franka", needed_by="libfranka's client", error=SessionError)


def failures(franky: Any) -> tuple[type[Exception], ...]:
    """What `franky` raises: its exceptions have no base of their own, and some are Python's."""
    own = [each for each in vars(franky).values() if isinstance(each, type) and issubclass(each, Exception)]
    return RuntimeError, ValueError, *own


def within(seconds: float, call: Callable[[], T], what: str) -> T:
    """What `call` returns, if it does so in time; else it goes on in a thread that nobody waits for.

    Raises:
        SessionError: too late, naming `what` was waited for. What `call` raises is raised here.
    """
    found: list[T] = []
    failed: list[Exception] = []

    def run() -> None:
        try:
            found.append(call())
        except Exception as error:  # noqa: BLE001  # it is raised by who waits
            failed.append(error)

    thread = threading.Thread(target=run, name=f"franky: {what}", daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not found:
        raise SessionError(f"no {what} within {seconds:g} s; does another program control it?")
    return found[0]


@dataclass(frozen=True)
class Observed:
    """What a watcher has found."""

    state: Any = None
    """The robot's newest `RobotState`."""
    changed: float = 0.0
    """Monotonic time at which its own time has moved on last [s]."""
    problem: str | None = None
    """Why there is no newer one."""


class RobotWatcher:
    """Looks at the state of a robot, from its making until `close`."""

    def __init__(self, robot: Any, failures: tuple[type[Exception], ...]) -> None:
        """Begin to look at a `franky.Robot`, which raises `failures`."""
        self._robot, self._failures = robot, failures
        self._observed = Observed()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="franky: state", daemon=True)
        self._thread.start()

    @property
    def observed(self) -> Observed:
        """What was found last."""
        return self._observed

    def close(self) -> None:
        """Look no longer."""
        self._end.set()
        self._thread.join(_END_PATIENCE)

    def _run(self) -> None:
        stamp = -1
        while not self._end.wait(_PERIOD):
            try:
                state = self._robot.state
            except self._failures as error:
                self._observed = Observed(self._observed.state, self._observed.changed, said(error))
                return
            now = state.time.to_msec()
            changed = time.monotonic() if now != stamp else self._observed.changed
            stamp = now
            self._observed = Observed(state, changed)


class HandThread:
    """Brings a Franka hand to the newest width that was asked for, and holds what is between the fingers.

    A hand cannot be told another width while it moves, so for a newer one the motion is stopped, or waited for; it is
    told one for each change of what is wanted (`HandIntent`). It closes by grasping: with a force, and wherever it
    meets something.
    """

    def __init__(
        self, hand: Any, failures: tuple[type[Exception], ...], speed: float, force: float, *, stops: bool
    ) -> None:
        """Begin with a `franky.Gripper`.

        Args:
            hand: connected.
            failures: that it raises.
            speed: of the opening [m/s].
            force: with which it grasps [N].
            stops: whether a motion is stopped for a newer width.
        """
        self._hand, self._failures, self._speed, self._force = hand, failures, speed, force
        self._stops = stops
        self._width: float = hand.state.width
        self._holds = False
        self._intent = HandIntent(self._width, float(hand.state.max_width), time.monotonic())
        self._wanted: float | None = None
        self._problem: str | None = None
        self._answered = time.monotonic()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="franky: hand", daemon=True)
        self._thread.start()

    @property
    def width(self) -> float:
        """Opening that was measured last [m]."""
        return self._width

    @property
    def holds(self) -> bool:
        """Whether it has grasped something."""
        return self._holds

    @property
    def problem(self) -> str | None:
        """Why it no longer follows; None while it does."""
        silent = time.monotonic() - self._answered
        if self._problem is None and silent > _HAND_PATIENCE:
            return f"hand: no answer for {silent:.0f} s; look at it, and at what else commands it"
        return self._problem

    def open_to(self, width: float) -> None:
        """Ask for an opening [m]."""
        self._wanted = width

    def close(self) -> None:
        """Ask for nothing any more."""
        self._end.set()
        self._thread.join(_END_PATIENCE)

    def _run(self) -> None:
        due: float | None = None  # width that it has to be told as soon as it can be
        moving: Any = None
        while not self._end.wait(_HAND_PERIOD):
            self._answered = time.monotonic()
            try:
                state = self._hand.state
                self._width, self._holds = state.width, bool(state.is_grasped)
                if moving is not None and moving.wait(0.0):
                    moving = None
                wanted = self._wanted
                if wanted is not None:
                    told = self._intent.told(wanted, time.monotonic())
                    due = due if told is None else told
                if due is None or (moving is not None and not self._stops):
                    continue
                if moving is not None:
                    self._hand.stop()
                if due < self._width:
                    moving = self._hand.grasp_async(due, self._speed, self._force, 1.0, 1.0)
                else:
                    moving = self._hand.move_async(due, self._speed)
                due = None
            except self._failures as error:
                self._problem = f"hand: {said(error)}"
                return


def said(error: Exception) -> str:
    """What an exception of franky says, in one line."""
    return printable(str(error).removeprefix("libfranka: ").strip() or type(error).__name__, 300)
