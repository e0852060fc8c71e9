# SPDX-License-Identifier: Apache-2.0
"""What a driver is not started for, by name; and that every file of ours can be made a device of."""

import pytest
from serl_config.schema import ConfigError
from serl_drivers.config import check_driver, driver_names, load_driver
from serl_drivers.device_kinds import make_device
from serl_drivers.gripper import make_gripper
from serl_robots.control.arm_task import load_arm_task
from serl_robots.model.robot import load_robot


def test_an_unknown_driver_and_one_of_another_robot_are_refused() -> None:
    with pytest.raises(ConfigError, match="trosen"):
        load_driver("trosen")
    with pytest.raises(ConfigError, match=r"'trossen': expected .* 'pick_cube_so101', 'so101', found .* 'trossen'"):
        check_driver(load_driver("trossen"), load_arm_task("pick_cube_so101"), "/")


def test_a_task_of_two_arms_is_refused_where_the_driver_is_of_neither() -> None:
    task = load_arm_task("lift_bar")
    for namespace in ("/", "/cell", "/left/cell"):
        with pytest.raises(
            ConfigError, match=r"'mock': it moves one arm, and task 'lift_bar' has two: .*left or right"
        ):
            check_driver(load_driver("mock"), task, namespace)
    check_driver(load_driver("mock"), task, "/cell/left")
    check_driver(load_driver("mock"), load_arm_task("pick_cube"), "/")


@pytest.mark.parametrize("name", driver_names())
def test_every_file_can_be_made_a_device_of(name: str) -> None:
    driver = load_driver(name)
    if driver.device == "ros2_control":
        pytest.importorskip("controller_manager_msgs", reason="comes with a native ROS 2")
    robot = load_robot(driver.robot or "fr3")
    assert make_device(driver.device, robot, driver.settings, name).description
    if driver.gripper:
        assert make_gripper(driver.gripper, robot, name).description
