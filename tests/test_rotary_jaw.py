# SPDX-License-Identifier: Apache-2.0
"""An arm of five joints whose gripper is one rotary jaw: commanded and measured by the width, as any other."""

import math
from dataclasses import replace

import numpy as np
import pytest
import yaml
from documented_pages import ROOT, blocks
from serl_config.schema import build
from serl_robots.control.arm_task import ArmTask
from serl_robots.control.task_robot import robot_of
from serl_robots.model.gripper import Gripper
from serl_robots.model.joint_states import JointStateReader
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.robot import load_robot
from serl_sim.envs import TaskEnv

from serl_tasks import get_task

HINGE, LENGTH, HALF = 0.02, 0.07, 0.006  # of the jaw: its hinge beside the fixed pad, to its tip, half as thick [m]
ANGLES = np.linspace(-0.21, 0.6, 17)  # [rad]


def opening(angle: float) -> float:
    """From the fixed pad to the middle of the jaw's face at its tip [m]."""
    return HINGE + LENGTH * math.sin(angle) - HALF * math.cos(angle)


def link(name: str, centre: tuple[float, ...], size: tuple[float, ...], collision: str = "") -> str:
    box = f'<origin xyz="{" ".join(map(str, centre))}"/><geometry><box size="{" ".join(map(str, size))}"/></geometry>'
    solid = f'<collision name="{collision}">{box}</collision>' if collision else ""
    return (
        f'<link name="{name}"><inertial><origin xyz="{" ".join(map(str, centre))}"/><mass value="0.1"/>'
        '<inertia ixx="1e-4" iyy="1e-4" izz="1e-4" ixy="0" ixz="0" iyz="0"/></inertial>'
        f"<visual>{box}</visual>{solid}</link>"
    )


def joint(name: str, parent: str, child: str, xyz: str, axis: str = "", limit: str = "", rpy: str = "0 0 0") -> str:
    kind = "revolute" if axis else "fixed"
    motion = f'<axis xyz="{axis}"/><limit {limit} velocity="3" effort="10"/>' if axis else ""
    return (
        f'<joint name="{name}" type="{kind}"><origin xyz="{xyz}" rpy="{rpy}"/><parent link="{parent}"/>'
        f'<child link="{child}"/>{motion}</joint>'
    )


def description(sign: int) -> str:
    """The arm; its jaw opens with the angle where `sign` is 1, and closes with it where it is -1."""
    low, high = sorted((sign * ANGLES[0], sign * ANGLES[-1]))
    return f"""<robot name="small">
<mujoco><compiler discardvisual="false" fusestatic="false" strippath="false" balanceinertia="false"/></mujoco>
<link name="world"/>
{link("base", (0, 0, 0.025), (0.1, 0.1, 0.05))}
{link("link1", (0, 0, 0.025), (0.06, 0.06, 0.05))}
{link("link2", (0, 0, 0.08), (0.03, 0.03, 0.16))}
{link("link3", (0.08, 0, 0), (0.16, 0.03, 0.03))}
{link("link4", (0, 0, -0.02), (0.03, 0.03, 0.04))}
{link("hand", (0, -0.01, 0.055), (0.016, 0.02, 0.07), "fixed_pad")}
{link("jaw", (0, 0, LENGTH / 2), (0.016, 2 * HALF, LENGTH), "jaw_pad")}
<link name="tcp"/>
{joint("fix", "world", "base", "0 0 0")}
{joint("pan", "base", "link1", "0 0 0.05", "0 0 1", 'lower="-2" upper="2"')}
{joint("lift", "link1", "link2", "0 0 0.05", "0 1 0", 'lower="-1.7" upper="1.7"')}
{joint("elbow", "link2", "link3", "0 0 0.16", "0 1 0", 'lower="-2.4" upper="1.7"')}
{joint("wrist", "link3", "link4", "0.16 0 0", "0 1 0", 'lower="-2" upper="2"')}
{joint("roll", "link4", "hand", "0 0 -0.04", "0 0 1", 'lower="-2.8" upper="2.8"', "3.141592653589793 0 0")}
{joint("hinge", "hand", "jaw", f"0 {HINGE} 0.01", f"{-sign} 0 0", f'lower="{low}" upper="{high}"')}
{joint("tip", "hand", "tcp", "0 0.01 0.08")}
</robot>"""


def robot_file(name: str, sign: int) -> dict:
    angles = sorted(sign * ANGLES)
    return {
        "name": name,
        "urdf": f"urdf/{name}.urdf.xacro",
        "base_frame": "base",
        "tcp_frame": "tcp",
        "arm_joints": ["pan", "lift", "elbow", "wrist", "roll"],
        "low_level": "cartesian",
        "named_configurations": {"ready": [0.0, 0.0, 0.8, -0.8, 0.0], "home": [0.0, -0.5, 0.9, -0.4, 0.0]},
        "safety_box": {"lower": [0.10, -0.15, 0.012], "upper": [0.28, 0.15, 0.2]},
        "gripper": {
            "joints": ["hinge"],
            "min_width": 0.0,
            "max_width": 0.05,
            "jaw": {
                "angles": [float(angle) for angle in angles],
                "widths": [opening(sign * angle) for angle in angles],
            },
        },
        "cameras": {},
        "simulation": {
            "cartesian": {
                "linear": {"stiffness": 300.0, "damping": 25.0, "limit": 10.0},
                "angular": {"stiffness": 3.0, "damping": 0.25, "limit": 1.0},
            },
            "joints": {"stiffness": [20.0] * 5, "damping": [1.0] * 5},
            "gripper": {"stiffness": 10.0, "damping": 0.2, "limit": 1.0},
            "joint_damping": 0.05,
            "posture_stiffness": 0.0,
            "pad_friction": [1.5, 0.005, 0.0001],
        },
    }


def task_file(name: str) -> dict:
    return {
        "name": name,
        "extends": "pick_cube",
        "robot": name,
        "action": {"names": ["dx", "dy", "dz", "gripper"], "scale": [0.02, 0.02, 0.02, 0.05]},
        "limits": {"orientation_cone": 0.3, "max_step": 0.03, "max_velocity": 0.3, "max_gripper_velocity": 1.0},
        "start": {"tcp_position": [0.2, 0.0, 0.1], "gripper_width": 0.05},
        "objects": {"cube": {"size": [0.02, 0.02, 0.02], "lower": [0.18, -0.03], "upper": [0.22, 0.03]}},
    }


@pytest.fixture(params=[1, -1], ids=["opens with the angle", "closes with the angle"])
def sign(request) -> int:
    return request.param


@pytest.fixture
def name(sign, tmp_path, monkeypatch) -> str:
    """The arm's robot and task, written into a folder of their own."""
    name = "small_opens" if sign > 0 else "small_closes"
    for path, text in (
        (f"urdf/{name}.urdf.xacro", description(sign)),
        (f"config/robots/{name}.yaml", yaml.safe_dump(robot_file(name, sign))),
        (f"config/tasks/{name}.yaml", yaml.safe_dump(task_file(name))),
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    monkeypatch.setenv("SERL_SHARE", str(tmp_path))
    for cached in (load_robot, get_task):
        cached.cache_clear()
    return name


def measured_opening(world) -> float:
    """Distance of the jaw's tip from the fixed pad, along the hand's y axis, from the bodies' poses [m]."""
    data = world.data
    hand, jaw = data.body("hand"), data.body("jaw")
    tip = jaw.xpos + jaw.xmat.reshape(3, 3) @ (0.0, -HALF, LENGTH)
    return float((hand.xmat.reshape(3, 3).T @ (tip - hand.xpos))[1])


def test_a_width_is_commanded_and_the_jaw_opens_as_wide(name):
    env = TaskEnv(name)
    env.reset(seed=0)
    assert len(env.world.robot.arm_joints) == 5
    for value in (1.0, 0.2, -0.5, -1.0, 0.6, 1.0):
        for _ in range(5):
            *_, info = env.step(np.array([0.0, 0.0, 0.0, value], np.float32))
        width = 0.5 * (value + 1.0) * 0.05
        assert info["executed_action"][3] == np.float32(value)
        assert env.world.arm_sample().gripper_target == pytest.approx(width)
        assert env.world.gripper_width == pytest.approx(width, abs=1e-3)
        assert measured_opening(env.world) == pytest.approx(width, abs=1e-3)
    assert env.world.finger_speed < 1e-3


def test_joint_states_of_the_arm_tell_its_width(name, sign):
    class Message:
        pass

    robot = load_robot(name)
    reader = JointStateReader(robot, Kinematics(robot))
    message = Message()
    message.name = list(robot.joints)
    message.velocity = message.effort = [0.0] * 6
    for angle in ANGLES[1:-1] + 0.01:
        message.position = [0.0] * 5 + [sign * angle]
        assert reader.read(message).gripper_width == pytest.approx(opening(angle), abs=1e-4)


def test_the_kinematics_are_those_of_the_simulated_arm(name):
    world = TaskEnv(name).world
    rng = np.random.default_rng(1)
    adr = [world.model.joint(each).qposadr[0] for each in world.robot.arm_joints]
    import mujoco

    for _ in range(50):
        positions = rng.uniform(world.kinematics.lower, world.kinematics.upper)
        world.data.qpos[adr] = positions
        mujoco.mj_forward(world.model, world.data)
        pan, lift, elbow, wrist, _ = positions
        # a planar arm that turns about the vertical, its hand lying in the plane but for the 10 mm to the pads' middle
        a, b, c = lift, lift + elbow, lift + elbow + wrist
        radius = 0.16 * math.sin(a) + 0.16 * math.cos(b) - 0.04 * math.sin(c)
        height = 0.10 + 0.16 * math.cos(a) - 0.16 * math.sin(b) - 0.04 * math.cos(c)
        hand = world.data.body("hand").xpos
        np.testing.assert_allclose(hand, (radius * math.cos(pan), radius * math.sin(pan), height), atol=1e-9)
        np.testing.assert_allclose(world.kinematics.tcp(positions).position, world.data.site("tcp").xpos, atol=1e-9)


def test_whatever_is_commanded_tool_and_joints_keep_their_limits(name):
    env = TaskEnv(name)
    limits, world = env.task.limits, env.world
    assert limits.workspace_min == (0.10, -0.15, 0.012), "the robot's own, as the task sets none"
    rng = np.random.default_rng(0)
    moved = 0.0
    for seed in range(3):
        env.reset(seed=seed)
        start = world.arm_sample().tcp
        for _ in range(env.task.horizon):
            action = rng.choice([-1.0, 0.0, 1.0], 4).astype(np.float32)
            _, _, terminated, _, _ = env.step(action)
            sample, joints = world.arm_sample(), world.joint_positions[:5]
            assert (sample.tcp.position > np.subtract(limits.workspace_min, 0.015)).all()
            assert (sample.tcp.position < np.add(limits.workspace_max, 0.015)).all()
            assert ((joints > world.arm_limits[:, 0]) & (joints < world.arm_limits[:, 1])).all()
            moved = max(moved, start.distance(sample.tcp))
            if terminated:
                break
    assert moved > 0.05


def test_a_controller_that_follows_no_poses_refuses_a_task_that_moves_the_tool(name):
    task = get_task(name)
    file = robot_file(name, 1) | {"low_level": "joint"}
    arm_task = ArmTask(
        name=name, robot=name, control_period=0.1, action=task.action, limits=replace(task.limits, max_step=0.02)
    )
    assert robot_of(arm_task).low_level == "cartesian"
    from serl_config import resources

    resources.find(f"config/robots/{name}.yaml").write_text(yaml.safe_dump(file))
    load_robot.cache_clear()
    with pytest.raises(ValueError, match=r"low_level of config/robots/.*found dx dy dz gripper"):
        robot_of(arm_task)


def test_the_jaw_of_the_page_is_one():
    """The part of a file that docs/add_a_robot.md shows."""
    (part,) = (block for block in blocks(ROOT / "docs" / "add_a_robot.md") if block.not_run)
    gripper = build(Gripper, yaml.safe_load(part.text)["gripper"], part.place)
    assert gripper.jaw is not None
    assert gripper.position(0.014) == 0.0
    assert gripper.width([0.6]) == 0.0535
