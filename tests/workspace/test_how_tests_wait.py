# SPDX-License-Identifier: Apache-2.0
"""Tests wait for what they are about, with a deadline. A time that is waited out decides nothing on a slow machine."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted([*(ROOT / "tests").rglob("*.py"), *ROOT.glob("src/*/test/**/*.py"), ROOT / "conftest.py"])
TIMELESS = {"lambda: False", "lambda: None"}


def waits_that_decide(tree: ast.AST, *, polls: bool = False) -> Iterator[int]:
    """Lines in which a time is waited out: a `sleep` that is not in a `while` loop, or a condition that never holds.

    Classes are stand-ins for what takes its time: cameras, clocks, nodes. Where an error is expected, it is what ends
    the wait.
    """
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="sleep", value=ast.Name(id="time" | "asyncio"))) if not polls:
                yield node.lineno
            case ast.Expr(value=ast.Call(func=ast.Attribute(attr="spin_until"), args=[condition, *_])):
                if ast.unparse(condition) in TIMELESS:
                    yield node.lineno
        raised = isinstance(node, ast.With) and any("pytest.raises" in ast.unparse(item) for item in node.items)
        if not isinstance(node, ast.ClassDef) and not raised:
            yield from waits_that_decide(node, polls=polls or isinstance(node, ast.While))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_test_decides_by_waiting_for_a_time(file):
    if file.name.startswith("stand_in_"):
        pytest.skip("takes the place of a process that takes its time")
    found = list(waits_that_decide(ast.parse(file.read_text(encoding="utf-8"))))
    assert found == []


@pytest.mark.parametrize(
    ("code", "decides"),
    [
        ("def test_a():\n    time.sleep(1)\n    assert True", True),
        ("def test_a():\n    for _ in range(9):\n        time.sleep(1)", True),
        ("def test_a():\n    node.spin_until(lambda: False, 2.0)", True),
        ("def wait():\n    while not condition():\n        time.sleep(0.01)", False),
        ("def test_a():\n    node.spin_until(lambda: messages, 2.0)", False),
        ("def test_a():\n    assert not node.spin_until(lambda: False, 0.1)", False),  # about the deadline itself
        ("class Camera:\n    def read(self):\n        time.sleep(0.01)", False),
    ],
)
def test_a_wait_that_decides_is_told_from_one_that_looks(code, decides):
    assert bool(list(waits_that_decide(ast.parse(code)))) is decides
