# SPDX-License-Identifier: Apache-2.0
"""A robot of LeRobot as an environment: everything that it is sent has gone through the safety filter."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kinematic_arm import Clock, KinematicArm
from serl_drivers.device import DriverError
from serl_feetech.emulated.pseudo_terminal import PseudoTerminal
from serl_lerobot.robots.environment import SERLRobotEnvironment, joint_task
from serl_lerobot.robots.joint_map import FeatureError, JointMapSettings
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.robot import load_robot

from serl_lerobot import compat

SO101 = load_robot("so101")
MAPPING = JointMapSettings(gripper_positions=(-0.174533, 1.745329))
HOME = np.array(SO101.configuration("home"))


def arm(**more: Any) -> KinematicArm:
    return KinematicArm(SO101.arm_joints, np.degrees(SO101.configuration("ready")).tolist(), **more)


def sent(robot: KinematicArm) -> np.ndarray:
    """Joint positions that it was sent (m, n) [rad]."""
    return np.radians([[each[f"{name}.pos"] for name in SO101.arm_joints] for each in robot.sent])


def test_whatever_is_asked_for_keeps_the_limits_of_joints_and_tool() -> None:
    robot, rng = arm(cameras=("front",)), np.random.default_rng(0)
    env = SERLRobotEnvironment(robot, "so101", mapping=MAPPING, wall=Clock().wall, horizon=300, substeps=2)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation) and observation["front"].shape == (128, 128, 3)
    assert observation["state"][:5] == pytest.approx(HOME, abs=0.02)
    limits, kinematics = env.task.limits, Kinematics(SO101)
    acted: set[str] = set()
    direction = rng.uniform(-1, 1, 6)
    for step in range(300):
        if step % 25 == 0:
            direction = np.sign(rng.uniform(-1, 1, 6))
        observation, reward, terminated, truncated, info = env.step(direction.astype(np.float32))
        acted |= set(info["limits"])
        assert reward == 0.0 and not terminated and truncated == (step == 299)
    assert "workspace" in acted and "joint_acceleration" in acted  # it was led against them
    path = sent(robot)[1::2]  # one a control period
    velocity = np.diff(path, axis=0) / 0.1
    assert np.abs(velocity).max() <= (limits.joint_velocity_scaling * kinematics.velocity).max() + 1e-6
    assert np.abs(np.diff(velocity, axis=0)).max() / 0.1 <= limits.joint_acceleration + 1e-6
    tools = np.array([kinematics.tcp(each).position for each in path])
    assert (tools >= np.array(limits.workspace_min) - 1e-6).all()
    assert (tools <= np.array(limits.workspace_max) + 1e-6).all()


def test_a_keep_out_box_keeps_the_tool_out() -> None:
    x, y, z = Kinematics(SO101).tcp(HOME).position
    box = (x - 0.03, y - 0.12, z - 0.05, x + 0.03, y - 0.08, z + 0.05)
    task = joint_task(SO101)
    ways = []
    for keep_out in ((), box):
        robot = arm()
        limited = replace(task, limits=replace(task.limits, keep_out=keep_out))
        env = SERLRobotEnvironment(robot, "so101", task=limited, mapping=MAPPING, wall=Clock().wall)
        env.reset(seed=0)
        acted: set[str] = set()
        for _ in range(40):
            *_, info = env.step(np.array([1, 0, 0, 0, 0, 0], np.float32))
            acted |= set(info["limits"])
        ways.append(y - Kinematics(SO101).tcp(sent(robot)[-1]).position[1])
    free, kept = ways
    assert free > 0.065 and kept < 0.08 - task.limits.keep_out_distance + 1e-6 and "keep_out" in acted


def test_actions_of_a_task_lead_the_tool() -> None:
    robot = arm()
    env = SERLRobotEnvironment(robot, "so101", task="pick_cube_so101", mapping=MAPPING, wall=Clock().wall)
    env.reset(seed=0)
    kinematics = Kinematics(SO101)
    before = kinematics.tcp(sent(robot)[-1]).position
    for _ in range(2):
        env.step(np.array([0, 0, -1, 0], np.float32))  # 2 cm down each
    for _ in range(5):
        env.step(np.array([0, 0, 0, 0], np.float32))
    assert kinematics.tcp(sent(robot)[-1]).position - before == pytest.approx([0, 0, -0.04], abs=0.003)


def test_rewards_end_an_episode_and_a_success_is_told() -> None:
    clock = Clock()
    env = SERLRobotEnvironment(
        arm(), "so101", mapping=MAPPING, wall=clock.wall, reward=lambda seen: seen["state"][0] > 0.08
    )
    env.reset(seed=0)
    steps, terminated, began = 0, False, clock.now
    while not terminated:
        _, reward, terminated, _, info = env.step(np.array([1, 0, 0, 0, 0, 0], np.float32))
        steps += 1
    assert reward == 1.0 and info["success"] and 2 <= steps <= 10
    assert clock.now - began == pytest.approx(0.1 * steps, abs=0.06)


def test_an_arm_that_does_not_answer_or_does_not_move_ends_the_episode_with_a_reason() -> None:
    robot = arm()
    env = SERLRobotEnvironment(robot, "so101", mapping=MAPPING, wall=Clock().wall)
    env.reset(seed=0)
    robot.is_gone = True
    with pytest.raises(DriverError, match="LeRobot's kinematic_arm: ConnectionError: no status packet"):
        env.step(np.zeros(6, np.float32))
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(np.zeros(6, np.float32))
    robot.is_gone, robot.is_stuck = False, True
    robot.state["shoulder_pan.pos"] += 20.0
    with pytest.raises(DriverError, match=r"expected the arm at .* after 20 s, found"):
        env.reset(seed=0)


def test_a_robot_with_other_joints_and_an_unknown_camera_are_refused() -> None:
    with pytest.raises(FeatureError, match=r"expected the numbers shoulder_pan.pos, .*, found a.pos, gripper.pos"):
        SERLRobotEnvironment(KinematicArm(("a",), [0.0]), "so101")
    with pytest.raises(FeatureError, match=r"cameras among none, found .'front'"):
        SERLRobotEnvironment(arm(), "so101", views={"front": None})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="expected one of a single 'so101', found 'panda'"):
        SERLRobotEnvironment(arm(), "so101", task="pick_cube")


def patiently(call: Callable[[], Any]) -> Any:
    """Call once more where a servo was too late for LeRobot, as it is on a busy machine."""
    for _ in range(10):
        try:
            return call()
        except (DriverError, RuntimeError):
            continue
    return call()


@pytest.mark.skipif(not compat.is_installed(), reason="LeRobot is not installed: ./serl setup lerobot")
def test_lerobots_own_so101_goes_where_actions_lead(terminal: PseudoTerminal, calibration: Path) -> None:
    follower = compat.load("lerobot.robots.so_follower")
    settings = {"port": terminal.path, "id": calibration.stem, "calibration_dir": calibration.parent}
    robot = follower.SO101Follower(follower.SO101FollowerConfig(use_degrees=True, **settings))
    for number, angle in enumerate(SO101.configuration("ready"), start=1):
        terminal.bus.servo(number).position = 2047 + angle * 4096 / (2 * np.pi)
    patiently(robot.bus.connect)
    robot.bus.disable_torque()  # else the registers of the calibration are locked
    robot.bus.write_calibration(robot.calibration)
    robot.bus.disconnect(disable_torque=False)
    env = patiently(lambda: SERLRobotEnvironment(robot, "so101", mapping=MAPPING))
    env.reset(seed=0)
    for _ in range(4):
        observation, *_ = env.step(np.array([1, 0, 0, 0, 0, 1], np.float32))
    for _ in range(6):
        observation, *_ = env.step(np.array([0, 0, 0, 0, 0, 1], np.float32))
    assert observation["state"][:5] == pytest.approx(HOME + np.eye(5)[0] * 0.2, abs=0.05)
    env.close()
    assert not any(servo.torque_enabled for servo in terminal.bus.servos)
