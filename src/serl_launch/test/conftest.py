# SPDX-License-Identifier: Apache-2.0
"""Launch files and installed packages that exist for one test."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest
from serl_launch.language.launch_plan import LaunchPlan, make_plan

sys.path.insert(0, str(Path(__file__).parent))  # the helper here

WriteLaunch = Callable[..., Path]
MakePlan = Callable[..., LaunchPlan]


@pytest.fixture
def write_launch(tmp_path: Path) -> WriteLaunch:
    """`write_launch(content)` writes `<launch>content</launch>`; line 1 of the content is line 1 of the file."""

    def write(content: str, name: str = "test.launch.xml") -> Path:
        path = tmp_path / name
        path.write_text(f"<launch>{content}</launch>", encoding="utf-8")
        return path

    return write


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """An install prefix with package `robot`, which has the executables `driver` and `planner`."""
    root = tmp_path / "prefix"
    marker = root / "share/ament_index/resource_index/packages/robot"
    for folder in (marker.parent, root / "share/robot", root / "lib/robot"):
        folder.mkdir(parents=True)
    marker.touch()
    for name in ("driver", "planner"):
        executable = root / "lib/robot" / name
        executable.write_text('#!/bin/sh\necho "$@"\n', encoding="utf-8")
        executable.chmod(0o755)
    return root


@pytest.fixture
def environment(prefix: Path) -> dict[str, str]:
    """The environment of a sourced workspace with package `robot`."""
    return {"PATH": os.environ["PATH"], "AMENT_PREFIX_PATH": str(prefix), "HOME": "/home/somebody"}


@pytest.fixture
def plan(write_launch: WriteLaunch, environment: dict[str, str], tmp_path: Path) -> MakePlan:
    """`plan(content, name=value, ...)` plans a launch file of that content with these arguments."""

    def make(content: str, **arguments: str) -> LaunchPlan:
        return make_plan(write_launch(content), arguments, environment, tmp_path / "params")

    return make


@pytest.fixture
def shell() -> Callable[..., str]:
    """`shell(script, attributes)` is an `<executable>` that runs a shell script."""

    def tag(script: str, attributes: str = "") -> str:
        quoted = script.replace("'", "'\"'\"'").replace("\\", "\\\\").replace("$(", "\\$(")
        command = quoteattr(f"sh -c '{quoted}'")
        return f"<executable cmd={command} {attributes}/>"

    return tag
