# SPDX-License-Identifier: Apache-2.0
"""Log lines with text from outside: one printable line each, never an exception, never a flood."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serl_ros.log import DEBUG, ERROR, FATAL, INFO, WARN, clean, log


@given(st.text(st.characters(exclude_categories=())))
def test_what_is_cleaned_is_one_printable_line(text: str) -> None:
    line = clean(text)
    assert line.isprintable()
    line.encode()  # no surrogates
    if text.isprintable() and len(text) <= 500:
        assert line == text


def test_a_long_text_is_cut_off() -> None:
    assert len(clean("x" * 10**6)) < 600
    assert len(clean("\x1b" * 10**6)) < 4 * 600


def test_every_level_may_come_from_one_place(ros: Any, capfd: pytest.CaptureFixture[str]) -> None:
    node = ros.node()
    for level in (WARN, INFO, ERROR, FATAL, DEBUG, INFO, WARN):
        log(node, level, f"{level.name} {{}} %s\n\x1b[31m\ud800")
    written = capfd.readouterr()
    assert written.err.count("{} %s\\n\\x1b[31m\\ud800") + written.out.count("{} %s\\n\\x1b[31m\\ud800") == 6


def test_lines_of_one_kind_are_throttled_and_counted(ros: Any) -> None:
    node = ros.node()
    assert [log(node, WARN, f"text {n}", throttle=60.0) for n in range(5)] == [True, False, False, False, False]
    assert log(node, WARN, "another place", throttle=60.0)
    assert log(node, WARN, "a", throttle=60.0, key="a") and not log(node, ERROR, "b", throttle=60.0, key="a")
    assert log(ros.node("other"), WARN, "a", throttle=60.0, key="a")
