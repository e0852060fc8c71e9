# SPDX-License-Identifier: Apache-2.0
import mujoco
import numpy as np
import pytest
from serl_config.schema import ConfigError
from serl_robots.model.pose import Pose, quaternion_exp, quaternion_multiply
from serl_sim.world import SimulationError, World

from serl_tasks import get_task

DOWN = (1.0, 0.0, 0.0, 0.0)
OPEN, CLOSED = 0.08, 0.0


def state(world):
    full = np.empty(mujoco.mj_stateSize(world.model, mujoco.mjtState.mjSTATE_INTEGRATION.value))
    mujoco.mj_getState(world.model, world.data, full, mujoco.mjtState.mjSTATE_INTEGRATION.value)
    return full.tobytes()


def random_commands(seed, count):
    rng = np.random.default_rng(seed)
    return [(Pose(rng.uniform((0.4, -0.1, 0.02), (0.6, 0.1, 0.2)), DOWN), rng.uniform(0, 0.08)) for _ in range(count)]


def play(world, seed, commands):
    world.reset(seed)
    states = [state(world)]
    for target, width in commands:
        world.step(target, width)
        states.append(state(world))
    return states


def settle(world, target, width, steps=20):
    for _ in range(steps):
        world.step(target, width)
    return world.arm_sample()


def grasp(world):
    """Grasp the cube in the middle of the table and lift it."""
    world.reset(0, {"cube": Pose((0.5, 0.0, 0.02))})
    settle(world, Pose((0.5, 0.0, 0.02), DOWN), OPEN)
    settle(world, Pose((0.5, 0.0, 0.02), DOWN), CLOSED, steps=5)
    settle(world, Pose((0.5, 0.0, 0.2), DOWN), CLOSED)


def in_hand(world):
    """Position of the cube in the frame of the tool."""
    objects = world.objects()
    return objects["tcp"].inverse().compose(objects["cube"]).position


def test_an_episode_repeats_bit_for_bit(world):
    commands = random_commands(1, 40)
    first = play(world, 7, commands)
    play(world, 8, random_commands(2, 5))  # whatever happens in between
    world.command_joints(world.robot.configuration("ready"))
    world.advance(100)
    assert play(world, 7, commands) == first


def test_another_world_plays_the_same_episode():
    commands = random_commands(3, 20)
    task = get_task("pick_cube")
    assert play(World(task), 5, commands) == play(World(task), 5, commands)


def test_the_start_is_what_the_task_says(world):
    arm = world.arm_sample()
    assert arm.tcp.distance(Pose(world.task.start.tcp_position, DOWN)) < 1e-5
    assert arm.tcp.angle(Pose((0, 0, 0), DOWN)) < 1e-5
    assert arm.gripper_width == pytest.approx(world.task.start.gripper_width, abs=1e-4)
    np.testing.assert_array_equal(arm.tcp_velocity, np.zeros(6))


@pytest.mark.parametrize("seed", range(5))
def test_the_cube_rests_where_the_seed_puts_it(world, seed):
    world.reset(seed)
    expected = world.task.sample_objects(np.random.default_rng(seed))["cube"]
    before = world.objects()["cube"]
    np.testing.assert_allclose(before.position[:2], expected.position[:2], atol=1e-12)
    assert before.angle(expected) < 1e-9
    settle(world, Pose(world.task.start.tcp_position, DOWN), OPEN, steps=10)
    assert world.objects()["cube"].distance(before) < 1e-4


def test_the_tool_follows_within_two_centimetres_and_arrives(world):
    start = world.arm_sample().tcp.position
    for step in range(1, 4):
        target = Pose(start + np.array([0.0, 0.04 * step, 0.0]), DOWN)
        world.step(target, OPEN)
        assert world.arm_sample().tcp.distance(target) < 0.03
    assert settle(world, target, OPEN).tcp.distance(target) < 0.002


@pytest.mark.parametrize("turn", [(0.2, 0.0, 0.0), (0.0, -0.2, 0.0), (0.0, 0.0, 0.3), (0.1, 0.1, -0.3)])
def test_the_tool_turns_as_commanded(world, turn):
    target = Pose((0.5, 0.0, 0.2), quaternion_multiply(quaternion_exp(turn), DOWN))
    assert settle(world, target, OPEN).tcp.angle(target) < 0.01


def test_the_pose_of_the_tool_is_that_of_the_simulated_hand(world):
    world.step(Pose((0.45, 0.05, 0.15), DOWN), 0.03)
    mujoco.mj_forward(world.model, world.data)
    np.testing.assert_allclose(world.objects()["tcp"].position, world.data.site("tcp").xpos, atol=1e-12)
    velocity = np.empty(6)
    site = world.model.site("tcp").id
    mujoco.mj_objectVelocity(world.model, world.data, mujoco.mjtObj.mjOBJ_SITE.value, site, velocity, 0)
    np.testing.assert_allclose(world.arm_sample().tcp_velocity, np.roll(velocity, 3), atol=1e-9)


def test_a_held_cube_stays_in_the_hand(world):
    grasp(world)
    assert world.objects()["cube"].position[2] > 0.19
    before = in_hand(world)
    settle(world, Pose((0.5, 0.0, 0.2), DOWN), CLOSED, steps=50)
    assert np.linalg.norm(in_hand(world) - before) < 0.0005
    for step in range(20):
        side = 0.04 if step % 2 else -0.04
        world.step(Pose((0.5 + side, -side, 0.2 + side), DOWN), CLOSED)
    assert np.linalg.norm(in_hand(world) - before) < 0.004


def test_an_open_hand_drops_the_cube(world):
    grasp(world)
    settle(world, Pose((0.5, 0.0, 0.2), DOWN), OPEN, steps=10)
    assert world.objects()["cube"].position[2] < 0.05


def test_fingers_that_meet_the_table_do_not_break_anything(world):
    world.reset(0, {"cube": Pose((0.42, 0.0, 0.02))})
    settle(world, Pose((0.55, 0.0, -0.05), DOWN), OPEN)
    assert world.arm_sample().tcp.position[2] > 0.005


def test_joint_commands_lead_until_the_next_pose(world):
    ready = np.array(world.robot.configuration("ready"))
    for share in np.linspace(0.0, 1.0, 20):
        world.command_joints((1 - share) * world.joint_positions[:7] + share * ready)
        world.advance(world.steps_per_period)
    world.advance(500)
    np.testing.assert_allclose(world.joint_positions[:7], ready, atol=0.005)
    target = Pose((0.45, 0.0, 0.3), DOWN)
    assert settle(world, target, OPEN, steps=40).tcp.distance(target) < 0.005


def test_efforts_carry_the_weight_of_the_arm(world):
    world.step(Pose(world.task.start.tcp_position, DOWN), OPEN)
    gravity = world.data.qfrc_bias[:7]
    np.testing.assert_allclose(world.joint_efforts[:7], gravity, atol=0.5)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (lambda world: world.reset(-1), "seed"),
        (lambda world: world.reset(0, {"dice": Pose((0, 0, 0))}), "no object dice; there are cube"),
        (lambda world: world.command_gripper(float("nan")), "finite"),
        (lambda world: world.command_joints([0.0] * 6), "7 finite values"),
        (lambda world: world.command_joints([float("inf")] * 7), "7 finite values"),
    ],
)
def test_a_command_that_is_none_is_refused(world, command, message):
    before = state(world)
    with pytest.raises(ValueError, match=message):
        command(world)
    assert state(world) == before


def test_a_world_that_diverges_says_so_and_recovers(world):
    world.data.qvel[:] = 1e12
    with pytest.raises(SimulationError, match="diverged"):
        world.step(Pose(world.task.start.tcp_position, DOWN), OPEN)
    world.reset(0)
    world.step(Pose(world.task.start.tcp_position, DOWN), OPEN)


@pytest.mark.parametrize("speed", [2e3, 1e5, np.nan, np.inf])
def test_a_speed_that_nothing_has_is_a_divergence_until_the_reset(world, speed):
    """MuJoCo itself warns of speeds above 1e10 only."""
    start = Pose(world.task.start.tcp_position, DOWN)
    world.data.joint("cube").qvel[2] = speed  # upwards
    with pytest.raises(SimulationError, match=r"diverged; reset the world\. (cube moves with|MuJoCo says)"):
        world.step(start, OPEN)
    with pytest.raises(SimulationError, match="diverged"):
        world.step(start, OPEN)
    world.reset(0)
    world.step(start, OPEN)


def test_an_object_that_falls_for_long_is_none(world):
    world.reset(0, {"cube": Pose((0.0, 5.0, 0.02))})
    world.advance(round(30.0 / world.model.opt.timestep))
    assert world.objects()["cube"].position[2] < -1000.0


BRICK = "{mount: fixed, colour: [0.2, 0.2, 0.2], lower: [0.6, 0.2], upper: [0.6, 0.2], size: [0.02, 0.02, 0.02]}"
WALL = "{mount: fixed, colour: [0.2, 0.2, 0.2], lower: [0.6, 0.2], upper: [0.6, 0.2], parts: [%s, %s]}" % (
    ("{size: [0.02, 0.02, 0.02]}",) * 2
)


@pytest.mark.parametrize(
    ("objects", "name"),
    [
        (f"wall: {WALL}\n  wall_1: {BRICK}", "wall_1"),
        (f"panda_link0: {BRICK}", "panda_link0"),
        (f"table: {BRICK}", "table"),
    ],
)
def test_an_object_with_the_name_of_something_else_is_named(objects, name, tmp_path, monkeypatch):
    (tmp_path / "config/tasks").mkdir(parents=True)
    (tmp_path / f"config/tasks/no_{name}.yaml").write_text(
        f"name: no_{name}\nextends: pick_cube\nobjects:\n  {objects}\n"
    )
    monkeypatch.setenv("SERL_SHARE", str(tmp_path))
    with pytest.raises(
        ValueError, match=rf"task 'no_{name}': objects: '{name}' is the name of another .* another name"
    ):
        World(get_task(f"no_{name}"))


def test_a_world_of_others_is_refused_with_who_runs_it():
    with pytest.raises(ConfigError, match=r"task 'metaworld-reach-v3': its world is a Gymnasium .* world:=gym"):
        World(get_task("metaworld-reach-v3"))
