# SPDX-License-Identifier: Apache-2.0
"""Whether a camera's pictures can be trusted, told by their age."""

import enum
import threading
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_RATE_WINDOW = 2.0  # [s]
_SAMPLE = 16  # every so manieth row is compared first


class State(enum.Enum):
    """What a camera is doing."""

    OPENING = "opening"
    RUNNING = "running"
    SLOW = "slow"
    """Pictures come, but less often than they should."""
    FROZEN = "frozen"
    """One and the same picture comes again and again."""
    SILENT = "silent"
    """It is open, and no picture comes."""
    LOST = "lost"
    """It cannot be opened or read; it will be tried again."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When a camera is no longer trusted."""

    timeout: float
    """Longest time without a picture [s]."""
    frozen_after: float
    """Longest time with the same picture [s]; 0: for ever."""
    min_rate: float
    """Fewest pictures in a second [Hz]; 0: any."""


@dataclass(frozen=True)
class Report:
    """A camera at one moment."""

    state: State
    message: str
    """The state in words, with times."""
    rate: float
    """Pictures in a second [Hz]."""
    age: float | None
    """Age of the newest picture that differs from the one before [s]; None: there was none yet."""
    losses: int
    """How often the camera was lost."""


class Health:
    """What is known of one camera. Times are seconds of any one clock that never goes back; safe between threads."""

    def __init__(self, limits: Limits, now: float) -> None:
        """Begin with a camera that is about to be opened."""
        self._limits = limits
        self._lock = threading.Lock()
        self._arrivals: deque[float] = deque()
        self._last: NDArray[np.uint8] | None = None
        self._changed: float | None = None
        self._since = now
        self._loss: tuple[str, float] | None = None
        self._losses = 0

    def opened(self, now: float) -> None:
        """The camera was opened."""
        with self._lock:
            self._since = now
            self._loss = None
            self._arrivals.clear()

    def arrived(self, picture: NDArray[np.uint8], now: float) -> bool:
        """Take note of a picture, uint8 (H, W, 3), and return whether it may be shown. It must not change any more."""
        with self._lock:
            self._arrivals.append(now)
            self._forget(now)
            if self._last is None or self._changed is None or not _same(picture, self._last):
                self._changed = now
            self._last = picture
            return not self._is_frozen(now)

    def lost(self, reason: str, now: float, next_try: float) -> None:
        """The camera could not be opened or read; it is tried again at `next_try`."""
        with self._lock:
            self._losses += 1
            self._loss = (reason, next_try)
            self._since = now

    def report(self, now: float) -> Report:
        """State at this moment."""
        with self._lock:
            self._forget(now)
            limits, newest = self._limits, self._arrivals[-1] if self._arrivals else None
            age = None if self._changed is None else now - self._changed
            count = len(self._arrivals)
            rate = (count - 1) / (now - self._arrivals[0]) if count > 1 and now > self._arrivals[0] else 0.0
            waited = now - (newest if newest is not None else self._since)
            if self._loss is not None:
                reason, next_try = self._loss
                state, message = State.LOST, f"{reason}; next try in {max(0.0, next_try - now):.1f} s"
            elif waited > limits.timeout:
                state, message = State.SILENT, f"no picture for {waited:.1f} s"
            elif newest is None:
                state, message = State.OPENING, "waits for the first picture"
            elif age is not None and self._is_frozen(now):
                state, message = State.FROZEN, f"the same picture for {age:.1f} s"
            elif now - self._since > _RATE_WINDOW and rate < limits.min_rate:
                state = State.SLOW
                message = f"{rate:.1f} pictures in a second, expected at least {limits.min_rate:g}"
            else:
                state, message = State.RUNNING, "running"
            return Report(state, message, rate, age, self._losses)

    def _is_frozen(self, now: float) -> bool:
        limit = self._limits.frozen_after
        return limit > 0.0 and self._changed is not None and now - self._changed > limit

    def _forget(self, now: float) -> None:
        # The newest is kept, however old: its age is what counts.
        while len(self._arrivals) > 1 and self._arrivals[0] < now - _RATE_WINDOW:
            self._arrivals.popleft()


def _same(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> bool:
    # Noise makes nearly all pictures differ in nearly all rows, so this ends here unless the camera is frozen.
    return np.array_equal(a[::_SAMPLE], b[::_SAMPLE]) and np.array_equal(a, b)
