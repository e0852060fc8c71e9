# SPDX-License-Identifier: Apache-2.0
"""Runs what is missing of a sweep: each trial is the command that a person types, in a ROS domain of its own."""

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from rich.console import Console
from serl_bench.graph.training_runs import run
from serl_config.files import FileError, read_text
from serl_launch.domain import VARIABLE
from serl_launch.errors import CommandError, Interrupted

from serl_cli.sweep.folder import SweepFolder
from serl_cli.sweep.settings import Sweep, Trial

STOP_TIMEOUT = 5.0  # [s] that a trial has to end its graph when the sweep is stopped; its journal survives a kill
CORES_OF_A_TRIAL = 2
"""Processor cores that a trial takes: a simulated arm and its learner."""

LOST_TRIES = 3  # starts of a trial that something kills, before it counts as failed
_INTERRUPTED = 130  # exit status of ./serl after SIGINT
_LONGEST_REASON = 300
_LARGEST_OUTPUT = 2**24  # [bytes]
_YEAR = 365 * 86400.0  # [s]: a trial may take as long as it takes
_LOOK = 0.5  # [s] between looks at what has ended

Command = Callable[[Sequence[str]], Sequence[str]]
"""From arguments of `./serl` to the program and its arguments."""


class TrialLostError(Exception):
    """An executor cannot run a trial to its end; says why."""


class _Stopped(Exception):
    """The sweep is stopped."""


def serl(arguments: Sequence[str]) -> Sequence[str]:
    """The command line of `./serl` with these arguments, by the Python that runs now."""
    return [sys.executable, "-m", "serl_cli", *arguments]


@dataclass(frozen=True)
class TrialRunner:
    """Runs single trials of a sweep, in this process or in another one that sees the same folder.

    Attributes:
        folder: of the sweep.
        command: makes the program and arguments of a trial.
    """

    folder: SweepFolder
    command: Command = serl

    def run(self, trial: Trial, stop: threading.Event | None = None) -> str:
        """Run a trial to its end, or go on with it where it has begun.

        Args:
            trial: which one.
            stop: breaks it off when set, so that it can go on later.

        Returns:
            Why it failed; empty where it has a result, or was broken off.

        Raises:
            CommandError: the folder cannot be written, or the trial's result is damaged.
        """
        for _ in range(LOST_TRIES):
            try:
                status = self._start(trial, stop)
            except _Stopped:
                return ""
            if self.folder.result(trial) is not None:  # 1 is also what a goal that was not reached gives
                return ""
            if 0 < status != _INTERRUPTED:
                reason = self._last_words(trial, status)
                break
            reason = f"was killed {LOST_TRIES} times (exit status {status})"
        self.folder.write_failure(trial, reason)
        return reason

    def _start(self, trial: Trial, stop: threading.Event | None) -> int:
        def tick() -> None:
            if stop is not None and stop.is_set():
                raise _Stopped

        tick()
        resumed = self.folder.is_begun(trial)
        arguments = ["train", "--resume", trial.name, "--no-report"] if resumed else trial.arguments()
        environment = {name: value for name, value in os.environ.items() if name != VARIABLE}  # each takes its own
        environment["SERL_RUNS"] = str(self.folder.path.resolve())
        try:
            with self.folder.output(trial).open("ab") as output:
                limits = {"timeout": _YEAR, "stop_timeout": STOP_TIMEOUT}
                return run(self.command(arguments), environment, output, **limits, tick=tick)
        except OSError as error:
            raise CommandError(f"cannot start {trial.name} in {self.folder.path}: {error.strerror}") from error

    def _last_words(self, trial: Trial, status: int) -> str:
        try:
            lines = read_text(self.folder.output(trial), _LARGEST_OUTPUT).splitlines()
        except FileError:
            lines = []
        said = [line.strip() for line in lines if line.strip()]
        errors = [line for line in said if "error" in line.lower()]
        return " ".join((errors or said or [f"exit status {status}"])[-1].split())[:_LONGEST_REASON]


def run_sweep(
    sweep: Sweep,
    folder: SweepFolder,
    console: Console,
    *,
    jobs: int,
    redo: bool = False,
    runner: TrialRunner | None = None,
    executor: Executor | None = None,
) -> None:
    """Run the trials of a sweep that are not finished; those that failed stay so unless they are done again.

    Args:
        sweep: what is asked for.
        folder: where it is kept.
        console: says what goes on.
        jobs: how many run at once, at most.
        redo: run again what failed.
        runner: of single trials; None: by `./serl`.
        executor: takes the trials, as one of a cluster; is shut down at the end, and raises `TrialLostError` for what
            it cannot run. None: threads of this process, which watch processes.

    Raises:
        CommandError: the folder cannot be used, or another process runs this sweep.
        Interrupted: a person pressed Ctrl-C; nothing runs any more.
    """
    with folder.opened(sweep) as changes:
        for line in changes:
            console.print(
                f"the file has changed since: {line}", style="yellow", highlight=False, markup=False, soft_wrap=True
            )
        missing = _missing(sweep, folder, console, redo)
        count = len(sweep.trials)
        console.print(
            f"{count} trials, {count - len(missing)} done; {folder.path}", highlight=False, markup=False, soft_wrap=True
        )
        if not missing:
            return
        stop = threading.Event()
        own = executor is None
        pool = ThreadPoolExecutor(jobs) if executor is None else executor
        try:
            _run(missing, folder, console, pool, jobs, runner or TrialRunner(folder), stop if own else None)
        except KeyboardInterrupt:
            left = sum(folder.result(trial) is None for trial in missing)
            raise Interrupted(f"interrupted with {left} trials left; the same command goes on") from None
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def _missing(sweep: Sweep, folder: SweepFolder, console: Console, redo: bool) -> list[Trial]:
    """Trials to run; forgets of those that failed what is to be done again."""
    missing, failed = [], 0
    for trial in sweep.trials:
        if folder.result(trial) is not None:
            continue
        if folder.failure(trial):
            failed += 1
            if not redo:
                continue
            folder.forget_failure(trial)
        missing.append(trial)
    if failed:
        advice = "they are run again" if redo else "--redo runs them again"
        console.print(f"{failed} trials failed; {advice}", style="yellow", highlight=False, soft_wrap=True)
    return missing


def _run(
    missing: Sequence[Trial],
    folder: SweepFolder,
    console: Console,
    pool: Executor,
    jobs: int,
    runner: TrialRunner,
    stop: threading.Event | None,
) -> None:
    started, waiting = time.monotonic(), list(reversed(missing))
    running: dict[Future[str], Trial] = {}
    done = 0
    with console.status("") as status:
        while waiting or running:
            while waiting and len(running) < jobs:
                trial = waiting.pop()
                future = pool.submit(runner.run, trial) if stop is None else pool.submit(runner.run, trial, stop)
                running[future] = trial
            names = ", ".join(trial.name for trial in running.values())
            status.update(f"[{done}/{len(missing)}] {names}; {_clock(started, done, len(missing))}")
            ended, _ = wait(running, timeout=_LOOK, return_when=FIRST_COMPLETED)
            for future in ended:
                trial, done = running.pop(future), done + 1
                try:
                    failure = future.result()
                except TrialLostError as error:
                    failure = str(error)
                    folder.write_failure(trial, failure)
                console.print(
                    f"[{done}/{len(missing)}] {trial.name}: {describe(folder, trial, failure)}; "
                    f"{_clock(started, done, len(missing))}",
                    style="red" if failure else None,
                    highlight=False,
                    markup=False,
                    soft_wrap=True,
                )


def describe(folder: SweepFolder, trial: Trial, failure: str) -> str:
    """What became of a trial, in a few words.

    Args:
        folder: of the sweep.
        trial: which one.
        failure: why it failed, empty where it did not.
    """
    if failure:
        return f"failed: {failure}"
    result: Mapping[str, object] | None = folder.result(trial)
    if result is None:
        return "broken off"
    reached = "goal reached" if result.get("success") else "goal not reached"
    rate = result.get("success_rate")
    said = f", {rate:.0%}" if isinstance(rate, float | int) else ""
    return f"{reached}{said} after {result.get('env_steps')} env steps"


def _clock(started: float, done: int, count: int) -> str:
    minutes = (time.monotonic() - started) / 60.0
    if not done or done == count:
        return f"{minutes:.1f} min"
    return f"{minutes:.1f} min, about {minutes / done * (count - done):.0f} to go"
