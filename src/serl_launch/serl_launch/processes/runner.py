# SPDX-License-Identifier: Apache-2.0
"""Running a plan: starts, watches and ends its processes."""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from serl_launch.language.commands import ProcessSpec
from serl_launch.language.errors import LaunchError
from serl_launch.language.launch_plan import LaunchPlan, Log, Shutdown, Step, make_plan
from serl_launch.processes.events import (
    Event,
    Level,
    Message,
    OutputLine,
    ProcessExited,
    ProcessStarted,
    describe_code,
)
from serl_launch.processes.guardian import Guardian
from serl_launch.processes.mailbox import Mailbox
from serl_launch.processes.output import LogFiles, OutputPipe
from serl_launch.processes.process import Process
from serl_launch.processes.schedule import Schedule

_USAGE_ERROR = 2
"""Exit code by which programs say that their arguments or parameters are wrong: starting again cannot help."""

_CANCELLED_BY_SHUTDOWN = object()
_KEPT_AT_SHUTDOWN = object()


@dataclass(eq=False)
class _Supervised:
    """A process of the plan over all of its starts."""

    spec: ProcessSpec
    starts: int = 0
    process: Process | None = None
    last_words: str = ""
    """Last line on stderr, which tells most of why it ended."""


class LaunchRunner:
    """Runs a launch file, driven by its owner: it has no thread and no signal handler of its own.

        with LaunchRunner(file, {"task": "pick_cube"}, log_dir=folder, sink=print) as runner:
            runner.start()
            while runner.poll(0.1):
                progress_bar.update()
        return runner.exit_status

    The constructor reads the launch files and raises LaunchError; nothing runs before `start`. All methods belong to
    one thread, except `shutdown` and `hasten`, which may be called from any thread and from signal handlers; `poll` is
    then called on until it gives False. Leaving the `with` block ends everything that still runs.

    `sink` is called with every event, from within `start` and `poll`; an error that it raises comes out of these, and
    it is not called again. Files go to `log_dir`: launch.log, the own logs of processes that ask for them, and below
    params/ the parameter files that the nodes got.
    """

    def __init__(
        self,
        file: str | Path,
        arguments: Mapping[str, str],
        *,
        log_dir: str | Path,
        sink: Callable[[Event], None] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.log_dir = Path(log_dir).absolute()
        environment = os.environ if environment is None else environment
        self.plan: LaunchPlan = make_plan(Path(file), arguments, environment, self.log_dir / "params")
        self._sink = sink
        self._supervised = tuple(_Supervised(spec) for spec in self.plan.processes)
        self._failures: list[str] = []
        self._started = self._stopping = self._finished = False
        self._schedule = Schedule()
        self._mailbox = Mailbox()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._mailbox.receiver, selectors.EVENT_READ, self._mailbox.run)
        self._pipes: dict[OutputPipe, _Supervised] = {}
        self._guardian: Guardian | None = None
        self._log: LogFiles | None = None

    @property
    def running(self) -> dict[str, int]:
        """Names ("actor-5") and numbers of the processes that run now."""
        return {entry.spec.name: entry.process.pid for entry in self._supervised if entry.process is not None}

    @property
    def failures(self) -> tuple[str, ...]:
        """What went wrong so far, a line each."""
        return tuple(self._failures)

    @property
    def exit_status(self) -> int:
        """1 if a process could not start, or ended with an error on its own and was not respawned; else 0."""
        return 1 if self._failures else 0

    def start(self) -> None:
        """Start what the launch file starts at once.

        Raises:
            LaunchError: the log folder cannot be written.
            RuntimeError: it was started before.
        """
        if self._started or self._finished:
            raise RuntimeError("a LaunchRunner starts once")
        try:
            self._log = LogFiles(self.log_dir, {spec.name: spec.output for spec in self.plan.processes})
        except OSError as error:
            raise LaunchError(f"cannot write logs to {self.log_dir}: {error.strerror}") from error
        self._started = True
        self._say("INFO", f"all log files can be found below {self.log_dir}")
        self._guardian = Guardian()
        supervised = iter(self._supervised)
        for step in self.plan.steps:
            action = self._action(step, supervised)
            if step.at == 0.0:
                action()
            else:
                owner = _CANCELLED_BY_SHUTDOWN if step.cancel_on_shutdown else _KEPT_AT_SHUTDOWN
                self._schedule.add(step.at, action, owner)

    def poll(self, timeout: float = 0.0) -> bool:
        """Handle what has happened; wait up to `timeout` seconds for the first of it.

        Returns whether something of the launch is left. Between calls output, respawns and signals wait, so call it
        every 0.1 s or so. Raises RuntimeError before `start`.
        """
        if self._finished:
            return False
        if not self._started:
            raise RuntimeError("start() comes before poll()")
        idle = not self._schedule and not self.running
        patience = 0.0 if idle else max(0.0, min(timeout, self._schedule.seconds_to_next()))
        for key, _ in self._selector.select(patience):
            key.data()
        self._schedule.run_due()
        if not self._schedule and not self.running:
            self._finish()
        return not self._finished

    def wait(self, timeout: float = float("inf")) -> bool:
        """Poll until nothing is left; False if that takes longer than `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self.poll(min(1.0, max(0.0, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                return False
        return True

    def shutdown(self, reason: str = "asked for") -> None:
        """Begin to end everything: SIGINT, later SIGTERM, later SIGKILL. From any thread; does not wait."""
        self._mailbox.post(lambda: self._begin_shutdown(reason))

    def hasten(self) -> None:
        """Send the next stronger signal now instead of later. From any thread; does not wait."""
        self._mailbox.post(self._hasten)

    def close(self) -> None:
        """End everything and wait for it; does nothing if all has ended."""
        if self._started and not self._finished:
            self.shutdown()
            self.wait()
        elif not self._finished:
            self._finish()

    def __enter__(self) -> LaunchRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _action(self, step: Step, supervised: Iterable[_Supervised]) -> Callable[[], None]:
        match step.action:
            case ProcessSpec():
                entry = next(iter(supervised))
                return lambda: self._start_process(entry)
            case Log(message, warning):
                return lambda: self._say("WARNING" if warning else "INFO", message, source="launch.user")
            case Shutdown(reason):
                return lambda: self._begin_shutdown(reason)

    def _start_process(self, entry: _Supervised) -> None:
        if self._stopping:
            return
        assert self._guardian is not None
        try:
            process = Process(entry.spec, self._guardian)
        except OSError as error:
            self._say("ERROR", f"cannot start {' '.join(entry.spec.command)}: {error}", source=entry.spec.name)
            self._fail(entry, "could not be started")
            return
        entry.process = process
        entry.starts += 1
        self._selector.register(process.exit_descriptor, selectors.EVENT_READ, lambda: self._on_exit(entry, process))
        for pipe in process.pipes:
            self._pipes[pipe] = entry
            self._selector.register(pipe.pipe, selectors.EVENT_READ, lambda pipe=pipe: self._on_output(pipe.read, pipe))
        self._emit(ProcessStarted(entry.spec.name, entry.spec.node, process.pid, entry.starts))

    def _on_output(self, read: Callable[[], Iterable[OutputLine]], pipe: OutputPipe) -> None:
        entry = self._pipes.get(pipe)
        if entry is None:
            return  # closed by the exit of its process, which was seen in the same call of poll
        for line in read():
            if line.stream == "stderr" and line.text.strip():
                entry.last_words = line.text.strip()
            self._emit(line)
        if pipe.ended:
            self._close_pipe(pipe)

    def _close_pipe(self, pipe: OutputPipe) -> None:
        del self._pipes[pipe]
        self._selector.unregister(pipe.pipe)
        pipe.pipe.close()

    def _on_exit(self, entry: _Supervised, process: Process) -> None:
        spec = entry.spec
        self._selector.unregister(process.exit_descriptor)
        code = process.collect()
        entry.process = None
        self._schedule.cancel(process)
        for pipe in process.pipes:
            self._on_output(pipe.drain, pipe)
        retries_left = spec.respawn_max_retries < 0 or entry.starts <= spec.respawn_max_retries
        can_come_back = retries_left and code != _USAGE_ERROR and not spec.required
        respawns = spec.respawn and can_come_back and not self._stopping
        expected = code == 0 or self._stopping
        self._emit(ProcessExited(spec.name, spec.node, process.pid, code, spec.command, expected, respawns))
        if respawns:
            self._schedule.add(spec.respawn_delay, lambda: self._start_process(entry), _CANCELLED_BY_SHUTDOWN)
        elif not expected:
            said = f"; it last said: {entry.last_words}" if entry.last_words else ""
            self._fail(entry, f"{describe_code(code)}{said}")
        elif spec.required:
            self._begin_shutdown(f"process[{spec.name}] was required and has finished")

    def _fail(self, entry: _Supervised, reason: str) -> None:
        name = entry.spec.name
        self._failures.append(f"{name}: {reason}")
        if entry.spec.required:
            self._begin_shutdown(f"process[{name}] was required: {reason}")

    def _begin_shutdown(self, reason: str) -> None:
        if self._stopping:
            return
        self._stopping = True
        self._say("INFO", f"shutting down: {reason}")
        self._schedule.cancel(_CANCELLED_BY_SHUTDOWN)
        for entry in self._supervised:
            if entry.process is not None:
                self._stop(entry.process)

    def _hasten(self) -> None:
        if not self._stopping:
            self._begin_shutdown("asked for")
            return
        for entry in self._supervised:
            if entry.process is not None:
                self._schedule.cancel(entry.process)
                self._stop(entry.process)

    def _stop(self, process: Process) -> None:
        number = process.stop()
        self._say("INFO", f"sending signal '{number.name}' to process[{process.spec.name}]")
        wait = process.seconds_to_next_signal()
        if wait is not None:
            self._schedule.add(wait, lambda: self._escalate(process, number, wait), process)

    def _escalate(self, process: Process, number: signal.Signals, waited: float) -> None:
        name = process.spec.name
        self._say("ERROR", f"process[{name}] did not end within {waited:g} s after {number.name}")
        self._stop(process)

    def _finish(self) -> None:
        if self._guardian is not None:
            for killed in self._guardian.close():
                pid, _, name = killed.partition(" ")
                self._say("WARNING", f"killed what a process had left behind: {name} [pid {pid}]")
        for pipe in tuple(self._pipes):
            self._on_output(pipe.drain, pipe)
            if not pipe.ended:
                self._close_pipe(pipe)
        self._finished = True
        self._selector.close()
        self._mailbox.close()
        if self._log is not None:
            self._log.close()

    def _say(self, level: Level, text: str, source: str = "launch") -> None:
        self._emit(Message(level, source, text))

    def _emit(self, event: Event) -> None:
        if self._log is not None:
            try:
                self._log.write(event)
            except OSError as error:
                self._log = None
                self._say("ERROR", f"cannot write to {self.log_dir}, no more logs are kept: {error.strerror}")
        if self._sink is not None:
            try:
                self._sink(event)
            except BaseException:
                self._sink = None
                raise
