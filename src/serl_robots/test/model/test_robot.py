# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from pathlib import Path

import pytest
from serl_config.resources import ResourceError
from serl_config.schema import ConfigError
from serl_robots.control.arm_task import load_arm_task
from serl_robots.model import robot as robot_module
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.robot import load_robot

from serl_config import resources

ROBOT = """
name: {name}
urdf: urdf/panda.urdf.xacro
base_frame: panda_link0
tcp_frame: {tcp}
arm_joints: [{joint}]
low_level: cartesian
named_configurations: {{zero: [{zero}], home: [{zero}], ready: [{zero}]}}
safety_box: {{lower: [0.2, -0.3, 0.0], upper: [0.7, 0.3, 0.5]}}
gripper: {{joints: [panda_finger_joint1, panda_finger_joint2], min_width: 0.0, max_width: 0.08}}
cameras: {{}}
simulation:
  cartesian:
    linear: {{stiffness: 1000.0, damping: 100.0, limit: 50.0}}
    angular: {{stiffness: 100.0, damping: 10.0, limit: 20.0}}
  joints: {{stiffness: [{gains}], damping: [{gains}]}}
  gripper: {{stiffness: 500.0, damping: 10.0, limit: 20.0}}
  joint_damping: 1.0
  posture_stiffness: 1.0
  pad_friction: [1.0, 0.005, 0.0001]
{rest}
"""
TASK = """
name: {name}
robot: {robot}
control_period: 0.1
something_of_the_task: [1, 2, 3]
action: {{names: [dx, dy, dz], scale: [0.1, 0.1, {scale}]}}
limits: {{{limits}}}
{rest}
"""


@pytest.fixture
def share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own, which comes before the workspace's."""
    monkeypatch.setenv("SERL_SHARE", str(tmp_path))
    for folder in ("robots", "tasks"):
        (tmp_path / "config" / folder).mkdir(parents=True)
    load_robot.cache_clear()
    return tmp_path


def write_robot(share: Path, file: str = "mine", **values: str) -> None:
    defaults = {
        "name": file,
        "tcp": "panda_hand_tcp",
        "joint": "panda_joint1",
        "zero": "0.0",
        "gains": "1.0",
        "rest": "",
    }
    (share / "config" / "robots" / f"{file}.yaml").write_text(ROBOT.format(**{**defaults, **values}))


def write_task(share: Path, file: str = "mine", **values: str) -> None:
    defaults = {"name": file, "robot": "panda", "scale": "0.1", "limits": "", "rest": ""}
    (share / "config" / "tasks" / f"{file}.yaml").write_text(TASK.format(**{**defaults, **values}))


def test_files_of_one_s_own_come_first_and_the_workspace_s_are_still_there(share: Path) -> None:
    write_robot(share)
    assert resources.find("config/robots/mine.yaml") == share / "config/robots/mine.yaml"
    assert {"mine", "panda"} <= set(resources.listing("config/robots", ".yaml"))


@pytest.mark.parametrize("folder", ["tasks", "learning", "worlds", "robots", "cameras", "encoders"])
def test_what_was_renamed_is_not_offered_any_more(share: Path, folder: str) -> None:
    place = share / "config" / folder
    place.mkdir(parents=True, exist_ok=True)
    (place / "renamed.yaml").symlink_to(share / "gone.yaml")
    (place / "folder.yaml").mkdir()
    (place / ".#edited.yaml").write_text("")
    (place / "there.yaml").write_text("")
    found = resources.listing(f"config/{folder}", ".yaml")
    assert "there" in found and not {"renamed", "folder", ".#edited"} & found.keys()


def test_a_missing_file_says_where_it_was_looked_for(share: Path) -> None:
    with pytest.raises(ResourceError, match=r"config/robots/nothing\.yaml not found; looked at .*" + share.name):
        resources.find("config/robots/nothing.yaml")


def test_installed_prefixes_are_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "share" / "serl_bringup" / "config").mkdir(parents=True)
    (tmp_path / "share" / "serl_bringup" / "config" / "here.yaml").write_text("a: 1")
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/nowhere:{tmp_path}")
    assert resources.find("config/here.yaml").parent.parent.name == "serl_bringup"


def test_a_robot_of_one_s_own_is_loaded(share: Path) -> None:
    write_robot(share)
    assert Kinematics(load_robot("mine")).lower.shape == (1,)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": "other"}, "'name': expected 'mine' as the file's name says"),
        ({"zero": "0.0, 1.0"}, "named_configurations.zero: expected 1 positions, found 2"),
        ({"joint": "a, a", "zero": "0.0, 0.0"}, "expected each joint once"),
    ],
)
def test_a_robot_file_that_contradicts_itself_is_refused(share: Path, values: dict[str, str], said: str) -> None:
    write_robot(share, **values)
    with pytest.raises(ConfigError, match=said):
        load_robot("mine")


@pytest.mark.parametrize(
    ("values", "said"), [({"tcp": "nowhere"}, "no body 'nowhere'"), ({"joint": "nowhere"}, "no joint 'nowhere'")]
)
def test_a_robot_whose_urdf_lacks_a_name_is_refused(share: Path, values: dict[str, str], said: str) -> None:
    write_robot(share, **values)
    with pytest.raises(ValueError, match=said):
        Kinematics(load_robot("mine"))


def test_a_broken_xacro_file_is_one_error_that_names_it(share: Path) -> None:
    (share / "urdf").mkdir()
    (share / "urdf" / "broken.urdf.xacro").write_text("<robot><unclosed></robot>")
    robot = replace(load_robot("panda"), urdf="urdf/broken.urdf.xacro")
    with pytest.raises(ConfigError, match=r"broken\.urdf\.xacro: xacro failed"):
        robot.urdf_xml()


def test_unknown_names_are_answered_with_close_ones() -> None:
    with pytest.raises(ConfigError, match="unknown robot 'pandaa'; did you mean 'panda'"):
        load_robot("pandaa")
    with pytest.raises(ConfigError, match="unknown task 'pick_cub'; did you mean 'pick_cube'"):
        load_arm_task("pick_cub")
    with pytest.raises(KeyError, match="did you mean 'ready'"):
        load_robot("panda").configuration("redy")


def test_the_arm_s_part_of_a_task_file_is_read_and_the_rest_left_to_the_task(share: Path) -> None:
    write_task(share, limits="max_step: 0.02")
    task = load_arm_task("mine")
    assert task.limits.max_step == 0.02
    assert task.action.names == ("dx", "dy", "dz")


def test_boxes_of_task_robot_and_scene_are_all_kept_out_of(share: Path) -> None:
    write_robot(share, rest="keep_out: {post: {lower: [0.4, 0.3, 0.0], upper: [0.5, 0.4, 0.6]}}")
    write_task(share, robot="mine", limits="keep_out: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]", rest="scene: table")
    own, robot, scene = (
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
        [0.4, 0.3, 0.0, 0.5, 0.4, 0.6],
        [-0.25, -0.5, -0.04, 0.85, 0.5, 0.0],
    )
    assert [*load_arm_task("mine").limits.keep_out] == own + robot + scene
    assert [*load_arm_task("mine", scene="").limits.keep_out] == own + robot
    with pytest.raises(ConfigError, match=r"mine\.yaml:\d+: 'scene': .*tabel.*did you mean 'table'"):
        load_arm_task("mine", scene="tabel")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"limits": "max_stepp: 0.02"}, r"mine\.yaml:7: unknown key 'limits.max_stepp'; did you mean 'max_step'"),
        ({"limits": "max_step: 0.2"}, "'limits.max_step': expected less than or equal to 0.05, found float 0.2"),
        ({"limits": "workspace_min: [1.0, 0.0, 0.0]"}, "expected workspace_min below workspace_max on every axis"),
        ({"limits": "reference_orientation: [1.0, 1.0, 0.0, 0.0]"}, "expected a unit quaternion"),
        ({"limits": "min_gripper_width: 0.09"}, "expected min_gripper_width below max_gripper_width"),
        ({"limits": "orientation_cone: 1.6"}, "'limits.orientation_cone': expected less than"),
        ({"scale": "-0.1"}, "scale: expected 3 positive numbers"),
        ({"name": "yours"}, "'name': expected 'mine'"),
    ],
)
def test_a_wrong_value_in_the_arm_s_part_is_refused(share: Path, values: dict[str, str], said: str) -> None:
    write_task(share, **values)
    with pytest.raises(ConfigError, match=said):
        load_arm_task("mine")


MACROS = "".join(f'<xacro:macro name="m{i}"><xacro:m{i - 1}/><xacro:m{i - 1}/></xacro:macro>' for i in range(1, 60))
XACRO_BOMBS = {
    "macros that double": f'<xacro:macro name="m0"><a/></xacro:macro>{MACROS}<xacro:m59/>',
    "a macro that calls itself": '<xacro:macro name="m"><xacro:m/></xacro:macro><xacro:m/>',
    "a long text": """<a b="${'x' * 10**10}"/>""",
    "a long number": '<a b="${10**10**10}"/>',
    "a file that includes itself": '<xacro:include filename="bomb.urdf.xacro"/>',
    "an unknown macro": "<xacro:nothing/>",
    "no XML": "<",
}


@pytest.mark.parametrize("name", XACRO_BOMBS)
def test_a_robot_description_that_takes_all_time_or_memory_is_one_line(name, tmp_path, monkeypatch):
    (tmp_path / "bomb.urdf.xacro").write_text(
        f'<robot name="bomb" xmlns:xacro="http://www.ros.org/wiki/xacro">{XACRO_BOMBS[name]}</robot>'
    )
    monkeypatch.setenv("SERL_SHARE", str(tmp_path))
    monkeypatch.setattr(robot_module, "_XACRO_SECONDS", 1)
    robot_module._urdf_xml.cache_clear()
    with pytest.raises(ConfigError, match=r"bomb\.urdf\.xacro: xacro (failed|took)") as error:
        robot_module._urdf_xml("bomb.urdf.xacro")
    assert len(str(error.value).splitlines()) == 1
