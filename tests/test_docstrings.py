# SPDX-License-Identifier: Apache-2.0
"""Docstrings say the shapes of arrays, and stand by themselves."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(path.relative_to(ROOT) for path in ROOT.glob("src/serl_*/serl_*/**/*.py"))

# `(n, 3)`, `(n + 1, ...)`, `()`, `float64[n, 3]`, "scalar".
_AXIS = r"(?:\*?\w+|\.\.\.)(?:\s*[-+*/]\s*\w+)*"
SHAPE = re.compile(
    rf"\(\s*\)|\({_AXIS},\s*(?:{_AXIS}(?:,\s*{_AXIS})*,?)?\s*\)|\b(?:float|int|uint|bool)\d*\[[^\]]+\]|\bscalars?\b"
)
ARRAY = re.compile(r"\b(?:NDArray|ndarray|jax\.Array|ArrayLike|Joints)\b")
# Arrays by name have the shapes that go with their names.
NAMED_ARRAYS = re.compile(r"\b(?:Mapping|dict)\[str, (?:NDArray\[[^\]]*\]|np\.ndarray|jax\.Array)\]")
# How the rest of a sentence begins whose first half is the name. None are "In real time: ..." and "From here to there."
FRAGMENT = re.compile(
    r"(?:Of|As|In(?! lockstep| real time)|At|By|For|From(?!.*\bto\b)|On|To|With|That|Than|And|But|Or|Into|Under|Among"
    r"|Above|The same)\b(?![\w ]{0,20}:)"
)


class Docstring(NamedTuple):
    """A docstring, or the text below an attribute."""

    line: int
    owner: str
    text: str


def documented(tree: ast.Module) -> Iterator[Docstring]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield Docstring(node.body[0].lineno, getattr(node, "name", "the module"), text)
        if isinstance(node, ast.Module | ast.ClassDef):
            for before, after in zip(node.body, node.body[1:], strict=False):
                match before, after:
                    case (ast.AnnAssign() | ast.Assign(), ast.Expr(value=ast.Constant(value=str(text)))):
                        yield Docstring(after.lineno, ast.unparse(before).partition(" ")[0].rstrip(":"), text)


def public_functions(body: list[ast.stmt], of: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            if isinstance(node, ast.ClassDef):
                yield from public_functions(node.body, f"{node.name}.")
            else:
                yield of + node.name, node


def takes_or_gives_arrays(function: ast.FunctionDef) -> bool:
    arguments = function.args
    annotated = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    annotations = [argument.annotation for argument in annotated] + [function.returns]
    text = "; ".join(ast.unparse(annotation) for annotation in annotations if annotation is not None)
    return is_array(text)


def is_array(annotation: str) -> bool:
    return ARRAY.search(NAMED_ARRAYS.sub("", annotation)) is not None


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"))


@cache
def shaped_methods() -> set[str]:
    """Names of functions of which some say a shape: for those that begin with "See" and name another."""
    found = set()
    for file in FILES:
        for name, function in public_functions(parsed(file).body):
            if SHAPE.search(ast.get_docstring(function) or ""):
                found.add(name.rpartition(".")[2])
    return found


@pytest.mark.parametrize("file", FILES, ids=str)
def test_functions_of_arrays_say_a_shape(file):
    silent = []
    for name, function in public_functions(parsed(file).body):
        text = ast.get_docstring(function) or ""
        refers = re.search(r"\b[Ss]ee (?::\w+:)?`", text) is not None and name.rpartition(".")[2] in shaped_methods()
        if takes_or_gives_arrays(function) and not SHAPE.search(text) and not refers:
            silent.append(f"{file}:{function.lineno} {name}")
    assert silent == []


@pytest.mark.parametrize("file", FILES, ids=str)
def test_attributes_that_are_arrays_say_a_shape(file):
    """In the text below them, in a comment behind them, or in the docstring of their class."""
    lines, silent = (ROOT / file).read_text(encoding="utf-8").splitlines(), []
    texts = {(entry.owner, entry.line): entry.text for entry in documented(parsed(file))}
    for owner in [node for node in ast.walk(parsed(file)) if isinstance(node, ast.ClassDef)]:
        if owner.name.startswith("_") or SHAPE.search(ast.get_docstring(owner) or ""):
            continue
        for field in [node for node in owner.body if isinstance(node, ast.AnnAssign)]:
            name, end = ast.unparse(field.target), field.end_lineno or field.lineno
            said = texts.get((name, end + 1), "") + lines[field.lineno - 1].partition("#")[2]
            if is_array(ast.unparse(field.annotation)) and not name.startswith("_") and not SHAPE.search(said):
                silent.append(f"{file}:{field.lineno} {owner.name}.{name}")
    assert silent == []


def raised(node: ast.AST) -> Iterator[str]:
    """Names of the errors that a function raises itself, without those that it may catch."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Raise) and child.exc is not None:
            error = ast.unparse(child.exc.func if isinstance(child.exc, ast.Call) else child.exc).rpartition(".")[2]
            if error[0].isupper():
                yield error
        elif isinstance(child, ast.Try) and child.handlers:
            for part in [*child.handlers, *child.orelse, *child.finalbody]:
                yield from raised(part)
        elif not isinstance(child, ast.FunctionDef | ast.Lambda):
            yield from raised(child)


LIBRARIES = [
    file
    for file in FILES
    if file.parts[1] not in {"serl_cli", "serl_bench"} and file.parts[3] != "benchmarks" and "_node" not in file.name
]


@pytest.mark.parametrize("file", LIBRARIES, ids=str)
def test_errors_that_are_raised_are_named(file):
    """In libraries; commands, benchmarks and nodes tell a person."""
    unnamed = []
    for name, function in public_functions(parsed(file).body):
        text = ast.get_docstring(function) or ""
        missing = {error for error in raised(function) if error not in text} - {"SystemExit"}
        if missing and not text.startswith("See "):
            unnamed.append(f"{file}:{function.lineno} {name}: {', '.join(sorted(missing))}")
    assert unnamed == []


@pytest.mark.parametrize("file", FILES, ids=str)
def test_docstrings_stand_by_themselves(file):
    fragments = [entry for entry in documented(parsed(file)) if FRAGMENT.match(entry.text)]
    assert [f"{file}:{line} {owner}: {text.splitlines()[0]}" for line, owner, text in fragments] == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Actions (B, A) in [-1, 1].", True),
        ("Rewards (n,).", True),
        ("int32 ().", True),
        ("Velocity float64[6] [m/s].", True),
        ("Minibatches (n_steps, utd_ratio, B, ...) of them.", True),
        ("Positions [rad] of the joints (of an arm).", False),
        ("The loss (arXiv 1812.05905).", False),
    ],
)
def test_a_shape_is_told_from_other_brackets(text, says):
    assert (SHAPE.search(text) is not None) == says


@pytest.mark.parametrize(
    ("text", "is_one"),
    [("Of its transitions.", True), ("The same of a reward.", True), ("In real time: no motion.", False),
     ("Offset of the camera.", False), ("Asks the graph.", False)],
)  # fmt: skip
def test_a_fragment_is_told_from_a_sentence(text, is_one):
    assert (FRAGMENT.match(text) is not None) == is_one
