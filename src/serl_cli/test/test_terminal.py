# SPDX-License-Identifier: Apache-2.0
"""A command outlives its terminal where it was told to, and ends with all that it started where it was not."""

import os
import pty
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

_LAUNCH = """
import signal, sys
if sys.argv.pop(1) == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
from serl_cli.app import main
sys.exit(main())
"""
_NODE = """
import os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
(folder / "pid").write_text(str(os.getpid()))
for count in range(10**6):
    print("line", count, flush=True)
    (folder / "count").write_text(str(count))
    time.sleep(0.02)
"""


@pytest.mark.parametrize("nohup", [True, False])
def test_a_closed_terminal_ends_a_command_unless_it_was_told_to_go_on(
    tmp_path: Path, wait_until: Callable[..., None], is_alive: Callable[[int], bool], nohup: bool
) -> None:
    node = tmp_path / "node.py"
    node.write_text(_NODE)
    file = tmp_path / "test.launch.xml"
    command = f"{sys.executable} {node} {tmp_path}"
    file.write_text(f'<launch><executable name="node" cmd="{command}" output="screen"/></launch>')
    arguments = ["nohup" if nohup else "plain", "launch", str(file), "--log-dir", str(tmp_path / "log")]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", _LAUNCH, *arguments])
    count = tmp_path / "count"

    def counted() -> int:
        return int(count.read_text() or 0) if count.exists() else 0

    wait_until(lambda: counted() > 3, 20.0)
    child = int((tmp_path / "pid").read_text())
    os.close(terminal)  # the kernel sends SIGHUP, and every further write fails
    ended, status = 0, 0
    if nohup:
        before = counted()
        wait_until(lambda: counted() > before + 20)
        assert os.waitpid(pid, os.WNOHANG)[0] == 0
        os.kill(pid, signal.SIGINT)

    def over() -> bool:
        nonlocal ended, status
        ended, status = os.waitpid(pid, os.WNOHANG)
        return ended == pid

    wait_until(over, 10.0)
    assert os.WIFEXITED(status)
    assert not is_alive(child)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_what_is_written_to_a_closed_terminal_is_lost(tmp_path: Path, stream: str) -> None:
    code = (
        "import pathlib, signal, sys\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])\n"
        "from serl_launch.terminal import outlive_terminal\n"
        "outlive_terminal()\n"
        "print('up', flush=True)\n"
        "signal.sigwait([signal.SIGHUP])\n"
        f"for _ in range(3): print('lost', file=sys.{stream}, flush=True)\n"
        "pathlib.Path(sys.argv[1]).write_text('went on')\n"
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", code, str(tmp_path / "end")])
    assert b"up" in os.read(terminal, 100)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (tmp_path / "end").read_text() == "went on"
