# SPDX-License-Identifier: Apache-2.0
"""What a running launch tells its listener."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Literal

Level = Literal["INFO", "WARNING", "ERROR"]
Stream = Literal["stdout", "stderr"]


@dataclass(frozen=True)
class Message:
    """A line of the runner itself; `source` is "launch", "launch.user" or the name of a process."""

    level: Level
    source: str
    text: str

    def __str__(self) -> str:
        return f"[{self.level}] [{self.source}]: {self.text}"


@dataclass(frozen=True)
class OutputLine:
    """A line that a process has written; `screen` if the launch file wants it to be seen."""

    process: str
    stream: Stream
    text: str
    screen: bool

    def __str__(self) -> str:
        return f"[{self.process}] {self.text}"


@dataclass(frozen=True)
class ProcessStarted:
    """A process runs. `starts` counts from 1 and grows with every respawn."""

    process: str
    node: str | None
    pid: int
    starts: int

    def __str__(self) -> str:
        return f"[INFO] [{self.process}]: process started with pid [{self.pid}]"


@dataclass(frozen=True)
class ProcessExited:
    """A process has ended; `code` is minus the signal's number if a signal ended it.

    `expected` if the code is 0 or the launch was shutting down; `respawns` if the process will be started again.
    """

    process: str
    node: str | None
    pid: int
    code: int
    command: tuple[str, ...]
    expected: bool
    respawns: bool

    def __str__(self) -> str:
        if self.code == 0:
            return f"[INFO] [{self.process}]: process has finished cleanly [pid {self.pid}]"
        if self.expected:
            return f"[INFO] [{self.process}]: process has ended [pid {self.pid}, {describe_code(self.code)}]"
        command = " ".join(self.command)
        return (
            f"[ERROR] [{self.process}]: process has died [pid {self.pid}, {describe_code(self.code)}, cmd '{command}']."
        )


Event = Message | OutputLine | ProcessStarted | ProcessExited


def shown(event: Event) -> bool:
    """Whether `ros2 launch` would print this event on the screen."""
    return not isinstance(event, OutputLine) or event.screen


def describe_code(code: int) -> str:
    """An exit status in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"
