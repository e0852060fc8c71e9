# SPDX-License-Identifier: Apache-2.0
"""The robot of a task, checked that it can do what the task asks for."""

from serl_config.schema import ConfigError

from serl_robots.control.arm_task import ArmTask
from serl_robots.control.task_file import FOLDER
from serl_robots.model import robot as robots
from serl_robots.model.robot import RobotModel, load_robot


def robot_of(task: ArmTask) -> RobotModel:
    """The robot that `task` names.

    A width beyond the gripper's is refused here and not clipped later: an action of 1 would be executed as something
    else, and a policy would learn from it.

    Raises:
        ConfigError: there is no such robot, its gripper does not open or close as far as the task asks, its own
            controller does not follow the kind of motion that the task commands, or it has fewer joints than the task
            moves the tool in ways.
    """
    robot = load_robot(task.robot)
    gripper = robot.gripper
    place = f"{robots.FOLDER}/{robot.name}.yaml"
    remedy = f"change it in {FOLDER}/{task.name}.yaml, or name another robot there"
    for key, width in task.asked_widths().items():
        if width > gripper.max_width:
            raise ConfigError(
                f"task {task.name!r}: {key}: expected at most the {gripper.max_width} m that {robot.name!r} opens "
                f"(gripper.max_width of {place}), found {width}; {remedy}"
            )
        if width < gripper.min_width:
            raise ConfigError(
                f"task {task.name!r}: {key}: expected at least the {gripper.min_width} m to which {robot.name!r} "
                f"closes (gripper.min_width of {place}), found {width}; {remedy}"
            )
    if task.limits.max_effort and len(task.limits.max_effort) != len(robot.arm_joints):
        raise ConfigError(
            f"task {task.name!r}: limits.max_effort: expected {len(robot.arm_joints)} numbers, one for each joint of "
            f"{robot.name!r} (arm_joints of {place}), found {len(task.limits.max_effort)}; {remedy}"
        )
    action = task.of_arm(task.arm_names[0]).action  # those of several arms are of one kind
    if robot.low_level == "joint" and (action.translation or action.rotation):
        raise ConfigError(
            f"task {task.name!r}: action.names: expected joint motions only, as {robot.name!r} follows no tool poses "
            f"(low_level of {place}), found {' '.join(task.action.names)}; {remedy}"
        )
    moves, joints = len(action.translation) + len(action.rotation), len(robot.arm_joints)
    if moves > joints:
        raise ConfigError(
            f"task {task.name!r}: action.names: expected at most {joints} motions of the tool, because {robot.name!r} "
            f"has {joints} joints (arm_joints of {place}), found {moves}: {' '.join(task.action.names)}; {remedy}"
        )
    return robot
