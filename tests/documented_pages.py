# SPDX-License-Identifier: Apache-2.0
"""A page of the documentation, followed to the letter: its files are written, its code runs, in order.

Each fenced block says in its language what becomes of it:

| language | what is done with it |
|---|---|
| `python` | runs, all blocks of a page in one namespace; a *file* is written and imported |
| `yaml`, `xml` | a *file*, read as the workspace reads what lies in its folder of `config/`, `launch/` or `urdf/` |
| `diff` | changes a *file*: what stands behind ` ` and `-` is found once, and becomes what stands behind ` ` and `+` |
| `bash` | every line is a command that the command line takes (tests/test_documented_commands.py) |
| `text`, `mermaid` | for people only |

A block is a *file* where the line before it ends with a colon and names a path last: "Write `config/tasks/mine.yaml`:".
A YAML file that is there already keeps the keys that the block does not name. Directly above a block may stand

    <!-- not run: why -->                   it is shown only
    <!-- beside: ./serl launch ...; ... --> these commands are started first, and ended after the page
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
LANGUAGES = {"python", "yaml", "xml", "diff", "bash", "text", "mermaid"}
FILES = {"yaml", "xml", "diff"}

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- (not run|beside): (.+?) -->\s*\Z")
_CAPTION = re.compile(r"`((?:config|launch|src|urdf)/[\w./-]+\.\w+)`[^`]*:\s*\Z")


class PageError(ValueError):
    """A page cannot be followed."""


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str
    path: str | None
    """Of the file that it is or changes, relative to the checkout."""
    not_run: str | None
    beside: tuple[str, ...]
    """Commands that run meanwhile."""

    @property
    def place(self) -> str:
        """Page and line, as compilers say it."""
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """Fenced blocks of a page, in order.

    Raises:
        PageError: a block names no language of the table above, or is a file without a path.
    """
    text, found = page.read_text(encoding="utf-8"), []
    for match in _FENCE.finditer(text):
        before = text[: match.start()]
        mark = _MARK.search(before)
        caption = _CAPTION.search(before[: mark.start()] if mark else before)
        path, language = caption[1] if caption else None, match[1]
        not_run = mark[2] if mark and mark[1] == "not run" else None
        beside = tuple(mark[2].split("; ")) if mark and mark[1] == "beside" else ()
        block = Block(page, before.count("\n") + 1, language, match[2], path, not_run, beside)
        if language not in LANGUAGES:
            raise PageError(f"{block.place}: expected a language of {sorted(LANGUAGES)}, found '{language}'")
        if language in FILES and path is None and block.not_run is None:
            raise PageError(f"{block.place}: no line before it ends with the path of the file and a colon")
        found.append(block)
    return found


def followed(page: Path) -> list[Block]:
    """The blocks of a page that are files or code, without those that say why they are not run."""
    return [block for block in blocks(page) if block.language in FILES | {"python"} and block.not_run is None]


class Checkout:
    """A copy of the workspace's sources, in which a page is followed as a stranger would."""

    def __init__(self, folder: Path) -> None:
        """Copy the sources into `folder`."""
        self.root = folder
        for package in (ROOT / "src").glob("serl_*"):
            shutil.copytree(package, folder / "src" / package.name, ignore=shutil.ignore_patterns("test"))
        for name in ("launch", "config", "urdf"):
            (folder / name).symlink_to(f"src/serl_bringup/{name}")

    @property
    def environment(self) -> dict[str, str]:
        """Environment in which Python finds the packages, and the packages their files, in this copy."""
        packages = [str(package) for package in sorted((self.root / "src").glob("serl_*"))]
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([*packages, os.environ.get("PYTHONPATH", "")]),
            "SERL_SHARE": str(self.root),
            "JAX_PLATFORMS": "cpu",
        }

    def follow(self, page: Path, timeout: float = 100.0) -> str:
        """Follow a page in a process of its own; return what its code printed.

        Raises:
            PageError: with the output, if a block fails.
        """
        return self._run(str(Path(__file__).resolve()), str(page), timeout=timeout)

    def python(self, code: str, timeout: float = 100.0) -> str:
        """Run code of a test in this copy, after a page was followed; return what it printed. Raises PageError."""
        return self._run("-c", code, timeout=timeout)

    def _run(self, *arguments: str, timeout: float) -> str:
        result = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.root,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
        if result.returncode:
            raise PageError(f"exit status {result.returncode}:\n{result.stdout[-4000:]}")
        return result.stdout


def write(block: Block) -> Path:
    """Write, complete or change the file of a block, in the current folder.

    Raises:
        PageError: what a `diff` gives way to is not there, or there more than once.
    """
    file = Path(str(block.path))
    text = block.text
    if block.language == "diff":
        lines = [line if line.strip() else " \n" for line in text.splitlines(keepends=True)]
        old, new = ("".join(line[1:] for line in lines if line[0] in f" {sign}") for sign in "-+")
        present = file.read_text(encoding="utf-8")
        if present.count(old) != 1:
            raise PageError(f"{block.place}: expected once in {file}, found {present.count(old)} times:\n{old}")
        text = present.replace(old, new)
    elif block.language == "yaml" and file.exists():
        import yaml

        keys = yaml.safe_load(file.read_text(encoding="utf-8")) | yaml.safe_load(text)
        text = yaml.safe_dump(keys, sort_keys=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def load(file: Path) -> None:
    """Read a file of `config/`, `launch/` or `urdf/` with the loader that the workspace reads it with."""
    match file.parts[:2]:
        case ("config", folder):
            _LOADERS[folder](file)
        case ("launch", _):
            from serl_launch.language.launch_plan import make_plan

            make_plan(file, {}, os.environ, Path("params"))
        case ("urdf", _):
            import xml.etree.ElementTree as ET

            ET.parse(file)


def _load_task(file: Path) -> None:
    from serl_tasks import get_task

    get_task(file.stem)


def _load_robot(file: Path) -> None:
    from serl_robots.model.kinematics import Kinematics
    from serl_robots.model.robot import load_robot

    Kinematics(load_robot(file.stem))


def _load_world(file: Path) -> None:
    from serl_sim.scene.world_file import load_world_file

    load_world_file(file.stem)


def _load_learning(file: Path) -> None:
    from serl_config.schema import load_yaml
    from serl_rl.config import LearningConfig

    load_yaml(file, LearningConfig)


def _load_recipe(file: Path) -> None:
    from serl_cli.work.encoder_recipe import load_recipe

    load_recipe(str(file))


def _load_camera(file: Path) -> None:
    """The node refuses values; that it has parameters of these names is told here."""
    import serl_cameras.camera_node
    from serl_cameras.make_source import SOURCES
    from serl_config.schema import read_yaml

    source = Path(serl_cameras.camera_node.__file__).read_text(encoding="utf-8")
    declared = set(re.findall(r'declare\(\s*self,\s*"(\w+)"', source))
    given = read_yaml(file)[0]["/**"]["ros__parameters"]
    if not set(given) <= declared:
        raise PageError(f"{file}: the node camera has no parameter {', '.join(sorted(set(given) - declared))}")
    if given.get("source", "v4l2") not in SOURCES:
        raise PageError(f"{file}: the node camera knows no source {given['source']}")


def _load_driver(file: Path) -> None:
    from serl_drivers.config import load_driver
    from serl_drivers.device_kinds import make_device
    from serl_robots.model.robot import load_robot

    driver = load_driver(file.stem)
    make_device(driver.device, load_robot(driver.robot), driver.settings, str(file))


def _load_sweep(file: Path) -> None:
    from serl_cli.sweep.settings import read_sweep

    read_sweep(file)


_LOADERS: dict[str, Callable[[Path], None]] = {
    "tasks": _load_task,
    "robots": _load_robot,
    "worlds": _load_world,
    "learning": _load_learning,
    "encoders": _load_recipe,
    "cameras": _load_camera,
    "drivers": _load_driver,
    "sweeps": _load_sweep,
}


def import_file(file: Path) -> None:
    """Import the module of a file `src/PACKAGE/PACKAGE/...`, as others will; a setup.py is only compiled."""
    if file.name == "setup.py":
        compile(file.read_text(encoding="utf-8"), str(file), "exec")
        return
    name = ".".join(file.with_suffix("").parts[2:])
    if importlib.util.find_spec(name) is None:
        raise PageError(f"{file}: Python does not find {name}")
    importlib.import_module(name)


def _main(page: Path) -> int:
    """Follow a page in the current folder, which is a `Checkout`. All its files first, as nobody trains half-way."""
    namespace: dict[str, Any] = {"__name__": "__page__"}
    steps = followed(page)
    for block in steps:
        if block.path is not None:
            write(block)
    for block in steps:
        try:
            if block.path is None:
                # Line numbers of errors are those of the page.
                code = compile("\n" * block.line + block.text, str(block.page), "exec")
                exec(code, namespace)  # noqa: S102
            elif block.path.endswith(".py"):
                import_file(Path(block.path))
            else:
                load(Path(block.path))
        except BaseException:  # noqa: BLE001 - whatever the page's code raises, exits included
            traceback.print_exc()
            print(f"\n{block.place}: this block cannot be followed", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.path.remove(str(Path(__file__).parent))
    sys.exit(_main(Path(sys.argv[1])))
