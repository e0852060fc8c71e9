# SPDX-License-Identifier: Apache-2.0
"""What a person may set is read by somebody: parameters of nodes, keys of files, options of commands, launch arguments.

Only the source is looked at. Who sets something that nothing reads is told nothing, and believes that it helped.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import pytest

NEEDLESS_IN_ACT = (
    "license",
    "n_obs_steps",
    "pretrained_backbone_weights",
    "pretrained_path",
    "private",
    "push_to_hub",
    "repo_id",
    "tags",
    "use_amp",
    "use_peft",
)
SOURCES = Path(__file__).resolve().parents[2] / "src"
# Keys of files that others define, which we accept and do not need.
FORMAT_OF_OTHERS = {"Calibration.camera_name", *(f"ActConfig.{name}" for name in NEEDLESS_IN_ACT)}


@cache
def trees() -> dict[str, ast.Module]:
    """The syntax tree of every module, by its path in `src`."""
    files = sorted(SOURCES.glob("serl_*/serl_*/**/*.py"))
    return {str(file.relative_to(SOURCES)): ast.parse(file.read_text(encoding="utf-8")) for file in files}


def loads(tree: ast.AST) -> list[str]:
    """Names and attributes that are read, as often as they are."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            found.append(node.id if isinstance(node, ast.Name) else node.attr)
    return found


@cache
def all_attributes() -> frozenset[str]:
    """Names of all attributes that are read anywhere."""
    nodes = (node for tree in trees().values() for node in ast.walk(tree))
    return frozenset(n.attr for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Load))


def is_declaration(node: ast.AST) -> bool:
    """Whether it is a call of `serl_ros.parameters.declare`."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "declare"


def unread_parameters() -> Iterator[str]:
    for name, tree in trees().items():
        read = loads(tree)
        for statement in ast.walk(tree):
            if isinstance(statement, ast.Expr) and is_declaration(statement.value):
                yield f"{name}:{statement.lineno}"
            elif isinstance(statement, ast.Assign) and is_declaration(statement.value):
                for target in statement.targets:
                    word = getattr(target, "attr", None) or getattr(target, "id", None)
                    if (
                        word is not None and word not in read
                    ):  # else it is an entry of something that is read as a whole
                        yield f"{name}:{statement.lineno}: {word}"


def test_every_parameter_of_a_node_is_read():
    assert sum(is_declaration(node) for tree in trees().values() for node in ast.walk(tree)) > 50
    assert not list(unread_parameters())


def reads_a_file(decorator: ast.AST) -> bool:
    """Whether it is `@config(...)` of `serl_config.schema`, or pydantic's `@dataclass(config=...)`."""
    keywords = decorator.keywords if isinstance(decorator, ast.Call) else []
    return "config" in loads(decorator) or any(keyword.arg == "config" for keyword in keywords)


def keys_of_files() -> Iterator[str]:
    """`Class.key` of all classes that are read from files."""
    for tree in trees().values():
        for node in ast.walk(tree):
            decorators = node.decorator_list if isinstance(node, ast.ClassDef) else []
            if not any(reads_a_file(decorator) for decorator in decorators):
                continue
            for line in node.body:
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                    yield f"{node.name}.{line.target.id}"


def test_every_key_of_a_file_is_read():
    keys = set(keys_of_files())
    assert {"Task.horizon", "LearningConfig.agent", "EnvironmentMapping.teacher_noise"} <= keys
    unread = {key for key in keys if key.partition(".")[2] not in all_attributes()}
    assert unread == FORMAT_OF_OTHERS


def unread_options() -> Iterator[str]:
    for name, tree in trees().items():
        if not name.startswith("serl_cli/serl_cli/commands/"):
            continue
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef):
                continue
            read = {word for statement in function.body for word in loads(statement)}
            for argument in (*function.args.args, *function.args.kwonlyargs):
                if argument.arg not in read and not (function.name.startswith("complete_") or argument.arg == "self"):
                    yield f"{name}:{argument.lineno}: {argument.arg} of {function.name}"


def test_every_option_of_a_command_is_read():
    assert not list(unread_options())


@pytest.mark.parametrize("file", sorted(SOURCES.glob("serl_bringup/launch/*.xml")), ids=lambda file: file.name)
def test_every_argument_of_a_launch_file_is_read(file: Path):
    """Or has one choice alone: an included file's argument, of which this file refuses all other values."""
    text = file.read_text(encoding="utf-8")
    elements = ElementTree.fromstring(text).findall("arg")
    arguments = [element.get("name") for element in elements if len(element.findall("choice")) != 1]
    assert not [name for name in arguments if f"$(var {name})" not in text]
