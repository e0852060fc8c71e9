# SPDX-License-Identifier: Apache-2.0
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from serl_config.schema import ConfigError
from serl_robots.control.task_file import LONGEST_CHAIN, TaskFile, read_task, task_files

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """A function that writes a task file of one's own and returns its path."""
    monkeypatch.setenv("SERL_SHARE", str(tmp_path))
    folder = tmp_path / "config" / "tasks"
    folder.mkdir(parents=True)

    def write(name: str, text: str) -> Path:
        path = folder / f"{name}.yaml"
        path.write_text(f"name: {name}\n{text}")
        return path

    return write


def test_a_task_extends_one_that_extends_another(write: Write) -> None:
    write("a", "kind: k\nhorizon: 50\nlimits: {max_step: 0.02, max_velocity: 0.3}\n")
    write("b", "extends: a\nhorizon: 60\n")
    write("c", "extends: b\nlimits: {max_step: 0.01}\n")
    expected = {"name": "c", "kind": "k", "horizon": 60, "limits": {"max_step": 0.01}}
    assert read_task("c").data == expected


def test_objects_are_merged_by_name_and_value_and_null_removes_one(write: Write) -> None:
    write("a", "objects:\n  cube: {mass: 0.1, size: [1, 1, 1]}\n  ball: {mass: 0.2}\n  post: {mass: 0.3}\n")
    write("b", "extends: a\nobjects:\n  cube: {mass: 0.5}\n  ball: null\n")
    write("c", "extends: b\nobjects:\n  lid: {mass: 0.4}\n  ball: {size: [2, 2, 2]}\n")
    expected = {
        "cube": {"mass": 0.5, "size": [1, 1, 1]},
        "post": {"mass": 0.3},
        "lid": {"mass": 0.4},
        "ball": {"size": [2, 2, 2]},  # anew: nothing of what was removed comes back
    }
    found = read_task("c").data["objects"]
    assert found == expected
    assert [*found] == [*expected], "the order decides what a seed draws"
    assert read_task("a").data["objects"]["ball"] == {"mass": 0.2}


_OBJECTS = st.dictionaries(
    st.sampled_from(["cube", "ball", "lid"]),
    st.none() | st.dictionaries(st.sampled_from(["mass", "size"]), st.integers(0, 9)),
)


@given(st.lists(_OBJECTS, min_size=1, max_size=LONGEST_CHAIN))
def test_each_value_is_that_of_the_last_file_that_says_it_and_so_is_its_place(chain: list[dict[str, Any]]) -> None:
    """Against a fold over single values, each with the number of the file and the line that said it."""
    said: dict[str, dict[str, tuple[int, int, int]]] = {}
    texts, removed_nothing = [], False
    for number, objects in enumerate(chain):
        lines = [f"name: t{number}", *([f"extends: t{number - 1}"] if number else []), "objects:"]
        lines[-1] += "" if objects else " {}"
        for name, values in objects.items():
            lines.append(f"  {name}:" + (" null" if values is None else "" if values else " {}"))
            if values is None:
                removed_nothing |= said.pop(name, None) is None
                continue
            said.setdefault(name, {})
            for key, value in values.items():
                lines.append(f"    {key}: {value}")
                said[name][key] = (value, number, len(lines))
        texts.append("\n".join(lines))

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("SERL_SHARE", folder)
        tasks = Path(folder) / "config" / "tasks"
        tasks.mkdir(parents=True)
        for number, text in enumerate(texts):
            (tasks / f"t{number}.yaml").write_text(text)
        file = read_task(f"t{len(chain) - 1}")
        if removed_nothing:
            with pytest.raises(ConfigError, match="null removes an object of the extended task, which has none"):
                _ = file.data
            return
        expected = {name: {key: value for key, (value, _, _) in values.items()} for name, values in said.items()}
        assert file.data["objects"] == expected
        for name, values in said.items():
            for key, (_, number, line) in values.items():
                assert file.place(("objects", name, key)) == f"{tasks / f't{number}.yaml'}:{line}"


def test_what_is_said_elsewhere_has_the_place_of_the_file_that_says_it(write: Write) -> None:
    base = write("a", "horizon: 50\nlimits:\n  max_step: 0.02\nstate:\n  - {name: x}\n  - {name: y}\n")
    own = write("b", "# a comment\nextends: a\nlimits:\n  max_velocity: 0.3\n")
    file = read_task("b")
    assert file.place(("horizon",)) == f"{base}:2"
    assert file.place(("state", 1, "name")) == f"{base}:7"
    assert file.place(("limits", "max_velocity")) == f"{own}:5"
    assert file.place(("limits", "max_step")) == f"{own}:5", "limits are one value, which the own file says"
    assert file.place(()) == f"{own}:1", "what nobody says is missing in the own file"


def test_a_circle_names_its_files_and_the_line(write: Write) -> None:
    a, b, c = write("a", "extends: b\n"), write("b", "kind: k\nextends: c\n"), write("c", "extends: b\n")
    expected = f"{c}:2: 'extends': expected another task, found a circle: {a} extends {b} extends {c} extends {b}"
    with pytest.raises(ConfigError) as raised:
        read_task("a")
    assert str(raised.value) == expected
    own = write("d", "extends: d\n")
    with pytest.raises(ConfigError) as raised:
        read_task("d")
    assert str(raised.value) == f"{own}:2: 'extends': expected another task, found a circle: {own} extends {own}"


def test_a_chain_ends(write: Write) -> None:
    def chain(length: int) -> TaskFile:
        write("t0", "kind: k\n")
        for number in range(1, length):
            write(f"t{number}", f"extends: t{number - 1}\n")
        return read_task(f"t{length - 1}")

    assert chain(LONGEST_CHAIN).data["kind"] == "k"
    with pytest.raises(
        ConfigError, match=rf"t1\.yaml:2: 'extends': expected at most {LONGEST_CHAIN} .*t1\.yaml extends"
    ):
        chain(LONGEST_CHAIN + 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("extends: bass\n", r"mine\.yaml:2: 'extends': expected another task, found str 'bass'; did you mean 'base'"),
        ("extends: null\n", r"mine\.yaml:2: 'extends': expected another task, found nothing"),
        ("extends: [base]\n", r"mine\.yaml:2: 'extends': expected another task, found list"),
        ("extends: broken\n", r"broken\.yaml:3: not valid YAML"),
        ("extends: renamed\n", r"renamed\.yaml: 'name': expected 'renamed' as the file's name says, found str 'other'"),
        (
            "extends: base\nobjects:\n  cube: {mass: 1}\n  bal: null\n",
            r"mine\.yaml:5: 'objects\.bal': null removes .* none of this name; did you mean 'ball'",
        ),
        ("objects: {ball: null}\n", r"mine\.yaml:2: 'objects\.ball': null removes"),
    ],
)
def test_what_cannot_be_extended_or_removed_is_named_with_file_and_line(write: Write, text: str, said: str) -> None:
    write("base", "objects: {ball: {mass: 1.0}}\n")
    write("broken", "a: [\n")
    write("renamed", "").write_text(yaml.safe_dump({"name": "other"}))
    write("mine", text)
    with pytest.raises(ConfigError, match=said):
        _ = read_task("mine").data


def test_one_file_is_many_tasks(write: Write) -> None:
    path = write("many", "kind: k\n")
    path.with_suffix(".variants").write_text("first-v3\nsecond\n")
    assert {name for name in task_files() if name.startswith("many")} == {"many-first-v3", "many-second"}
    task = read_task("many-first-v3")
    assert task.data == {"name": "many-first-v3", "variant": "first-v3", "kind": "k"}
    assert task.path == path
    write("own", "extends: many-second\nkind: other\n")
    assert read_task("own").data == {"name": "own", "variant": "second", "kind": "other"}
    with pytest.raises(ConfigError, match="unknown task 'many'"):
        read_task("many")


def test_a_file_of_its_own_is_that_variant_instead(write: Write) -> None:
    write("many", "kind: k\n").with_suffix(".variants").write_text("one\ntwo\n")
    own = write("many-two", "kind: other\n")
    assert read_task("many-two").path == own
    assert read_task("many-two").data["kind"] == "other"


def test_variants_of_no_task_are_refused(write: Write, tmp_path: Path) -> None:
    (tmp_path / "config/tasks/nothing.variants").write_text("one\n")
    with pytest.raises(ConfigError, match=r"nothing.variants: expected nothing.yaml of the same name, found none"):
        task_files()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("one\ntwo\none\n", r"each word once, found one more often"),
        ("../one\n", r"found \.\./one"),
        ("one two\n\x00\n", r"one a line, found"),
        ("\n", r"one a line, found nothing"),
    ],
)
def test_words_that_are_none_are_refused(write: Write, words: str, said: str) -> None:
    write("many", "kind: k\n").with_suffix(".variants").write_text(words)
    with pytest.raises(ConfigError, match=rf"many\.variants: expected .*{said}"):
        task_files()
