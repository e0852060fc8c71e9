# SPDX-License-Identifier: Apache-2.0
"""A serial port: one who has it, any number of open files, and buffers that are full."""

import fcntl
import os
import pty
import subprocess
import sys
import termios
import tty
from collections.abc import Iterator

import pytest
from serl_feetech.bus import Bus
from serl_feetech.emulated.bus import EmulatedBus
from serl_feetech.emulated.pseudo_terminal import PseudoTerminal
from serl_feetech.emulated.servo import EmulatedServo
from serl_feetech.errors import PortError
from serl_feetech.port import SerialPort

TIOCGEXCL = 0x80045440  # of Linux: whether a terminal is exclusive; the module termios lacks it
LOCK = """
import fcntl, os, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def ends() -> Iterator[tuple[int, str]]:
    """A pseudo-terminal's other end, and the path of the port."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    yield master, os.ttyname(slave)
    os.close(slave)
    os.close(master)


def test_a_port_has_one_user_and_the_next_one_after_it_is_closed(ends):
    path = ends[1]
    first = SerialPort(path)
    with pytest.raises(PortError, match=rf"{path}: another process uses it"):
        SerialPort(path)
    os.write(ends[0], b"abc")
    assert first.read(5.0) == b"abc", "the second one has taken nothing away"
    first.close()
    SerialPort(path).close()


def test_a_port_that_another_process_has_locked_is_refused_until_that_one_is_killed(ends):
    path = ends[1]
    with subprocess.Popen(
        [sys.executable, "-c", LOCK, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        try:
            assert other.stdout.readline() == "locked\n"
            with pytest.raises(PortError, match=rf"{path}: another process uses it"):
                SerialPort(path)
        finally:
            other.kill()
    SerialPort(path).close()


def test_a_real_port_is_exclusive_and_a_pseudo_terminal_is_not(ends, monkeypatch):
    def exclusive() -> bool:
        return fcntl.ioctl(port._file, TIOCGEXCL, b"\0" * 4) != b"\0" * 4

    path = ends[1]
    port = SerialPort(path)
    assert not exclusive()
    port.close()
    monkeypatch.setattr(os, "ttyname", lambda _: "/dev/ttyACM0")
    port = SerialPort(path)
    assert exclusive()
    fcntl.ioctl(port._file, termios.TIOCNXCL)
    port.close()


def test_a_port_works_beyond_a_thousand_open_files(ends, a_thousand_files):
    port = SerialPort(ends[1])
    port.write(b"ping")
    assert os.read(ends[0], 10) == b"ping"
    os.write(ends[0], b"pong")
    assert port.read(5.0) == b"pong"
    assert port.read(0.0) == b""
    port.close()


def test_an_emulated_bus_works_beyond_a_thousand_open_files(a_thousand_files):
    with PseudoTerminal(EmulatedBus([EmulatedServo(7)])) as terminal:
        port = SerialPort(terminal.path)
        Bus(port, {7: "wrist"}, timeout=5.0).ping(7)
        port.close()


def test_a_buffer_that_is_full_for_a_moment_is_waited_for(ends, monkeypatch):
    port, write, refusals = SerialPort(ends[1]), os.write, iter(range(3))

    def full_at_first(file: int, data: bytes) -> int:
        if next(refusals, None) is not None:
            raise BlockingIOError
        return write(file, data)

    monkeypatch.setattr(os, "write", full_at_first)
    port.write(b"ping")
    assert os.read(ends[0], 10) == b"ping"
    port.close()


def test_a_port_that_takes_nothing_is_said_to_and_so_is_one_that_is_closed(ends):
    port = SerialPort(ends[1])
    with pytest.raises(PortError, match=r"it has taken no bytes for 0\.5 s"):
        port.write(bytes(1_000_000))
    port.close()
    for use in (lambda: port.write(b"ping"), lambda: port.read(0.0)):
        with pytest.raises(PortError, match=r"it is closed$"):
            use()
