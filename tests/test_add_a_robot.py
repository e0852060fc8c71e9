# SPDX-License-Identifier: Apache-2.0
"""docs/add_a_robot.md gives an arm that works: its kinematics are right, and its expert picks the cube."""

import re
import sys

import pytest
from documented_pages import ROOT, Checkout

PAGE = ROOT / "docs" / "add_a_robot.md"


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """A checkout in which the page was followed, and what its code printed."""
    checkout = Checkout(tmp_path_factory.mktemp("checkout"))
    return checkout, checkout.follow(PAGE)


def test_the_expert_of_the_page_picks_the_cube(followed):
    """By the loop that the page shows, on 100 start states."""
    _, output = followed
    assert int(re.search(r"^(\d+) of 100$", output, re.MULTILINE)[1]) >= 95, output


KINEMATICS = """
import xml.etree.ElementTree as ET

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.robot import load_robot
from serl_sim.world import World
from serl_tasks import get_task

robot = load_robot("my_arm")
assert len(robot.arm_joints) == 6
kinematics = Kinematics(robot)
world = World(get_task("my_arm_pick_cube"))
joints = ET.fromstring(robot.urdf_xml()).findall("joint")
above = {joint.find("child").get("link"): joint for joint in joints}


def numbers(element, key):
    return np.array([float(value) for value in element.get(key, "0 0 0").split()])


def chain(positions):
    # The pose of the tool by the URDF specification: each joint's origin, then its turn about its axis.
    link, pose = robot.tcp_frame, np.eye(4)
    while link != robot.base_frame:
        joint = above[link]
        origin, step = joint.find("origin"), np.eye(4)
        step[:3, 3] = numbers(origin, "xyz")
        turn = Rotation.from_euler("xyz", numbers(origin, "rpy"))
        if joint.get("type") == "revolute":
            angle = positions[robot.arm_joints.index(joint.get("name"))]
            turn = turn * Rotation.from_rotvec(angle * numbers(joint.find("axis"), "xyz"))
        step[:3, :3] = turn.as_matrix()
        pose, link = step @ pose, joint.find("parent").get("link")
    return pose


rng = np.random.default_rng(0)
arm = [world.model.joint(name).qposadr[0] for name in robot.arm_joints]
for _ in range(200):
    positions = rng.uniform(kinematics.lower, kinematics.upper)
    expected = kinematics.tcp(positions).matrix()
    np.testing.assert_allclose(expected, chain(positions), atol=1e-9)
    world.data.qpos[arm] = positions
    mujoco.mj_forward(world.model, world.data)
    site = world.data.site("tcp")
    np.testing.assert_allclose(site.xpos, expected[:3, 3], atol=1e-9)
    np.testing.assert_allclose(site.xmat.reshape(3, 3), expected[:3, :3], atol=1e-9)
"""


def test_its_kinematics_are_those_of_its_description_and_of_the_simulated_arm(followed):
    checkout, _ = followed
    checkout.python(KINEMATICS)


REFUSED = """
from dataclasses import replace

from serl_config.schema import ConfigError
from serl_sim.envs import TaskEnv
from serl_tasks import get_task

try:
    get_task("too_wide")
except ConfigError as error:
    print(error)
task = get_task("my_arm_pick_cube")
action = replace(task.action, scale=(0.04, 0.04, 0.04, 0.08))
for wrong in (replace(task, action=action), replace(task, start=replace(task.start, gripper_width=0.08))):
    try:
        TaskEnv(wrong)
    except ConfigError as error:
        print(error)
"""


def test_a_task_that_opens_the_gripper_wider_than_it_can_be_is_refused(followed):
    checkout, _ = followed
    (checkout.root / "config/tasks/too_wide.yaml").write_text("name: too_wide\nextends: pick_cube\nrobot: my_arm\n")
    by_file, by_action, by_start = checkout.python(REFUSED).splitlines()
    for line, task in ((by_file, "too_wide"), (by_action, "my_arm_pick_cube"), (by_start, "my_arm_pick_cube")):
        assert f"task '{task}': " in line
        assert "expected at most the 0.05 m that 'my_arm' opens" in line
        assert "(gripper.max_width of config/robots/my_arm.yaml)" in line
        assert f"found 0.08; change it in config/tasks/{task}.yaml, or name another robot there" in line
    assert "action.scale of gripper" in by_action
    assert "start.gripper_width" in by_start


WIDTHS = """
import numpy as np
from serl_sim.envs import TaskEnv

env = TaskEnv("my_arm_pick_cube")
env.reset(seed=0)
for value, width in ((1.0, 0.05), (-1.0, 0.0), (0.0, 0.025), (1.0, 0.05)):
    for _ in range(4):
        *_, info = env.step(np.array([0.0, 0.0, 0.0, value], np.float32))
    assert info["executed_action"][3] == np.float32(value), (value, info)
    assert abs(env.world.gripper_width - width) < 1e-3, (value, env.world.gripper_width)
"""


def test_what_is_reported_as_executed_is_what_the_gripper_does(followed):
    checkout, _ = followed
    checkout.python(WIDTHS)


@pytest.mark.graph
def test_the_arm_of_the_page_is_led_in_the_graph(followed, processes, tmp_path):
    checkout, _ = followed
    file = tmp_path / "picked.serl"
    command = [sys.executable, "-m", "serl_cli", "record", "my_arm_pick_cube", "--episodes", "2", "--out", str(file)]
    recording = processes.start(*command, env=checkout.environment)
    assert recording.wait(90.0) == 0, recording.output()
    assert "2 demonstrations" in recording.output()
    assert file.stat().st_size > 0
