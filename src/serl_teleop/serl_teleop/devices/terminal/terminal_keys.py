# SPDX-License-Identifier: Apache-2.0
"""Which keys are held, by the bytes that a terminal sends.

A terminal that speaks kitty's keyboard protocol (progressive enhancement, flags 1 + 2 + 8) reports each key's press and
release, so that keys are held and released independently. Any other repeats the key that was pressed last, and says
nothing of a release: there a key counts as held for a moment after each of its bytes, and silence lets go.
"""

from __future__ import annotations

import re
from typing import Final

ENABLE: Final = b"\x1b[>11u\x1b[?u\x1b[?1004h"
"""Push flags 11, ask which are on, and report when the terminal loses the focus."""
DISABLE: Final = b"\x1b[?1004l\x1b[<u"
"""Undo `ENABLE`."""

HELD_AFTER_BYTE: Final = 0.2  # [s]; keys repeat every 20 to 100 ms, once they do

_KITTY = re.compile(rb"\x1b\[\?(\d{1,3})u")
_KEY = re.compile(rb"\x1b\[(\d{1,7})(?::\d{0,7}){0,2}(?:;(\d{0,3})(?::(\d))?)?(?:;[\d:]{0,24})?u")
_FOCUS = re.compile(rb"\x1b\[([IO])")
_OTHER = re.compile(rb"\x1b\[[0-?]{0,24}[@-~]|\x1bO[@-~]")  # arrows and the like
_BEGUN = re.compile(rb"\x1b(?:\[[0-?]*|O)?")
_LONGEST: Final = 48  # bytes of a sequence
_RELEASE: Final = 3
_CONTROL: Final = 4  # bit of the modifiers, which are sent plus 1
_NAMES: Final = {" ": "space", "\r": "enter", "\n": "enter", "\x7f": "backspace", "\b": "backspace", "\t": "tab"}


class TerminalKeys:
    """Follows the keys of one terminal.

    Attributes:
        reports_releases: whether the terminal has said that it reports them.
        interrupted: whether Ctrl-C was pressed, which such a terminal reports instead of making a signal of it.
    """

    def __init__(self) -> None:
        """Begin with no key held."""
        self.reports_releases = self.interrupted = False
        self._held: dict[str, float] = {}  # name, and local time of its newest byte
        self._pressed: set[str] = set()  # since they were asked for
        self._rest = b""  # beginning of a sequence

    def take(self, data: bytes, now: float) -> None:
        """Take in bytes of the terminal at the local time `now` [s, monotonic]."""
        data = self._rest + data
        self._rest = b""
        while data:
            length = self._take_sequence(data, now) if data.startswith(b"\x1b") else self._take_byte(data, now)
            if length == 0:  # more is to come
                self._rest = data
                return
            data = data[length:]

    def _take_byte(self, data: bytes, now: float) -> int:
        if data[0] == 3:
            self.interrupted = True
        elif data[0] < 0x80:
            self._press(chr(data[0]), now)
        return 1

    def _take_sequence(self, data: bytes, now: float) -> int:
        """Length of the escape sequence that `data` begins with; 0 where it has not ended."""
        if found := _KITTY.match(data):
            self.reports_releases = bool(int(found[1]) & 2)
            self._held.clear()
        elif found := _FOCUS.match(data):
            self._held.clear()  # releases are told to somebody else
        elif found := _KEY.match(data):
            self._take_key(int(found[1]), int(found[2] or 1) - 1, int(found[3] or 1), now)
        else:
            found = _OTHER.match(data)
        if found is not None:
            return found.end()
        begun = _BEGUN.match(data)
        length = 1 if begun is None else begun.end()
        # one that is broken off ends where it breaks: what comes next may be the release of a key
        return 0 if length == len(data) < _LONGEST else length

    def _take_key(self, code: int, modifiers: int, event: int, now: float) -> None:
        if not 0 < code < 0x80:
            return
        if modifiers & _CONTROL:
            self.interrupted |= chr(code) == "c"
        elif event == _RELEASE:
            self._held.pop(_name(chr(code)), None)
        else:
            self._press(chr(code), now)

    def _press(self, character: str, now: float) -> None:
        name = _name(character)
        self._held[name] = now
        self._pressed.add(name)

    def held(self, now: float) -> frozenset[str]:
        """Names of the keys that are held, or were pressed since the last call."""
        if not self.reports_releases:
            self._held = {name: at for name, at in self._held.items() if now - at <= HELD_AFTER_BYTE}
        held = frozenset(self._held) | self._pressed
        self._pressed = set()
        return held


def _name(character: str) -> str:
    return _NAMES.get(character, character.lower())
