# SPDX-License-Identifier: Apache-2.0
import shutil

import pytest
from serl_config.schema import ConfigError

from serl_config import resources
from serl_tasks import get_task, task_names


@pytest.fixture
def own_task(tmp_path, monkeypatch):
    """A function that makes a task file of one's own from pick_cube.yaml, with a text replaced."""

    def make(name, old="", new=""):
        folder = tmp_path / "config" / "tasks"
        folder.mkdir(parents=True, exist_ok=True)
        text = resources.find("config/tasks/pick_cube.yaml").read_text()
        assert old in text
        (folder / f"{name}.yaml").write_text(text.replace("name: pick_cube", f"name: {name}", 1).replace(old, new, 1))
        monkeypatch.setenv("SERL_SHARE", str(tmp_path))
        get_task.cache_clear()
        return name

    yield make
    shutil.rmtree(tmp_path / "config", ignore_errors=True)
    get_task.cache_clear()


def test_pick_cube_is_there():
    assert "pick_cube" in task_names()
    task = get_task("pick_cube")
    assert task.action_space.shape == (4,)
    assert task.observation_space["state"].shape == (14,)


def test_an_unknown_task_lists_those_there_are():
    with pytest.raises(ConfigError, match=r"unknown task 'pick_cub'; did you mean 'pick_cube'"):
        get_task("pick_cub")


def test_a_task_of_ones_own_is_found_by_its_file(own_task):
    name = own_task("pick_slowly", "horizon: 50", "horizon: 99")
    assert get_task(name).horizon == 99


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kind: pick_cube", "kind: pick_cubes", "'kind': expected one of .*pick_cube"),
        ("horizon: 50", "horizont: 50", "unknown key 'horizont'; did you mean 'horizon'"),
        ("horizon: 50", "horizon: 0", "horizon"),
        ("horizon: 50", "", "missing key 'horizon'"),
        ("mass: 0.08", "mass: heavy", "mass"),
        ("tcp_linear_velocity", "tcp_linear_velocty", "did you mean 'tcp_linear_velocity'"),
        ("shift: [0.04], scale: [0.04]", "shift: [0.04, 0.0], scale: [0.04]", "'gripper_width' has 1 values"),
        ("  cube:\n", "  dice:\n", "dice|cube"),
        ("yaw_deg: 8.6", "yaw_deg: -1.0", "yaw_deg"),
        ("lower: [0.4, -0.1]", "lower: [0.7, -0.1]", "expected lower <= upper"),
        ("[dx, dy, dz, gripper]", "[dx, dz, dy, gripper]", "expected dx dy dz gripper"),
    ],
)
def test_a_wrong_task_file_says_what_is_wrong(own_task, old, new, message):
    name = own_task("broken", old, new)
    with pytest.raises(ConfigError, match=message):
        get_task(name)


def test_an_error_in_an_extended_file_has_its_place(own_task, tmp_path):
    own_task("base", "mass: 0.08", "mass: heavy")
    own = tmp_path / "config" / "tasks" / "mine.yaml"
    own.write_text("name: mine\nextends: base\nobjects:\n  cube: {yaw_deg: -1.0}\nhorizon: 0\n")
    with pytest.raises(ConfigError) as raised:
        get_task("mine")
    base = own.with_name("base.yaml")
    line = next(n for n, text in enumerate(base.read_text().splitlines(), 1) if "heavy" in text)
    said = sorted(str(raised.value).splitlines())
    assert [text.partition(": ")[0] for text in said] == sorted([f"{base}:{line}", f"{own}:4", f"{own}:5"])
