# SPDX-License-Identifier: Apache-2.0
"""What import-linter cannot say: circles at every scale, which files may speak ROS or JAX, how large things may get.

Imports are read from the source, those inside of functions and for type checkers among them: an import that is put off
is one all the same. The floors themselves are contracts of import-linter in pyproject.toml.
"""

import ast
import re
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "src"
PLAIN_FOLDERS = {"language", "processes", "report"}
ROS_MODULES = {"rclpy", "serl_ros", "serl_interfaces"}
BACKENDS = {
    "serl_rl/jax": {"jax", "jaxlib", "flax", "optax"},
    "serl_rl/torch": {"torch"},
    "serl_rl/benchmarks": {"jax", "torch"},  # measures the others
    "serl_lerobot": {"torch"},  # LeRobot's own classes speak it
}

MOST_MODULES = 15  # in a folder
MOST_LINES = 500  # of a file; one that needs more is two things


def python_files(where: str = "serl_*/serl_*") -> list[Path]:
    return sorted(SOURCES.glob(f"{where}/**/*.py"))


def module_name(file: Path) -> str:
    """`serl_rl.storage.chunk` of `src/serl_rl/serl_rl/storage/chunk.py`."""
    return ".".join(file.relative_to(SOURCES).with_suffix("").parts[1:])


@cache
def modules() -> dict[str, Path]:
    """Every module of the workspace by its name; that of a package ends in `__init__`."""
    return {module_name(file): file for file in python_files()}


def imported_names(file: Path) -> Iterator[str]:
    """Every name that a file imports: `a.b` of `import a.b`, `a.b` and `a.b.c` of `from a.b import c`."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import in line {node.lineno}"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_packages(file: Path) -> set[str]:
    """Return the top-level packages that a file imports."""
    return {name.partition(".")[0] for name in imported_names(file)}


@cache
def imports() -> dict[str, set[str]]:
    """Module → the modules of the workspace that it imports.

    `from serl_rl import spec` is an import of `serl_rl.spec`, and `from serl_tasks import Task` one of the package.
    """

    def found(file: Path) -> Iterator[str]:
        names = set(imported_names(file))
        for name in names:
            if name in modules():
                yield name
            elif f"{name}.__init__" in modules() and not any(other.startswith(f"{name}.") for other in names):
                yield f"{name}.__init__"
            elif name not in modules() and f"{name.rpartition('.')[0]}.__init__" in modules():
                yield f"{name.rpartition('.')[0]}.__init__"  # a name that the package itself gives

    return {name: set(found(file)) - {name} for name, file in modules().items()}


def circle(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """A circle of a graph, its first node again at the end; empty if there is none."""
    try:
        TopologicalSorter({node: sorted(others) for node, others in sorted(graph.items())}).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def folders() -> list[str]:
    """Every folder of modules as a dotted name."""
    return sorted({name.rpartition(".")[0] for name in modules()})


def inside(folder: str) -> dict[str, set[str]]:
    """What lies in a folder, files and folders → others there that it imports, from whatever depth."""

    def child(module: str) -> str:
        return module.removeprefix(f"{folder}.").partition(".")[0]

    graph: dict[str, set[str]] = {}
    for module, imported in imports().items():
        if module.startswith(f"{folder}."):
            others = {child(other) for other in imported if other.startswith(f"{folder}.")}
            graph.setdefault(child(module), set()).update(others - {child(module)})
    return graph


def test_the_imports_are_seen_that_are_there(tmp_path):
    file = tmp_path / "file.py"
    file.write_text("import a.b\ndef late():\n    from c.d import e\n")
    assert set(imported_names(file)) == {"a.b", "c.d", "c.d.e"}
    assert {"serl_config.schema", "serl_tasks.task"} <= imports()["serl_tasks.registry"]
    assert "serl_bench.registry" in imports()["serl_cli.commands.options"], "inside of a function"
    assert sum(map(len, imports().values())) > 1000


def test_a_circle_is_found_where_there_is_one():
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) in (["b", "c", "b"], ["c", "b", "c"])


def test_no_modules_import_each_other_in_a_circle():
    assert " → ".join(circle(imports())) == ""


@pytest.mark.parametrize("folder", folders())
def test_nothing_in_a_folder_imports_each_other_in_a_circle(folder):
    """A folder counts as one thing with all that is in it, so that it can be read, moved or replaced as one."""
    found = circle(inside(folder))
    why = [
        f"{module} → {other}"
        for a, b in pairwise(found)
        for module, imported in imports().items()
        for other in imported
        if f"{module}.".startswith(f"{folder}.{a}.") and f"{other}.".startswith(f"{folder}.{b}.")
    ]
    assert not found, f"{' → '.join(found)}: {', '.join(why)}"


def test_every_package_stands_on_a_floor_and_imports_only_what_is_below():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    levels = [{name.strip() for name in level.split("|")} for level in contracts[0]["layers"]]
    floor = {package: -height for height, level in enumerate(levels) for package in level}
    assert set(floor) == {name.partition(".")[0] for name in modules()}
    wrong = [
        f"{module} → {other}"
        for module, imported in imports().items()
        for other in imported
        if (above := module.partition(".")[0]) != (below := other.partition(".")[0]) and floor[above] <= floor[below]
    ]
    assert not wrong


def all_folders() -> list[Path]:
    """Every folder with Python files: of the packages, of their tests, and of those of the workspace."""
    return sorted({file.parent for file in [*python_files("*"), *(ROOT / "tests").rglob("*.py")]})


@pytest.mark.parametrize("folder", all_folders(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_folder_has_no_more_modules_than_a_reader_can_hold(folder):
    files = [file.name for file in folder.glob("*.py") if file.name not in ("__init__.py", "conftest.py")]
    assert len(files) <= MOST_MODULES


def test_a_file_is_one_thing():
    files = [*python_files("*"), *(ROOT / "tests").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]
    sizes = {str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    assert not {name: lines for name, lines in sizes.items() if lines > MOST_LINES}


def test_the_floors_are_drawn_as_they_are():
    script = runpy.run_path(str(ROOT / "scripts/draw_floors.py"))
    drawn = script["PICTURE"].read_text(encoding="utf-8")
    assert script["draw"](*script["contracts"]()) == drawn, "run scripts/draw_floors.py: a contract has changed"


def test_the_architecture_names_every_package_and_folder():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1]: line for line in text.splitlines() if line.startswith("| `serl_")}
    assert set(rows) == {path.name for path in SOURCES.glob("serl_*")}
    for package, row in rows.items():
        inside = {
            folder.removeprefix(f"{package}.").replace(".", "/") for folder in folders() if f"{package}." in folder
        }
        named = set(re.findall(r"`([a-z0-9_/]+)/`", row.rpartition(" | ")[2])) if package != "serl_bringup" else set()
        assert named == inside, package


def plain_modules() -> list[Path]:
    """Return the files that docs/architecture.md keeps free of ROS."""

    def may_speak_ros(file: Path) -> bool:
        commands = {"serl_cli", "serl_bench", "serl_launch"} & set(file.parts) and not PLAIN_FOLDERS & set(file.parts)
        rim = file.name.endswith("_node.py") or file.name.startswith("graph_")
        return rim or "serl_ros" in file.parts or bool(commands)

    return [file for file in python_files() if not may_speak_ros(file)]


@pytest.mark.parametrize("file", plain_modules(), ids=lambda file: str(file.relative_to(SOURCES)))
def test_a_plain_module_does_not_speak_ros(file):
    assert not imported_packages(file) & ROS_MODULES


def test_each_backend_is_imported_in_its_own_folder_alone():
    """They stand side by side, and an actor or a tool without them loads nothing of either."""
    every = set().union(*BACKENDS.values())
    speakers = {file: imported_packages(file) & every for file in python_files()}
    assert sum(map(bool, speakers.values())) > 20
    for file, spoken in speakers.items():
        allowed = {
            module
            for folder, modules in BACKENDS.items()
            if file.is_relative_to(SOURCES / folder.partition("/")[0] / folder)
            for module in modules
        }
        assert not spoken - allowed, f"{module_name(file)} imports {sorted(spoken - allowed)}"


@pytest.mark.parametrize("module", ["serl_training.actor_node", "serl_robots.arm_controller_node", "serl_sim.envs"])
def test_a_process_beside_the_learner_loads_no_backend(module):
    script = f"import sys, {module}; sys.exit(not {{'jax', 'torch'}}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], timeout=60, check=False).returncode == 0
