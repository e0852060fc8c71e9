# SPDX-License-Identifier: Apache-2.0
"""config/controllers and the <ros2_control> tags of the descriptions are about the same joints and interfaces."""

from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from serl_drivers.config import load_driver
from serl_drivers.ros2_control.settings import Ros2ControlSettings
from serl_robots.model.robot import RobotModel, load_robot

from serl_config import resources

ARMS = [*resources.listing("config/controllers", ".yaml")]
SETTINGS = Ros2ControlSettings(**load_driver("ros2_control").settings)


@pytest.fixture(scope="module", params=ARMS)
def robot(request: pytest.FixtureRequest) -> RobotModel:
    return load_robot(request.param)


@pytest.fixture(scope="module")
def parameters(robot: RobotModel) -> dict[str, Any]:
    """Parameters of each node, by its name; every key matches in any namespace."""
    file = yaml.safe_load(resources.find(f"config/controllers/{robot.name}.yaml").read_text(encoding="utf-8"))
    assert all(name.startswith("/**/") for name in file)
    return {name.removeprefix("/**/"): values["ros__parameters"] for name, values in file.items()}


def interfaces(robot: RobotModel, kind: str) -> set[str]:
    (system,) = ElementTree.fromstring(robot.urdf_xml()).findall("ros2_control")
    return {f"{joint.get('name')}/{each.get('name')}" for joint in system.iter("joint") for each in joint.iter(kind)}


def test_there_is_a_file_for_each_arm_with_ros2_control() -> None:
    assert {"panda", "fr3", "so101", "piper", "trossen"} <= set(ARMS)


def test_limits_are_enforced_by_name_and_every_controller_has_a_type(parameters: dict[str, Any]) -> None:
    manager = parameters["controller_manager"]
    assert manager["enforce_command_limits"] is True and 50 <= manager["update_rate"] <= 1000
    loaded = {name for name, value in manager.items() if isinstance(value, dict) and "type" in value}
    assert loaded == set(parameters) - {"controller_manager"}


def test_the_driver_s_file_names_controllers_that_are_there(parameters: dict[str, Any]) -> None:
    names = {SETTINGS.joint_trajectory_controller, SETTINGS.forward_position_controller}
    assert {*names, SETTINGS.gripper_action.partition("/")[0]} <= set(parameters)


def test_joints_and_interfaces_are_those_of_the_description(robot: RobotModel, parameters: dict[str, Any]) -> None:
    commands, states = interfaces(robot, "command_interface"), interfaces(robot, "state_interface")
    trajectory, forward = parameters["joint_trajectory_controller"], parameters["forward_position_controller"]
    assert tuple(trajectory["joints"]) == tuple(forward["joints"]) == robot.arm_joints
    finger = parameters["gripper_controller"]["joint"]
    assert finger == robot.gripper.joints[0]
    assert commands == {f"{joint}/position" for joint in (*robot.arm_joints, finger)}
    assert trajectory["command_interfaces"] == ["position"] and forward["interface_name"] == "position"
    assert {f"{joint}/{kind}" for joint in robot.arm_joints for kind in trajectory["state_interfaces"]} <= states
    assert set(trajectory["constraints"]) == {"stopped_velocity_tolerance", "goal_time", *robot.arm_joints}
