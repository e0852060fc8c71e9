# SPDX-License-Identifier: Apache-2.0
"""One supervised process: its start, its signals, its end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess

from serl_launch.language.commands import ProcessSpec
from serl_launch.processes.guardian import Guardian
from serl_launch.processes.output import OutputPipe

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
"""What a process is told to end with, one after the other."""


class Process:
    """One start of what a `<node>` or `<executable>` asks for; a respawn makes another one.

    It runs in a session of its own, so that Ctrl-C in the terminal reaches the runner alone, and signals go to the
    whole process group, so that a shell around a node does not keep them from it.

    Raises OSError if the process cannot be started.
    """

    def __init__(self, spec: ProcessSpec, guardian: Guardian) -> None:
        for file in spec.files:
            file.path.parent.mkdir(parents=True, exist_ok=True)
            file.path.write_text(file.text, encoding="utf-8")
        self.spec = spec
        self._guardian = guardian
        self._popen = subprocess.Popen(
            spec.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=spec.cwd,
            env=guardian.marked(spec.environment),
            bufsize=0,
            start_new_session=True,
        )
        assert self._popen.stdout is not None and self._popen.stderr is not None
        try:
            guardian.watch(self._popen.pid)
            self.exit_descriptor = os.pidfd_open(self._popen.pid)
            """Becomes readable when the process has ended."""
        except OSError:
            os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()
            raise
        self.pipes = (
            OutputPipe(self._popen.stdout, spec.name, "stdout", spec.output),
            OutputPipe(self._popen.stderr, spec.name, "stderr", spec.output),
        )
        self.stop_stage = 0
        """How many of STOP_SIGNALS it has been sent."""

    @property
    def pid(self) -> int:
        """Number of the process, and of its session and process group."""
        return self._popen.pid

    def stop(self) -> signal.Signals:
        """Send the next of STOP_SIGNALS to the process group; returns which it was."""
        number = STOP_SIGNALS[min(self.stop_stage, len(STOP_SIGNALS) - 1)]
        self.stop_stage += 1
        # Until it is collected, the number cannot belong to another process; but it may be a zombie already.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, number)
        return number

    def seconds_to_next_signal(self) -> float | None:
        """How long to wait after the last signal until the next one; None after SIGKILL."""
        waits = (self.spec.sigterm_timeout, self.spec.sigkill_timeout)
        return waits[self.stop_stage - 1] if self.stop_stage <= len(waits) else None

    def collect(self) -> int:
        """Exit code of the process that has ended."""
        code = self._popen.wait()
        self._guardian.unwatch(self._popen.pid)
        os.close(self.exit_descriptor)
        return code
