# SPDX-License-Identifier: Apache-2.0
"""Text from outside as it is shown: one line without commands to the terminal, and no more of it than is of use."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serl_config.text import escaped, printable, shown

ANY_TEXT = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\tb\n\x1b[0m\u202e\udc80\u2028é 中", "a\\tb\\n\\x1b[0m\\u202e\\x80\\u2028é 中"),
        ("\ud800\udcff\udd00", "\\ud800\\xff\\udd00"),
        ("a\xa0b\u3000", "a\\xa0b\\u3000"),
        (OSError("gone"), "gone"),
    ],
)
def test_what_is_not_printable_becomes_its_escape(text: object, line: str) -> None:
    assert printable(text) == line


@given(ANY_TEXT)
def test_any_text_becomes_one_printable_line(text: str) -> None:
    line = printable(text)
    assert line.isprintable()
    line.encode()  # no surrogates
    if text.isprintable():
        assert line == text


@pytest.mark.parametrize("character", ["x", "\x1b", "\U0010ffff"])
def test_of_a_long_text_the_middle_is_left_out(character: str) -> None:
    line = printable("begin" + character * 10**6 + "end", 20)
    assert line.startswith("begin") and " ... " in line and line.endswith("end") and len(line) <= 25


@given(ANY_TEXT)
def test_what_is_kept_is_kept(text: str) -> None:
    assert escaped(text, keep="\n").split("\n") == [escaped(line) for line in text.split("\n")]


def test_a_value_is_shown_with_its_type() -> None:
    assert [shown(None), shown("a\n"), shown([1])] == ["nothing", "str 'a\\n'", "list [1]"]
    assert len(shown("x" * 1000)) == 80
