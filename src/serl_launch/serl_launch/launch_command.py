# SPDX-License-Identifier: Apache-2.0
"""`launch FILE name:=value ...`: the runner as a command, with the options of `ros2 launch` that it shares."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from serl_launch.language.arguments import parse_arguments, show_args
from serl_launch.language.errors import LaunchError
from serl_launch.language.launch_plan import LaunchPlan, Log, Shutdown
from serl_launch.language.packages import PackageError, package_share
from serl_launch.processes.events import Event, shown
from serl_launch.processes.runner import LaunchRunner

_USAGE_ERROR = 2


def main(argv: Sequence[str] | None = None, check: Callable[[LaunchPlan], None] = lambda _: None) -> int:
    """Run the command; returns its exit status. `check` sees the plan before it starts, and may raise to refuse it.

    0: all ended well, or Ctrl-C ended it; 1: a process failed; 2: the files or the arguments cannot be used.
    """
    options = _parser().parse_intermixed_args(argv)
    try:
        file, arguments = _target(options.target, os.environ)
        if options.show_args:
            print(show_args(file, os.environ))
            return 0
        log_dir = options.log_dir or default_log_dir(os.environ)
        with LaunchRunner(file, arguments, log_dir=log_dir, sink=_print) as runner:
            if options.print:
                print(describe(runner.plan))
                return 0
            check(runner.plan)
            return run(runner)
    except LaunchError as error:
        print(f"error: {error}", file=sys.stderr)
        return _USAGE_ERROR
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain again when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def run(runner: LaunchRunner) -> int:
    """Start a runner and drive it to its end from the main thread; returns its exit status.

    SIGINT, SIGTERM and SIGHUP (unless under nohup) shut it down, and each further one makes that faster.
    """
    with _shutdown_on_signals(runner):
        runner.start()
        runner.wait()
    for failure in runner.failures:
        print(f"error: {failure}", file=sys.stderr)
    return runner.exit_status


def describe(plan: LaunchPlan) -> str:
    """What a plan will start, as commands that could be typed."""
    lines = []
    for step in plan.steps:
        time = f"after {step.at:g} s: " if step.at else ""
        match step.action:
            case Log(message):
                lines.append(f"{time}log: {message}")
            case Shutdown(reason):
                lines.append(f"{time}shutdown: {reason}")
            case process:
                lines.append(f"{time}[{process.name}] {shlex.join(process.command)}")
                for file in process.files:
                    lines += [f"    {file.path}:", *(f"        {line}" for line in file.text.splitlines())]
    return "\n".join(lines)


def default_log_dir(environment: Mapping[str, str]) -> Path:
    """A new folder name where ROS 2 keeps its logs: below ROS_LOG_DIR, ROS_HOME/log or ~/.ros/log."""
    home = Path(environment.get("ROS_HOME") or Path.home() / ".ros")
    base = Path(environment.get("ROS_LOG_DIR") or home / "log").expanduser()
    return base / f"{datetime.now():%Y-%m-%d-%H-%M-%S-%f}-{socket.gethostname()}-{os.getpid()}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="serl launch",
        description="Run a ROS 2 XML launch file; docs/launch.md says what it may contain.",
        usage="%(prog)s [-h] [-s] [-p] [--log-dir FOLDER] (FILE | PACKAGE FILE) [name:=value ...]",
    )
    parser.add_argument("target", nargs="+", help="path of a launch file, name of one of ours, or a package and a name")
    parser.add_argument("-s", "--show-args", action="store_true", help="show the arguments of the launch file and end")
    parser.add_argument("-p", "--print", action="store_true", help="show what would be started and end")
    parser.add_argument("--log-dir", type=Path, metavar="FOLDER", help="where logs go (default: below ~/.ros/log)")
    return parser


def _target(words: Sequence[str], environment: Mapping[str, str]) -> tuple[Path, dict[str, str]]:
    names = [word for word in words if ":=" not in word]
    arguments = parse_arguments(word for word in words if ":=" in word)
    match names:
        case [file] if Path(file).is_file():
            return Path(file), arguments
        case [file] if "/" in file:
            raise LaunchError(f"there is no launch file {file}")
        case [file]:
            return _in_package("serl_bringup", file, environment), arguments
        case [package, file]:
            return _in_package(package, file, environment), arguments
    raise LaunchError(f"expected FILE or PACKAGE FILE, then name:=value, found {' '.join(words)}")


def _in_package(package: str, file: str, environment: Mapping[str, str]) -> Path:
    try:
        share = package_share(package, environment)
    except PackageError as error:
        raise LaunchError(str(error)) from error
    found = sorted(path for path in share.rglob("*") if path.name == file and path.is_file())
    if not found:
        known = sorted(path.name for path in share.rglob("*.launch.xml") if path.is_file())
        raise LaunchError(f"package '{package}' has no {file} below {share}; it has {', '.join(known) or 'none'}")
    if len(found) > 1:
        raise LaunchError(f"package '{package}' has more than one {file}: {', '.join(map(str, found))}")
    return found[0]


@contextlib.contextmanager
def _shutdown_on_signals(runner: LaunchRunner) -> Iterator[None]:
    received = False

    def on_signal(number: int, _: object) -> None:
        nonlocal received
        if received:
            runner.hasten()
        else:
            received = True
            runner.shutdown(f"received {signal.Signals(number).name}")

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup leaves it
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print(event: Event) -> None:
    if shown(event):
        print(event, flush=True)
