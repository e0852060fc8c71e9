# SPDX-License-Identifier: Apache-2.0
"""A task that cannot be is one clear error, before anything moves: where, what was expected, what was found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import point_environment
import pytest
import yaml
from serl_config.schema import ConfigError
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.robot import load_robot
from serl_sim.world import World

from serl_config import resources
from serl_tasks import get_task

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a file of one's own under config/."""
    monkeypatch.setenv("SERL_SHARE", str(tmp_path))

    def put(path: str, text: str) -> None:
        file = tmp_path / "config" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        get_task.cache_clear()
        load_robot.cache_clear()

    yield put
    get_task.cache_clear()
    load_robot.cache_clear()


def complaint(work: Callable[[], object]) -> str:
    """The one line of the error."""
    with pytest.raises(ValueError) as raised:
        work()
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("frame: wrist", "'frame': expected 'base' or 'tool', found str 'wrist'"),
        ("state: [{name: hole_from_tcp, shift: [0, 0, 0], scale: [1, 1, 1]}]", "state: unknown term 'hole_from_tcp'"),
        ("state: [{name: cable_8_from_tcp, shift: [0, 0, 0], scale: [1, 1, 1]}]", "did you mean 'cable_7_from_tcp'"),
        ("state: [{name: joint_positions, shift: [0, 0], scale: [1, 1]}]", "expected a value for each of the 7 joints"),
        ("objects: {cable: {flexible: {links: 1, stiffness: 0.1}}}", "links"),
        ("objects: {cable: {flexible: {links: 7, stiffness: 0.0}}}", "stiffness"),
        ("objects: {clip: {mount: held, mass: 0.1}}", "expected where the object is held"),
        ("start: {beside: clip, tcp_position: [0, 0, 0.1], gripper_width: 0.5}", "start.gripper_width"),
    ],
)
def test_a_task_that_contradicts_itself_is_refused_with_its_file(write: Write, extra: str, said: str) -> None:
    write("tasks/mine.yaml", f"name: mine\nextends: route_cable\n{extra}\n")
    with pytest.raises(ConfigError) as raised:
        get_task("mine")
    assert "mine.yaml" in str(raised.value)
    assert said in str(raised.value)


def test_a_term_that_the_world_cannot_give_is_refused(write: Write) -> None:
    """Gymnasium environments tell of no force at the wrist."""
    text = yaml.safe_load(point_environment.task("mine", "point_environment:PointReach-v0"))
    text["state"].append({"name": "tcp_force", "shift": [0, 0, 0], "scale": [1, 1, 1]})
    write("tasks/mine.yaml", yaml.safe_dump(text))
    said = complaint(lambda: get_task("mine"))
    for part in ("mine.yaml", "expected no terms of the wrench", "found tcp_force", "leave out"):
        assert part in said


def test_a_progress_that_never_changes_is_refused(write: Write) -> None:
    """Between a thing and itself there is no way: nobody would ever see that a policy goes astray."""
    text = yaml.safe_load(point_environment.task("mine", "point_environment:PointReach-v0"))
    write("tasks/mine.yaml", yaml.safe_dump({**text, "progress": ["tcp", "tcp"]}))
    said = complaint(lambda: get_task("mine"))
    assert "mine.yaml" in said and "progress: expected two of mark, tcp, found tcp, tcp" in said


def test_a_frame_that_the_robot_has_not_is_refused(write: Write) -> None:
    robot = yaml.safe_load(resources.find("config/robots/panda.yaml").read_text(encoding="utf-8"))
    write("robots/panda.yaml", yaml.safe_dump({**robot, "tcp_frame": "panda_hand_tpc"}))
    said = complaint(lambda: Kinematics(load_robot("panda")))
    for part in ("panda.urdf.xacro has no body 'panda_hand_tpc'", "config/robots", "did you mean 'panda_hand_tcp'"):
        assert part in said

    cameras = {"wrist": {**robot["cameras"]["wrist"], "parent": "panda_hnd"}}
    write("robots/panda.yaml", yaml.safe_dump({**robot, "cameras": cameras}))
    said = complaint(lambda: World(get_task("pick_cube")))
    for part in ("camera 'wrist': parent", "found 'panda_hnd'", "did you mean 'panda_hand'", "config/robots"):
        assert part in said


def test_a_start_inside_of_something_is_refused(write: Write) -> None:
    """The clip stands where the cable is held."""
    write(
        "tasks/mine.yaml",
        "name: mine\nextends: route_cable\n"
        "start: {beside: clip, tcp_position: [-0.01, 0.03, 0.04], gripper_width: 0.008}\n",
    )
    said = complaint(lambda: [world.reset(seed) for world in [World(get_task("mine"))] for seed in range(5)])
    for part in ("task 'mine': start.tcp_position", "in the way"):
        assert part in said
