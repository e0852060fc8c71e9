# SPDX-License-Identifier: Apache-2.0
"""The runner as a process of its own: signals, kill -9, exit status."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from serl_launch.processes.guardian import Guardian
from serl_launch.processes.guardian_process import MARK_VARIABLE

WriteLaunch = Callable[..., Path]
Shell = Callable[..., str]
WaitUntil = Callable[..., None]
Marked = Callable[[], list[int]]

ON_SCREEN = "output='screen'"
PATIENT = "sigterm_timeout='1000' sigkill_timeout='1000'"
STUBBORN = "trap 'echo got INT' INT; trap 'echo got TERM' TERM; echo ready; while :; do sleep 0.02; done"
POLITE = "trap 'echo bye; exit 0' INT; echo ready; while :; do sleep 0.02; done"


class Command:
    """The command `launch`, running."""

    def __init__(self, file: Path, tmp_path: Path, environment: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "serl_launch",
                str(file),
                "--log-dir",
                str(tmp_path / "log"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        self.output: list[str] = []

    def until(self, text: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line)
            if text in line:
                return line
        raise AssertionError(f"{text} not in {self.output}")

    def finish(self) -> int:
        rest, _ = self.process.communicate(timeout=60.0)
        self.output.append(rest)
        return self.process.returncode

    @property
    def text(self) -> str:
        return "".join(self.output)


def mark(tmp_path: Path) -> str:
    return f'<set_env name="MARK" value="{tmp_path}"/>'


def words_of_processes(what: str) -> Iterator[tuple[int, list[bytes]]]:
    """Number of each process that can be read, with its `environ` or `cmdline`."""
    for path in Path("/proc").glob(f"[0-9]*/{what}"):
        try:
            yield int(path.parent.name), path.read_bytes().split(b"\0")
        except OSError:
            continue


@pytest.fixture
def marked(tmp_path: Path, is_alive: Callable[[int], bool]) -> Callable[[], list[int]]:
    """Finds the processes of launch files with `mark(tmp_path)`, apart from what the runner knows."""

    sign = f"MARK={tmp_path}".encode()

    def find() -> list[int]:
        return [pid for pid, words in words_of_processes("environ") if sign in words and is_alive(pid)]

    return find


DESCENDANTS = """
(trap '' INT TERM HUP; while :; do sleep 0.02; done) &
setsid sh -c 'sh -c "sleep 1000 & sleep 1000" & sleep 1000' &
trap '' INT TERM HUP
echo ready
while :; do sleep 0.02; done
"""


@pytest.mark.parametrize("descendants", [0, 5])
def test_kill_9_of_the_runner_leaves_no_descendant(
    marked: Marked, wait_until: WaitUntil, shell: Shell, write_launch: WriteLaunch, tmp_path: Path, descendants: int
) -> None:
    """Neither while they are being started nor once they are all there."""
    file = write_launch(mark(tmp_path) + shell(DESCENDANTS, ON_SCREEN))
    command = Command(file, tmp_path)
    command.until("ready")
    wait_until(lambda: len(marked()) >= descendants)
    command.process.kill()
    command.process.wait()
    wait_until(lambda: not marked())
    command.finish()


def guardians_of(runner: int) -> list[int]:
    """By their arguments: the kernel's list of children leaves some out while others come and go."""
    return [
        pid
        for pid, words in words_of_processes("cmdline")
        if str(runner).encode() in words and any(b"guardian_process" in word for word in words)
    ]


def test_kill_9_of_the_guardian_does_not_take_the_guard_away(
    marked: Marked,
    is_alive: Callable[[int], bool],
    wait_until: WaitUntil,
    shell: Shell,
    write_launch: WriteLaunch,
    tmp_path: Path,
) -> None:
    go = tmp_path / "go"
    first = f"if [ ! -e {go} ]; then echo first; while [ ! -e {go} ]; do sleep 0.02; done; exit 1; fi"
    file = write_launch(mark(tmp_path) + shell(f"{first}\n{DESCENDANTS}", f"{ON_SCREEN} respawn='true'"))
    command = Command(file, tmp_path)
    command.until("first")
    wait_until(lambda: len(guardians_of(command.process.pid)) == 1)
    (guardian,) = guardians_of(command.process.pid)
    os.kill(guardian, signal.SIGKILL)
    wait_until(lambda: not is_alive(guardian))
    go.touch()  # the next start finds that it is gone
    command.until("ready")
    command.process.kill()
    command.process.wait()
    wait_until(lambda: not marked())
    command.finish()


def test_what_is_started_behind_the_end_of_the_guardian_is_guarded_before_it_runs(
    is_alive: Callable[[int], bool], wait_until: WaitUntil
) -> None:
    """The runner may be killed before it has told of its child."""
    others = guardians_of(os.getpid())
    guardian = Guardian()
    wait_until(lambda: len(guardians_of(os.getpid())) == len(others) + 1)
    (first,) = {*guardians_of(os.getpid())} - {*others}
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not is_alive(first))
    environment = guardian.marked(dict(os.environ))
    with subprocess.Popen(["sleep", "1000"], env=environment, start_new_session=True) as child:
        assert guardian.close() == [f"{child.pid} sleep"]
        assert child.wait() == -signal.SIGKILL


def test_a_launch_within_a_launch_ends_with_the_outer_one(
    marked: Marked, wait_until: WaitUntil, shell: Shell, write_launch: WriteLaunch, tmp_path: Path
) -> None:
    inner = write_launch(mark(tmp_path) + shell(DESCENDANTS, ON_SCREEN), "i.xml")
    run_inner = f"{sys.executable} -m serl_launch {inner} --log-dir {tmp_path}/inner"
    command = Command(write_launch(f'<executable cmd="{run_inner}" output="screen"/>'), tmp_path)
    command.until("ready")
    command.process.kill()
    command.process.wait()
    wait_until(lambda: not marked())
    command.finish()


def test_processes_know_the_launches_they_belong_to(shell: Shell, write_launch: WriteLaunch, tmp_path: Path) -> None:
    file = write_launch(shell(f"echo mark ${MARK_VARIABLE}", ON_SCREEN))
    command = Command(file, tmp_path, environment={MARK_VARIABLE: "outer"})
    assert command.finish() == 0
    (line,) = (line for line in command.text.splitlines() if "mark " in line)
    outer, own = line.partition("mark ")[2].split(":")
    assert outer == "outer" and len(own) == 32


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_shut_down(shell: Shell, write_launch: WriteLaunch, tmp_path: Path, number: signal.Signals) -> None:
    command = Command(write_launch(shell(POLITE, ON_SCREEN)), tmp_path)
    command.until("ready")
    command.process.send_signal(number)
    assert command.finish() == 0
    assert f"shutting down: received {number.name}" in command.text
    assert "[sh-1] bye" in command.text


def test_under_nohup_the_end_of_the_terminal_is_not_the_end(
    shell: Shell, write_launch: WriteLaunch, tmp_path: Path
) -> None:
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        command = Command(write_launch(shell(POLITE, ON_SCREEN)), tmp_path)
    finally:
        signal.signal(signal.SIGHUP, ignored)
    command.until("ready")
    command.process.send_signal(signal.SIGHUP)
    command.process.send_signal(signal.SIGTERM)
    assert command.finish() == 0
    assert "shutting down: received SIGTERM" in command.text


def test_further_ctrl_c_hastens(shell: Shell, write_launch: WriteLaunch, tmp_path: Path) -> None:
    """By itself the runner would wait for longer than any test takes."""
    command = Command(write_launch(shell(STUBBORN, f"{ON_SCREEN} {PATIENT}")), tmp_path)
    command.until("ready")
    for expected in ("got INT", "got TERM"):
        command.process.send_signal(signal.SIGINT)
        command.until(expected)
    command.process.send_signal(signal.SIGINT)
    assert command.finish() == 0


def test_the_terminals_ctrl_c_reaches_the_runner_alone(shell: Shell, write_launch: WriteLaunch, tmp_path: Path) -> None:
    count = "n=0; trap 'n=$((n+1))' INT; trap 'echo count $n; exit' TERM; echo ready; while :; do sleep 0.02; done"
    command = Command(write_launch(shell(count, 'output="screen" sigterm_timeout="0.3"')), tmp_path)
    command.until("ready")
    os.killpg(command.process.pid, signal.SIGINT)
    assert "count 1" in command.until("count")
    command.finish()


def test_exit_status_and_the_name_of_what_failed(shell: Shell, write_launch: WriteLaunch, tmp_path: Path) -> None:
    command = Command(write_launch(shell("exit 7", 'name="bad"')), tmp_path)
    assert command.finish() == 1
    assert "error: bad-1: exit code 7" in command.text


def test_a_wrong_file_is_one_line_and_status_2(write_launch: WriteLaunch, tmp_path: Path) -> None:
    command = Command(write_launch("<nod/>"), tmp_path)
    assert command.finish() == 2
    assert command.text.count("\n") == 1 and ":1: <nod>: " in command.text


def test_output_that_nobody_reads_any_more_ends_the_launch(
    marked: Marked, wait_until: WaitUntil, shell: Shell, write_launch: WriteLaunch, tmp_path: Path
) -> None:
    file = write_launch(mark(tmp_path) + shell("while echo x; do sleep 0.02; done", ON_SCREEN))
    command = Command(file, tmp_path)
    command.until("x")
    assert command.process.stdout is not None
    command.process.stdout.close()
    assert command.process.wait(60.0) == 1
    wait_until(lambda: not marked())
