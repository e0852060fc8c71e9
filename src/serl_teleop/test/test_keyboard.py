# SPDX-License-Identifier: Apache-2.0
"""Keys as terminals report them, through a pseudo-terminal, to what a hand means."""

import os
import select
import sys
import termios

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serl_teleop.devices.device import REST, DeviceError
from serl_teleop.devices.terminal.keyboard import KEYS, Keyboard
from serl_teleop.devices.terminal.terminal_keys import DISABLE, ENABLE, HELD_AFTER_BYTE, TerminalKeys

KITTY = b"\x1b[?11u"


def event(key: str, kind: int, modifiers: int = 1) -> bytes:
    return f"\x1b[{ord(key)};{modifiers}:{kind}u".encode()


def press(key: str) -> bytes:
    return event(key, 1)


def release(key: str) -> bytes:
    return event(key, 3)


class Terminal:
    def __init__(self) -> None:
        self.master, self.slave = os.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.keyboard = Keyboard(self.slave)
        assert self.told() == ENABLE

    def told(self) -> bytes:
        return os.read(self.master, 1024)

    def twist(self, data: bytes, now: float = 1.0):
        os.write(self.master, data)
        return self.keyboard.read(now).twist


@pytest.fixture
def terminal():
    terminal = Terminal()
    yield terminal
    terminal.keyboard.close()
    os.close(terminal.slave)
    os.close(terminal.master)


def test_where_releases_are_reported_a_released_key_does_not_cancel_a_held_one(terminal):
    assert terminal.twist(KITTY) == REST
    assert terminal.twist(press("w") + press("a"))[:2] == (1.0, 1.0)
    assert terminal.twist(b"", 100.0)[:2] == (1.0, 1.0), "for as long as they are held"
    assert terminal.twist(release("a"), 100.1)[:2] == (1.0, 0.0)
    assert terminal.twist(press("s"), 100.2)[0] == 0.0, "against each other"
    assert terminal.twist(release("w"), 100.3)[0] == -1.0
    assert terminal.twist(release("s"), 100.4) == REST


def test_a_terminal_that_loses_the_focus_lets_go_of_everything(terminal):
    assert terminal.twist(KITTY + press("w"))[0] == 1.0
    assert terminal.twist(b"\x1b[O") == REST


def test_any_other_terminal_lets_go_when_it_falls_silent(terminal):
    now = 1.0
    for _ in range(20):
        now += 0.05
        assert terminal.twist(b"w", now)[0] == 1.0
    assert terminal.twist(b"", now + HELD_AFTER_BYTE - 0.01)[0] == 1.0
    assert terminal.twist(b"", now + HELD_AFTER_BYTE + 0.01) == REST


def test_keys_that_move_nothing_are_buttons(terminal):
    os.write(terminal.master, b" x\x7f\rw\x1b[A")
    assert terminal.keyboard.read(1.0).buttons == {"space", "x", "backspace", "enter"}


def test_a_press_that_is_over_before_anybody_looks_is_seen_once(terminal):
    os.write(terminal.master, KITTY + press(" ") + release(" "))
    assert terminal.keyboard.read(1.0).buttons == {"space"}
    assert terminal.keyboard.read(1.1).buttons == frozenset()


def test_ctrl_c_ends_the_program_as_ever(terminal):
    with pytest.raises(KeyboardInterrupt):
        terminal.twist(KITTY + event("c", 1, modifiers=5))


def test_a_closed_terminal_is_named():
    terminal = Terminal()
    os.close(terminal.master)
    with pytest.raises(DeviceError, match="terminal closed"):
        terminal.keyboard.read(1.0)
    terminal.keyboard.close()
    os.close(terminal.slave)


def test_the_terminal_is_left_as_it_was(terminal):
    terminal.keyboard.close()
    terminal.keyboard.close()
    assert terminal.told() == DISABLE
    assert termios.tcgetattr(terminal.slave) == terminal.before


def test_a_file_is_no_keyboard(tmp_path):
    with (tmp_path / "file").open("w+b") as file, pytest.raises(DeviceError, match="no terminal"):
        Keyboard(file.fileno())


@pytest.mark.parametrize("closed", [False, True])
def test_a_process_without_standard_input_has_no_keyboard(tmp_path, monkeypatch, closed):
    file = (tmp_path / "file").open("w+")
    file.close()
    monkeypatch.setattr(sys, "stdin", file if closed else None)
    with pytest.raises(DeviceError, match="no terminal"):
        Keyboard()


def test_ctrl_s_does_not_stop_what_the_node_says(terminal):
    os.write(terminal.master, b"\x13")
    terminal.keyboard.read(1.0)
    poll = select.poll()
    poll.register(terminal.slave, select.POLLOUT)
    assert poll.poll(0)


def test_keys_are_heard_beyond_a_thousand_open_files(a_thousand_files):
    terminal = Terminal()
    assert terminal.keyboard.fileno() > 1023
    assert terminal.twist(KITTY + press("w"))[0] == 1.0
    terminal.keyboard.close()
    os.close(terminal.slave)
    os.close(terminal.master)


@pytest.mark.parametrize(
    "broken", [b"\x1b", b"\x1b[", b"\x1b[1;1", b"\x1b[1;1\x18", b"\x1b[?2026;2$y", b"\x1bO", b"\x1b\x1b"]
)
def test_a_sequence_that_is_broken_off_takes_no_release_with_it(broken):
    keys = TerminalKeys()
    keys.take(KITTY + press("w"), 1.0)
    keys.held(1.0)
    keys.take(broken, 1.1)
    keys.take(release("w"), 1.2)
    keys.take(event("c", 1, modifiers=5), 1.3)
    keys.held(1.3)
    assert "w" not in keys.held(1.4)
    assert keys.interrupted


@given(st.binary(max_size=200), st.integers(1, 20))
def test_bytes_of_any_kind_are_no_error_however_they_are_cut(data, size):
    keys = TerminalKeys()
    for begin in range(0, len(data), size):
        keys.take(data[begin : begin + size], 1.0)
        keys.held(1.0)


@given(
    st.lists(st.tuples(st.sampled_from(sorted(KEYS)), st.booleans()), max_size=30),
    st.integers(1, 7),
)
def test_what_is_held_is_what_was_pressed_and_not_released(events, size):
    keys = TerminalKeys()
    data = KITTY + b"".join(press(key) if down else release(key) for key, down in events)
    for begin in range(0, len(data), size):
        keys.take(data[begin : begin + size], 1.0)
    keys.held(1.0)
    held = set()
    for key, down in events:
        (held.add if down else held.discard)(key)
    assert keys.held(1000.0) == held
