# SPDX-License-Identifier: Apache-2.0
"""Force and torque at the wrist, against weights, springs and forces that are known."""

from dataclasses import replace

import mujoco
import numpy as np
import pytest
from serl_config.schema import ConfigError
from serl_robots.model.pose import Pose
from serl_sim.envs import TaskEnv
from serl_sim.world import World
from serl_tasks.observation import StateTerm

from serl_tasks import get_task

GRAVITY = 9.81  # [m/s^2]
FELT = tuple(StateTerm(name=name, shift=(0.0,) * 3, scale=(1.0,) * 3) for name in ("tcp_force", "tcp_torque"))
PICK = replace(get_task("pick_cube"), state=FELT)
INSERT = replace(get_task("insert_peg"), state=FELT)
DOWN = (1.0, 0.0, 0.0, 0.0)


def in_base(world):
    """Force [N] and torque [Nm] in the axes of the base."""
    tool, wrench = world.arm_sample().tcp, world.wrench
    return tool.rotate(wrench[:3]), tool.rotate(wrench[3:])


def hold(world, target, width, periods=15):
    for _ in range(periods):
        world.step(target, width)


def pushed_by_the_table(world):
    """What the contacts of the table push up, all together [N]; the cube's own weight is on it as well."""
    total, force, data = 0.0, np.zeros(6), world.data
    for index, contact in enumerate(data.contact[: data.ncon]):
        if world.model.geom("cube").id in (contact.geom1, contact.geom2):
            continue
        mujoco.mj_contactForce(world.model, data, index, force)
        total += abs(contact.frame[2]) * force[0]
    return total


@pytest.mark.parametrize("task", [PICK, INSERT])
def test_a_hand_that_touches_nothing_feels_nothing_however_it_is_turned(task):
    """Neither its own weight nor that of a peg that it holds rigidly."""
    world = World(task)
    start = np.add(world.arm_sample().tcp.position, (0.0, 0.0, 0.03))
    for vector in ((0.0, 0.0, 0.0), (0.4, 0.0, 0.0), (0.0, -0.5, 0.3)):
        turn = Pose.from_rotation_vector((0.0, 0.0, 0.0), vector).compose(Pose((0.0, 0.0, 0.0), DOWN))
        hold(world, Pose(start, turn.quaternion), task.start.gripper_width, 30)
        force, torque = in_base(world)
        assert np.abs(force).max() < 0.1
        assert np.abs(torque).max() < 0.02


def test_a_weight_that_hangs_on_the_gripper_is_felt():
    world = World(PICK)
    world.reset(0, {"cube": Pose((0.5, 0.0, 0.02))})
    hold(world, Pose((0.5, 0.0, 0.02), DOWN), 0.08)
    hold(world, Pose((0.5, 0.0, 0.02), DOWN), 0.0)
    hold(world, Pose((0.5, 0.0, 0.2), DOWN), 0.0, 30)
    assert world.objects()["cube"].position[2] > 0.15, "it hangs"
    force, torque = in_base(world)
    weight = PICK.objects["cube"].mass * GRAVITY
    np.testing.assert_allclose(force, [0.0, 0.0, -weight], atol=0.05 * weight)
    lever = world.objects()["cube"].position - world.arm_sample().tcp.position
    np.testing.assert_allclose(torque, np.cross(lever, [0.0, 0.0, -weight]), atol=2e-3)


@pytest.mark.parametrize(("depth", "exact"), [(0.01, True), (0.02, True), (0.08, False)])
def test_what_presses_on_the_table_is_pushed_back_by_the_spring_of_the_controller(depth, exact):
    """By its stiffness times the error, which is cut off at the force limit."""
    world = World(PICK)
    world.reset(0, {"cube": Pose((0.6, 0.1, 0.02))})
    target = Pose((0.45, -0.05, 0.01 - depth), DOWN)
    hold(world, Pose((0.45, -0.05, 0.03), DOWN), 0.0)
    hold(world, target, 0.0, 30)
    linear = world.robot.simulation.cartesian.linear
    error = world.arm_sample().tcp.position[2] - target.position[2]
    expected = linear.stiffness * error if exact else linear.limit
    force, _ = in_base(world)
    assert expected > 10.0
    np.testing.assert_allclose(force[2], expected, atol=3.0)  # the weak springs of the posture pull, too
    np.testing.assert_allclose(force[2], pushed_by_the_table(world), rtol=0.01)


def test_a_force_on_a_point_of_the_tool_is_felt_with_its_torque():
    world = World(PICK)
    before = np.concatenate(in_base(world))
    tool = world.model.body(world.robot.tcp_frame).id
    force, at = np.array([3.0, -2.0, 4.0]), np.array([0.02, 0.05, -0.01])  # N and m, from the tool centre point
    for _ in range(10):
        world.data.xfrc_applied[tool, :3] = force
        world.data.xfrc_applied[tool, 3:] = np.cross(at, force) - np.cross(
            world.data.xipos[tool] - world.data.xpos[tool], force
        )
        world.step(world.arm_sample().tcp, 0.08)
    for _ in range(20):
        world.step(Pose(PICK.start.tcp_position, DOWN), 0.08)
    felt = np.concatenate(in_base(world)) - before
    np.testing.assert_allclose(felt, [*force, *np.cross(at, force)], atol=5e-3)


def test_the_low_pass_takes_as_long_as_it_says():
    """After a time constant of 1 / (2 pi 20 Hz) it has gone 1 - 1/e of a step."""
    world = World(PICK)
    sensor, steps = world._wrist, 4  # 8 ms, which is 1.005 time constants
    sensor._filtered[:] = sensor._measured(world.data) + 1.0
    for _ in range(steps):
        sensor.update(world.data)
    left = sensor.wrench - sensor._measured(world.data)
    np.testing.assert_allclose(left, np.exp(-2.0 * np.pi * 20.0 * 0.008), atol=1e-9)


@pytest.mark.parametrize("frame", ["base", "tool"])
def test_the_state_says_what_is_felt_since_the_start(frame):
    limits = replace(PICK.limits, workspace_min=(0.33, -0.17, -0.05))
    env = TaskEnv(replace(PICK, frame=frame, limits=limits))
    observation, _ = env.reset(seed=0)
    np.testing.assert_array_equal(observation["state"], np.zeros(6))
    down = -1.0 if frame == "base" else 1.0  # the tool points down
    for _ in range(30):
        observation, *_ = env.step(np.array([0.0, 0.0, down, -1.0], np.float32))
    pushed = observation["state"][2]
    assert -pushed * down > 20.0, "the table pushes against the way"


def test_a_world_that_nobody_feels_in_is_as_it_was():
    assert World(get_task("pick_cube")).wrench is None
    assert World(get_task("pick_cube")).model.nsensor == 0


def test_the_sensor_moves_nothing():
    felt, plain = World(PICK), World(get_task("pick_cube"))
    for world in (felt, plain):
        world.reset(3)
        hold(world, Pose((0.45, 0.1, 0.05), DOWN), 0.0, 5)
    np.testing.assert_array_equal(felt.data.qpos, plain.data.qpos)


def test_terms_of_joints_have_a_value_for_each_joint(tmp_path, monkeypatch):
    (tmp_path / "config/tasks").mkdir(parents=True)
    monkeypatch.setenv("SERL_SHARE", str(tmp_path))
    text = "name: NAME\nextends: pick_cube\nstate:\n  - {name: joint_positions, shift: [LIST], scale: [LIST]}\n"
    for name, count in (("seven", 7), ("six", 6)):
        values = ", ".join(["1.0"] * count)
        (tmp_path / f"config/tasks/{name}.yaml").write_text(text.replace("NAME", name).replace("LIST", values))
    env = TaskEnv("seven")
    observation, _ = env.reset(seed=0)
    np.testing.assert_allclose(observation["state"], env.world.arm_positions - 1.0, atol=1e-6)
    with pytest.raises(ConfigError, match=r"six.yaml:4: .*a value for each of the 7 joints of 'panda', found 6"):
        get_task("six")
