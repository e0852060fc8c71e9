# SPDX-License-Identifier: Apache-2.0
"""Everything that a robot's file says has an effect, and what it lacks is missed."""

import copy
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import yaml
from serl_config.schema import ConfigError
from serl_robots.control.arm_task import ArmTask
from serl_robots.control.robot_limits import default_limits
from serl_robots.control.task_robot import robot_of
from serl_robots.model import robot as robot_module
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.robot import load_robot
from serl_sim.scene.scene import build_model
from serl_sim.scene.world_file import load_world_file

from serl_config import resources
from serl_tasks import get_task

NAME = "panda"
Path = tuple[str | int, ...]


def content() -> dict[str, Any]:
    return yaml.safe_load((resources.find(f"config/robots/{NAME}.yaml")).read_text(encoding="utf-8"))


def leaves(value: Any, path: Path = ()) -> Iterator[Path]:
    """Where the single values of a file are; of `up` only the direction counts, so it is one value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None or path[-1:] == ("up",):
        yield path
        return
    for key, item in items:
        yield from leaves(item, (*path, key))


def mappings(value: Any, path: Path = ()) -> Iterator[Path]:
    """Where the keys of a file are."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield (*path, key)
            yield from mappings(item, (*path, key))


def changed(data: dict[str, Any], path: Path) -> dict[str, Any]:
    """The same file with another value there."""
    other = copy.deepcopy(data)
    *above, last = path
    place: Any = other
    for step in above:
        place = place[step]
    value = place[last]
    if isinstance(value, str):
        other_of = {"cartesian": "joint", "gripper": "all"}
        place[last] = other_of.get(value, f"other_{value}")
    elif isinstance(value, list):
        place[last] = value[-1:] + value[:-1]
    else:
        place[last] = 0.97 * value if value else 0.01
    return other


def without(data: dict[str, Any], path: Path) -> dict[str, Any]:
    other = copy.deepcopy(data)
    place: Any = other
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return other


@pytest.fixture
def effect(tmp_path, monkeypatch):
    """What the workspace makes of a robot's file, as text that two can be compared by; or the error it ends with."""
    world = load_world_file("table")
    task = get_task("pick_cube")
    file = tmp_path / "config" / "robots" / f"{NAME}.yaml"
    file.parent.mkdir(parents=True)
    monkeypatch.setenv("SERL_SHARE", str(tmp_path))

    def look(data: dict[str, Any]) -> str:
        file.write_text(yaml.safe_dump(data), encoding="utf-8")
        load_robot.cache_clear()
        try:
            robot = load_robot(NAME)
            limits = {**{name: getattr(task.limits, name) for name in vars(task.limits)}, **default_limits(robot)}
            arm_task = ArmTask(
                name="any", robot=NAME, control_period=0.1, action=task.action, limits=type(task.limits)(**limits)
            )
            robot_of(arm_task)
            kinematics = Kinematics(robot)
            poses = {name: kinematics.tcp(robot.configuration(name)) for name in robot.named_configurations}
            model = build_model(task, robot, world)
        except (ValueError, KeyError, FileNotFoundError, AttributeError) as error:
            return f"{type(error).__name__}: {error}"
        arrays = {name: getattr(model, name) for name in dir(model) if isinstance(getattr(model, name), np.ndarray)}
        return repr([limits, poses, robot.joints, model.names, {k: v.tobytes() for k, v in arrays.items()}])

    yield look
    load_robot.cache_clear()


@pytest.mark.parametrize("path", [*leaves(content())], ids=lambda path: ".".join(map(str, path)))
def test_every_value_has_an_effect(path, effect):
    assert effect(content()) != effect(changed(content(), path))


@pytest.mark.parametrize("path", [*mappings(content())], ids=lambda path: ".".join(map(str, path)))
def test_a_key_that_is_missing_is_named_with_its_file(path, effect):
    if path[0] in ("cameras", "named_configurations") and len(path) == 2:
        pytest.skip("a name that the file may choose")
    if path == ("simulation", "touching"):
        pytest.skip("a key that has a default, for which the other test says that it has an effect")
    said = effect(without(content(), path))
    assert said.startswith("ConfigError: ")
    assert f"{NAME}.yaml" in said
    assert f"missing key '{'.'.join(map(str, path))}'" in said


@pytest.mark.parametrize("name", ["home", "ready"])
def test_the_configurations_that_others_ask_for_by_name_are_there(name, effect):
    said = effect(without(content(), ("named_configurations", name)))
    assert "expected home and ready among them" in said


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (
            ("gripper", "max_width"),
            0.09,
            r"gripper.max_width: at 0.09 m expected joint 'panda_finger_joint1' in",
        ),
        (
            ("named_configurations", "home", 1),
            2.0,
            r"configurations.home: expected joint 'panda_joint2' in \[-1.76",
        ),
        (("simulation", "joints", "damping"), [1.0], r"simulation.joints.damping: expected 7 values, found 1"),
        (("simulation", "joints", "stiffness", 2), 0.0, r"expected a stiffness above 0"),
        (("simulation", "pad_friction", 0), 0.0, r"expected three positive numbers"),
        (("safety_box", "lower"), [0.3, 0.5, 0.1], r"expected lower below upper on every axis"),
        (("cameras", "front"), {}, r"missing key 'cameras.front.parent'"),
        (("gripper", "pads"), 1.0, r"unknown key 'gripper.pads'"),
        (("low_level",), "torque", r"'low_level': expected 'cartesian' or 'joint'"),
    ],
)
def test_what_cannot_be_is_refused_with_its_key(path, value, said, effect):
    data = content()
    place: Any = data
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert re.search(said, effect(data)), effect(data)


def test_a_camera_of_the_world_and_one_of_the_robot_need_two_names(effect):
    data = content()
    data["cameras"]["front"] = data["cameras"]["wrist"]
    assert "camera front is in config/worlds/table.yaml and in config/robots/panda.yaml" in effect(data)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("_pad", "_grip", "expected at least two collision shapes whose name ends in _pad"),
        ('effort="87"', 'effort="0"', "<limit effort=...> above 0 Nm"),
        ('lower="-2.8973" upper="2.8973"', "", "expected <limit lower=... upper=...>"),
    ],
)
def test_a_description_that_lacks_something_is_refused(old, new, said, effect, tmp_path):
    text = load_robot(NAME).urdf_xml()
    assert old in text
    robot_module._urdf_xml.cache_clear()  # by name, of another test's folder
    (tmp_path / "urdf").mkdir()
    (tmp_path / "urdf" / "lacking.urdf.xacro").write_text(text.replace(old, new), encoding="utf-8")
    assert said in effect(content() | {"urdf": "urdf/lacking.urdf.xacro"})


def test_an_old_file_says_what_it_lacks(effect):
    """Files from before the gripper had a part of its own are no longer read."""
    data = without(content(), ("gripper",)) | {"finger_joints": ["a", "b"], "gripper_max_width": 0.08}
    said = effect(data)
    assert "unknown key 'finger_joints'" in said
    assert "missing key 'gripper'" in said


def test_a_robot_that_is_another_one_is_not_taken_for_it(effect):
    assert "'name': expected 'panda'" in effect(content() | {"name": "other"})
    with pytest.raises(ConfigError, match="unknown robot"):
        load_robot("other")
