# SPDX-License-Identifier: Apache-2.0
# pathlib and contextlib would take longer to import than everything else here:
# ruff: noqa: PTH123, PTH208, SIM105
"""Ends everything a launch has started, once the launch runner is gone in whatever way. Runs as its own process.

    python -I -S guardian_process.py MARK RUNNER_PID

Waits until its standard input is closed (the runner has finished) or the runner's process is gone (kill -9), then kills
  - every process whose environment carries MARK: descendants inherit it, however often they forked or changed session,
  - every process whose number came in on standard input: direct children, should one have overwritten its environment,
  - every process in the session of one of these.
PR_SET_PDEATHSIG would reach direct children only, and is sent when the *thread* that started them ends.
Prints number and name of each process that it killed. It imports only what starts within milliseconds.
"""

import os
import select
import signal
import sys
import time

MARK_VARIABLE = "SERL_LAUNCH_ID"
"""Environment variable with the marks of all launches that a process belongs to, parted by colons."""

_CLEAN_SWEEPS = 3
_BETWEEN_SWEEPS = 0.02  # [s]; a process between fork and exec does not show its new environment yet
_GIVE_UP = 10.0  # [s]; a process in uninterruptible sleep outlives SIGKILL for as long as its device hangs


def main() -> None:
    """Wait for the end of the runner, then sweep."""
    mark, runner = sys.argv[1], int(sys.argv[2])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    children = _wait(runner)
    killed: set[int] = set()
    clean = 0
    deadline = time.monotonic() + _GIVE_UP
    while clean < _CLEAN_SWEEPS and time.monotonic() < deadline:
        clean += 1
        for pid, name in _victims(mark, children):
            clean = 0
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            if pid not in killed:
                killed.add(pid)
                _report(f"{pid} {name}")
        time.sleep(_BETWEEN_SWEEPS)


def _wait(runner: int) -> dict[int, int]:
    """Start times of the direct children by their process numbers, when the runner has ended."""
    children: dict[int, int] = {}
    poll = select.poll()
    poll.register(0, select.POLLIN | select.POLLHUP)
    try:
        poll.register(os.pidfd_open(runner), select.POLLIN)
    except ProcessLookupError:
        pass  # gone already, and its end of the pipe with it
    buffer = b""
    while True:
        ready = [descriptor for descriptor, _ in poll.poll()]
        if 0 not in ready:
            return children
        data = os.read(0, 4096)
        if not data:
            return children
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            started = _stat(int(line))
            if started is not None:
                children[int(line)] = started[2]


def _victims(mark: str, children: dict[int, int]) -> list[tuple[int, str]]:
    found: dict[int, tuple[str, int]] = {}
    others: dict[int, tuple[str, int]] = {}
    for entry in os.listdir("/proc"):
        pid = int(entry) if entry.isdigit() else os.getpid()
        stat = None if pid == os.getpid() else _stat(pid)
        if stat is not None:
            name, session, started = stat
            group = found if children.get(pid) == started or _is_marked(pid, mark) else others
            group[pid] = (name, session)
    sessions = {session for _, session in found.values()}
    found.update({pid: (name, session) for pid, (name, session) in others.items() if session in sessions})
    return [(pid, name) for pid, (name, _) in found.items()]


def _stat(pid: int) -> "tuple[str, int, int] | None":
    """Name, session and start time of a process that is alive (proc_pid_stat(5)); None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            content = file.read().decode(errors="replace")
    except OSError:
        return None
    name, _, rest = content.partition("(")[2].rpartition(")")
    fields = rest.split()
    return None if fields[0] in "ZX" else (name, int(fields[3]), int(fields[19]))


def _is_marked(pid: int, mark: str) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = file.read().decode(errors="replace").split("\0")
    except OSError:
        return False
    prefix = f"{MARK_VARIABLE}="
    return any(entry.startswith(prefix) and mark in entry[len(prefix) :].split(":") for entry in entries)


def _report(line: str) -> None:
    try:
        os.write(1, f"{line}\n".encode())
    except BrokenPipeError:
        pass  # the runner is gone: nobody is left to be told


if __name__ == "__main__":
    main()
