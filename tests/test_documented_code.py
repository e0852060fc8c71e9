# SPDX-License-Identifier: Apache-2.0
"""The blocks of code in the documentation run, and its files load."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from documented_pages import PAGES, ROOT, PageError, blocks, followed, write

TESTS = Path(__file__).parent
# Blocks that are shown and not run: each with its reason, so that they stay few.
NOT_RUN = {
    "add_a_robot.md: a part of another robot's file",
    "agentlace.md: ./serl setup agentlace brings what it needs",
    "drivers.md: a part of a driver's file",
    "lerobot.md: it moves a real arm",
    "lerobot.md: minutes of training",
    "lerobot.md: minutes to hours of training",
    "lerobot.md: my_robot is a robot of yours",
    "metaworld.md: installs packages",
    "other_worlds.md: installs packages",
    "other_worlds.md: needs a virtual environment of its own",
    "other_worlds.md: the environment is one of the tests, which read this block",
    "other_worlds.md: the task is one of the tests",
    "security.md: needs a native ROS 2 with security plug-ins",
    "sweeps.md: ./serl setup ray brings what it needs",
    "tasks.md: a test runs it where Stable-Baselines3 is installed",
}


def pages(*, beside: bool) -> list[Any]:
    """Pages with blocks and without a test of their own, those that need a graph beside them or the others."""
    texts = {page: page.read_text(encoding="utf-8") for page in PAGES}
    texts = {page: text for page, text in texts.items() if not (TESTS / f"test_{page.stem}.py").exists()}
    chosen = [page for page, text in texts.items() if "\n```" in text and ("<!-- beside:" in text) is beside]
    return [parameter(page) for page in chosen]


def parameter(page: Path) -> Any:
    return pytest.param(page, id=page.stem)


@pytest.mark.parametrize("page", pages(beside=False))
def test_a_page_can_be_followed(page, checkout):
    checkout.follow(page)


@pytest.mark.slow
@pytest.mark.parametrize("page", pages(beside=True))
def test_a_page_can_be_followed_beside_what_it_starts(page, checkout, processes, tmp_path):
    for command in [command for block in followed(page) for command in block.beside]:
        program, *arguments = shlex.split(command)
        assert (program, arguments[0]) == ("./serl", "launch")
        processes.start("env", f"--chdir={tmp_path}", sys.executable, "-m", "serl_cli", *arguments)
    print(checkout.follow(page))


WITH_MODULES = [page for page in PAGES if re.search(r"\.py`[^`]*:\n\n```", page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", [parameter(page) for page in WITH_MODULES])
def test_what_a_page_writes_is_clean(page, checkout, monkeypatch):
    shutil.copy(ROOT / "pyproject.toml", checkout.root)
    monkeypatch.chdir(checkout.root)
    files = [write(block) for block in followed(page) if block.path and block.path.endswith(".py")]
    ruff = Path(sys.executable).parent / "ruff"
    result = subprocess.run([ruff, "check", *files], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout


def test_what_is_not_run_is_known():
    assert {
        f"{block.page.name}: {block.not_run}" for page in PAGES for block in blocks(page) if block.not_run
    } == NOT_RUN


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("Run this:\n\n```python\n1 / 0\n```\n", "ZeroDivisionError"),
        (
            "`config/tasks/mine.yaml`:\n\n```yaml\nname: mine\nextends: pick_cube\nhorizn: 3\n```\n",
            "unknown key 'horizn'",
        ),
        ("`launch/mine.launch.xml`:\n\n```xml\n<launch><nod/></launch>\n```\n", "nod"),
        ("`src/serl_rl/serl_rl/mine.py`:\n\n```python\nimport serl_rl.nothing\n```\n", "serl_rl.nothing"),
        ("`src/serl_rl/serl_rl/spec.py`:\n\n```diff\n-never written\n+now\n```\n", "found 0 times"),
    ],
    ids=["code", "task", "launch file", "import", "change"],
)
def test_a_page_that_is_wrong_fails(text, error, checkout):
    page = checkout.root / "docs" / "wrong.md"
    page.parent.mkdir()
    page.write_text(text)
    with pytest.raises(PageError, match=error):
        checkout.follow(page)


@pytest.mark.parametrize("text", ["```\nls\n```\n", "Without a path:\n\n```yaml\na: 1\n```\n"])
def test_a_block_says_what_it_is(text, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(PageError, match=r"page\.md:"):
        blocks(page)


def test_code_of_a_test_sees_what_a_page_has_written(checkout):
    page = checkout.root / "page.md"
    page.write_text("Write `src/serl_rl/serl_rl/policy/mine.py`:\n\n```python\nANSWER = 42\n```\n")
    checkout.follow(page)
    assert checkout.python("from serl_rl.policy.mine import ANSWER; print(ANSWER)") == "42\n"
