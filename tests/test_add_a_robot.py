# SPDX-License-Identifier: Apache-2.0
"""docs/add_a_robot.md gives an arm that works: true kinematics, an expert that succeeds, a driver that moves it."""

import json
import os
import re
import signal
import sys
from pathlib import Path

import numpy as np
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

robot = load_robot("xarm6")
assert len(robot.arm_joints) == 6
kinematics = Kinematics(robot)
world = World(get_task("pick_cube_xarm6"))
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


DENAVIT_HARTENBERG = """
import numpy as np
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.robot import load_robot

TOOL = 0.172  # of the gripper, from the flange [m]
OFFSET = 1.3849179
# The vendor's table of modified parameters: twist [rad], length [m], offset [m], and what is added to the joint [rad].
ROWS = [
    (0.0, 0.0, 0.267, 0.0),
    (-np.pi / 2, 0.0, 0.0, -OFFSET),
    (0.0, 0.28948866, 0.0, OFFSET),
    (-np.pi / 2, 0.0775, 0.3425, 0.0),
    (np.pi / 2, 0.0, 0.0, 0.0),
    (-np.pi / 2, 0.076, 0.097 + TOOL, 0.0),
]
kinematics = Kinematics(load_robot("xarm6"))
rng = np.random.default_rng(0)
for _ in range(200):
    positions = rng.uniform(kinematics.lower, kinematics.upper)
    pose = np.eye(4)
    for (twist, length, offset, zero), position in zip(ROWS, positions, strict=True):
        (c, s), (ct, st) = ((np.cos(each), np.sin(each)) for each in (position + zero, twist))
        turned = [[c, -s, 0], [s * ct, c * ct, -st], [s * st, c * st, ct]]
        pose = pose @ np.block([[np.array(turned), np.c_[[length, -offset * st, offset * ct]]], [np.eye(4)[3:]]])
    np.testing.assert_allclose(kinematics.tcp(positions).matrix(), pose, atol=5e-6)
np.testing.assert_allclose(kinematics.tcp(np.zeros(6)).position, [0.207, 0.0, 0.112 - TOOL], atol=1e-6)
"""


def test_its_kinematics_are_those_of_the_vendor_s_table(followed):
    """Rounded by the vendor to a micrometre; its manual says (207, 0, 112) mm for the flange where all joints are 0."""
    checkout, _ = followed
    checkout.python(DENAVIT_HARTENBERG)


REFUSED = """
from dataclasses import replace

from serl_config.schema import ConfigError
from serl_sim.envs import TaskEnv
from serl_tasks import get_task

try:
    get_task("too_wide")
except ConfigError as error:
    print(error)
task = get_task("pick_cube_xarm6")
action = replace(task.action, scale=(0.04, 0.04, 0.04, 0.1))
for wrong in (replace(task, action=action), replace(task, start=replace(task.start, gripper_width=0.1))):
    try:
        TaskEnv(wrong)
    except ConfigError as error:
        print(error)
"""


TOO_WIDE = """
name: too_wide
extends: pick_cube_xarm6
action: {names: [dx, dy, dz, gripper], scale: [0.04, 0.04, 0.04, 0.1]}
"""


def test_a_task_that_opens_the_gripper_wider_than_it_can_be_is_refused(followed):
    checkout, _ = followed
    (checkout.root / "config/tasks/too_wide.yaml").write_text(TOO_WIDE)
    by_file, by_action, by_start = checkout.python(REFUSED).splitlines()
    for line, task in ((by_file, "too_wide"), (by_action, "pick_cube_xarm6"), (by_start, "pick_cube_xarm6")):
        assert f"task '{task}': " in line
        assert "expected at most the 0.085 m that 'xarm6' opens" in line
        assert "(gripper.max_width of config/robots/xarm6.yaml)" in line
        assert f"found 0.1; change it in config/tasks/{task}.yaml, or name another robot there" in line
    assert "action.scale of gripper" in by_action
    assert "start.gripper_width" in by_start


WIDTHS = """
import numpy as np
from serl_sim.envs import TaskEnv

env = TaskEnv("pick_cube_xarm6")
env.reset(seed=0)
for value, width in ((1.0, 0.08), (-1.0, 0.0), (0.0, 0.04), (1.0, 0.08)):
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
    command = [sys.executable, "-m", "serl_cli", "record", "pick_cube_xarm6", "--episodes", "2", "--out", str(file)]
    recording = processes.start(*command, env=checkout.environment)
    assert recording.wait(90.0) == 0, recording.output()
    assert "2 demonstrations" in recording.output()
    assert file.stat().st_size > 0


class Clients:
    """The stand-in for the vendor's client: what is wrong with the arm, and what it was told."""

    def __init__(self, folder: Path) -> None:
        self.plan = folder / "xarm.json"
        self.say()

    def say(self, **wrong: object) -> None:
        temporary = self.plan.with_suffix(".new")
        temporary.write_text(json.dumps(wrong))
        temporary.replace(self.plan)

    def told(self, call: str) -> list:
        calls = self.plan.with_suffix(".calls")
        lines = calls.read_text().splitlines() if calls.exists() else []
        return [value for name, value in map(json.loads, lines) if name == call]


@pytest.mark.graph
def test_the_driver_of_the_page_moves_the_arm_says_what_is_wrong_and_leaves_it_holding(
    followed, ros, processes, tmp_path
):
    """As `./serl doctor` looks at a bench: is it there, does a joint turn the way it is told, is a fault found."""
    from diagnostic_msgs.msg import DiagnosticStatus
    from sensor_msgs.msg import JointState
    from serl_ros.qos import LATCHED, RELIABLE_1, RELIABLE_10
    from std_msgs.msg import Float64MultiArray
    from std_srvs.srv import Trigger
    from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

    checkout, _ = followed
    arm = Clients(tmp_path)
    node, statuses, states = ros.node(), [], []
    node.create_subscription(DiagnosticStatus, "driver/status", statuses.append, LATCHED)
    node.create_subscription(JointState, "joint_states", states.append, RELIABLE_10)
    joints = node.create_publisher(JointTrajectory, "joint_trajectory_controller/joint_trajectory", RELIABLE_1)
    width = node.create_publisher(Float64MultiArray, "gripper_controller/commands", RELIABLE_1)

    def comes(state, *words):
        def there():
            return statuses and statuses[-1].values[0].value == state and all(w in statuses[-1].message for w in words)

        ros.spin_until(there, 60.0, lambda: f"{state} {words}: {[status.message for status in statuses]}")

    def ask(what):
        client = node.create_client(Trigger, f"driver/{what}")
        ros.spin_until(client.service_is_ready, 30.0, what)
        answer = client.call_async(Trigger.Request())
        ros.spin_until(answer.done, 30.0, what)
        return answer.result()

    def move(index, to):
        point = JointTrajectoryPoint(positions=list(states[-1].position[:6]))
        point.positions[index] = to
        point.time_from_start.nanosec = 100_000_000
        joints.publish(JointTrajectory(joint_names=list(states[-1].name[:6]), points=[point]))

    arm.say(unplugged=True)
    environment = {**checkout.environment, "XARM_STAND_IN": str(arm.plan)}
    environment["PYTHONPATH"] += os.pathsep + str(Path(__file__).parent / "vendor_clients")
    program = "from serl_drivers.driver_node import main; main()"
    parameters = ["--ros-args", "-p", "task:=pick_cube_xarm6", "-p", "driver:=xarm6", "-p", "port:=127.0.0.1"]
    process = processes.start(sys.executable, "-c", program, *parameters, env=environment)
    comes("unconfigured", "xArm at 127.0.0.1: no connection (connect socket failed); is the control box on")
    arm.say(axis=7)
    comes("unconfigured", "expected an arm of 6 joints, found one of 7")
    assert not arm.told("motion_enable")
    arm.say(error=2)
    comes("unconfigured", "error 2 of the control box")
    assert not arm.told("motion_enable"), "an arm that is stopped is not switched on"
    arm.say()
    comes("holding")
    ros.spin_until(lambda: states, 10.0, "joint_states")

    for index in range(6):
        before = states[-1].position[index]
        to = before + 0.1
        ros.spin_until(
            lambda index=index, to=to: (move(index, to), states[-1].position[index] > to - 0.01)[1],
            30.0,
            lambda index=index, to=to: f"joint {index + 1} at {to}; it is at {states[-1].position}",
        )
    wanted = Float64MultiArray(data=[0.03])
    ros.spin_until(
        lambda: (width.publish(wanted), abs(sum(states[-1].position[6:]) - 0.03) < 1e-3)[1], 30.0, "an opening of 30 mm"
    )
    assert arm.told("set_gripper_position")[-1] == 300
    steps = np.abs(np.diff(arm.told("set_servo_angle_j"), axis=0))
    assert steps.max() <= 3.14 * 0.02 + 1e-6, "no joint is told to go faster than its description allows"
    comes("holding")

    arm.say(error=31)
    comes("fault", "error 31 of the control box")
    assert not ask("hold").success
    arm.say(silent=True)
    assert ask("connect").success
    comes("unconfigured", "expected code 0, found 3")
    arm.say()
    comes("holding")
    assert ask("release").success
    comes("limp")
    assert arm.told("motion_enable")[-1] is False
    assert ask("hold").success
    comes("holding")
    process.send(signal.SIGINT)
    assert process.wait() == 0, process.output()
    assert arm.told("motion_enable")[-1] is True, "it is left holding"
    assert arm.told("disconnect")
    assert "Traceback" not in process.output()
