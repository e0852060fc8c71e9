# SPDX-License-Identifier: Apache-2.0
"""Kinds are found by their modules, ours and those of other packages, and each is imported alone."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from serl_config.schema import ConfigError
from serl_tasks.kind_registry import KindError, find_kind, kind_names
from serl_tasks.kinds.pick_cube import PickCube
from serl_tasks.task import Task

from serl_config import resources
from serl_tasks import get_task, kind_registry, kinds, register

KIND = """
from serl_config.schema import config
from serl_tasks.kinds.pick_cube import PickCube

from serl_tasks import register


@register("{kind}")
@config(kw_only=True)
class Mine(PickCube):
    pass
"""


class Folders:
    """A folder of further kinds of ours, and one of installed packages of others."""

    def __init__(self, ours: Path, others: Path) -> None:
        self.ours, self.others = ours, others

    def add(self, kind: str, text: str) -> None:
        (self.ours / f"{kind}.py").write_text(text)
        importlib.invalidate_caches()

    def install(self, package: str, entry_points: str, **modules: str) -> None:
        """Write what pip leaves of a package: its modules, its name and its entry points."""
        info = self.others / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[serl_tasks.kinds]\n{entry_points}\n")
        for name, text in modules.items():
            (self.others / f"{name}.py").write_text(text)
        importlib.invalidate_caches()


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folders]:
    found = Folders(tmp_path / "ours", tmp_path / "others")
    found.ours.mkdir()
    found.others.mkdir()
    monkeypatch.setattr(kinds, "__path__", [*kinds.__path__, str(found.ours)])
    monkeypatch.setattr(kinds.__spec__, "submodule_search_locations", kinds.__path__)
    monkeypatch.setattr(kind_registry, "_registered", dict(kind_registry._registered))
    monkeypatch.syspath_prepend(str(found.others))
    before = set(sys.modules)
    yield found
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_a_module_in_the_folder_is_all_that_a_kind_needs(folders: Folders) -> None:
    folders.add("push_box", KIND.format(kind="push_box"))
    assert {"pick_cube", "push_box"} <= set(kind_names())
    assert "serl_tasks.kinds.push_box" not in sys.modules, "names cost no import"
    assert issubclass(find_kind("push_box"), PickCube)


def test_a_kind_of_another_package_is_found_by_its_entry_point(folders: Folders) -> None:
    folders.install("their-tasks", "stack = their_tasks\nthrow = their_throw", their_tasks=KIND.format(kind="stack"))
    assert {"stack", "throw"} <= set(kind_names())
    assert "their_tasks" not in sys.modules
    assert find_kind("stack").__module__ == "their_tasks"


def test_a_task_file_names_the_kind(folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders.add("push_crate", KIND.format(kind="push_crate"))
    text = resources.find("config/tasks/pick_cube.yaml").read_text()
    (tmp_path / "config" / "tasks").mkdir(parents=True)
    (tmp_path / "config" / "tasks" / "crate.yaml").write_text(
        text.replace("name: pick_cube", "name: crate", 1).replace("kind: pick_cube", "kind: push_crate")
    )
    monkeypatch.setenv("SERL_SHARE", str(tmp_path))
    assert type(get_task("crate")).__module__ == "serl_tasks.kinds.push_crate"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("def (", "SyntaxError: "),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import sys; sys.exit('no licence')", "SystemExit: no licence"),
        (KIND.format(kind="bad") + "\nundefined", "NameError: name 'undefined' is not defined"),
    ],
)
def test_a_broken_module_is_named_and_hides_no_other_kind(folders: Folders, text: str, said: str) -> None:
    folders.add("bad", text)
    folders.add("good", KIND.format(kind="good"))
    for _ in range(2):  # a second time as well: nothing of half a module stays
        with pytest.raises(KindError, match=r"serl_tasks\.kinds\.bad cannot be imported: " + said):
            find_kind("bad")
    assert issubclass(find_kind("good"), PickCube)
    assert get_task("pick_cube").kind == "pick_cube"


def test_a_broken_kind_of_another_package_is_named_with_the_package(folders: Folders) -> None:
    folders.install("their-tasks", "broken = their_broken", their_broken="raise RuntimeError('no licence')")
    said = r"their_broken \(an entry point of their-tasks\) cannot be imported: RuntimeError: no licence"
    with pytest.raises(KindError, match=said):
        find_kind("broken")


def test_a_module_that_registers_something_else_says_what_it_should(folders: Folders) -> None:
    folders.add("push_ring", KIND.format(kind="push_rings"))
    with pytest.raises(
        KindError, match=r'kinds\.push_ring: expected a class with @register\("push_ring"\), found none'
    ):
        find_kind("push_ring")


def test_two_packages_that_claim_one_kind_are_both_named(folders: Folders) -> None:
    folders.install("their-tasks", "pick_rose = their_roses", their_roses=KIND.format(kind="pick_rose"))
    folders.add("pick_rose", KIND.format(kind="pick_rose"))
    said = r"serl_tasks\.kinds\.pick_rose and their_roses \(an entry point of their-tasks\)"
    with pytest.raises(KindError, match=said):
        find_kind("pick_rose")


@pytest.mark.parametrize("kind", ["pick_cubes", "../pick_cube", "pick_cube.x", "", None, 3, ["pick_cube"]])
def test_what_is_no_kind_is_answered_with_those_there_are(kind: object) -> None:
    with pytest.raises(KindError, match=r"expected one of .*pick_cube"):
        find_kind(kind)


def test_a_kind_belongs_to_one_class() -> None:
    assert register("pick_cube")(PickCube) is PickCube
    with pytest.raises(ValueError, match=r"registered already, for serl_tasks\.kinds\.pick_cube\.PickCube"):
        register("pick_cube")(Task)


@pytest.mark.parametrize("cls", [dict, 3])
def test_a_kind_is_a_class_of_tasks(cls: object) -> None:
    with pytest.raises(TypeError, match=r"task kind 'odd_kind': expected a class that extends serl_tasks\.Task"):
        register("odd_kind")(cls)  # type: ignore[type-var]
    with pytest.raises(KindError):
        find_kind("odd_kind")


def test_the_error_of_a_task_file_has_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config" / "tasks").mkdir(parents=True)
    (tmp_path / "config" / "tasks" / "odd.yaml").write_text("name: odd\nkind: none_of_ours\n")
    monkeypatch.setenv("SERL_SHARE", str(tmp_path))
    with pytest.raises(ConfigError, match=r"odd\.yaml:2: 'kind': expected one of .*, found str 'none_of_ours'"):
        get_task("odd")
