# SPDX-License-Identifier: Apache-2.0
"""The `$(name argument ...)` language inside launch files: its parser.

Rules as upstream's grammar has them: arguments are parted by one space, quotes keep spaces together, a backslash takes
the next character as it is, and `$` is only special before `(`. What the names mean is in `functions.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from serl_config.text import printable

DEPTH_LIMIT = 32
"""Most substitutions within each other."""

_SHOWN = 200
"""Longest text in an error [characters]."""


@dataclass(frozen=True)
class Text:
    """Literal text, escapes already taken away."""

    text: str


@dataclass(frozen=True)
class Call:
    """`$(name argument ...)`; each argument is again a template."""

    name: str
    arguments: tuple[Template, ...]


Template = tuple[Text | Call, ...]


class SubstitutionSyntaxError(ValueError):
    """Text that is not a template; says what was expected and at which column (from 1)."""


def parse_template(text: str) -> Template:
    """Parse the text of an attribute. Raises SubstitutionSyntaxError."""
    parser = _Parser(text)
    template = parser.template()
    if not parser.at_end:
        raise parser.error("the end of the text")
    return template


class _Parser:
    """Recursive descent over the text of one attribute.

    `quote` is the quotation mark that the current position lies within, "" outside of any. It is handed down into
    nested substitutions, because inside of quotes no other quotation can be opened.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._depth = 0

    @property
    def at_end(self) -> bool:
        return self._position >= len(self._text)

    def error(self, expected: str) -> SubstitutionSyntaxError:
        found = "the end" if self.at_end else f"'{printable(self._text[self._position :], _SHOWN)}'"
        return SubstitutionSyntaxError(
            f'expected {expected} at column {self._position + 1} of "{printable(self._text, _SHOWN)}", found {found}'
        )

    def template(self, quote: str = "") -> Template:
        """Text and substitutions up to the end, or up to the closing quotation mark."""
        return self._parts(stop=quote, quote=quote)

    def _parts(self, *, stop: str, quote: str) -> Template:
        parts: list[Text | Call] = []
        literal: list[str] = []
        while not self.at_end and self._text[self._position] not in stop:
            if self._text.startswith("$(", self._position):
                if literal:
                    parts.append(Text("".join(literal)))
                    literal.clear()
                parts.append(self._call(quote))
            else:
                literal.append(self._character(stop))
        if literal:
            parts.append(Text("".join(literal)))
        return tuple(parts)

    def _character(self, stop: str) -> str:
        """The next literal text, its escape taken away.

        As upstream: a backslash before a space that parts two arguments stays a backslash, and a `$`, `(` or `)` is
        literal behind any backslash, be that one escaped itself.
        """
        character, following, third = (self._text[self._position + i : self._position + i + 1] for i in range(3))
        if character == "\\" and following not in ("", "\n") and not (following == " " and " " in stop):
            self._position += 2
            if following == "\\" and third in ("$", "(", ")"):
                self._position += 1
                return following + third
            return following
        self._position += 1
        return character

    def _call(self, quote: str) -> Call:
        self._position += len("$(")
        start = self._position
        while not self.at_end and _is_name_character(self._text[self._position], first=self._position == start):
            self._position += 1
        name = self._text[start : self._position]
        if not name:
            raise self.error("the name of a substitution")
        self._depth += 1
        if self._depth > DEPTH_LIMIT:
            raise SubstitutionSyntaxError(f"substitutions nested more than {DEPTH_LIMIT} deep")
        arguments: list[Template] = []
        while self._take(" "):
            arguments.append(self._argument(quote))
        self._depth -= 1
        if not self._take(")"):
            raise self.error(f"')' or one space and an argument of $({name} ...)")
        return Call(name, tuple(arguments))

    def _argument(self, quote: str) -> Template:
        if not quote:
            for mark in "'\"":
                if self._take(mark):
                    template = self.template(mark)
                    if not self._take(mark):
                        raise self.error(f"the closing {mark}")
                    return template
        template = self._parts(stop=" ()" + (quote or "'\""), quote=quote)
        if not template:
            raise self.error("an argument")
        return template

    def _take(self, character: str) -> bool:
        if self._text.startswith(character, self._position):
            self._position += 1
            return True
        return False


def _is_name_character(character: str, *, first: bool) -> bool:
    if not character.isascii():
        return False
    return character.isalpha() if first else character.isalnum() or character in "_-"
