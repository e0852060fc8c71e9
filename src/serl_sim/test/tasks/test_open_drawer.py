# SPDX-License-Identifier: Apache-2.0
"""What slides, in the world: where it is, who opens it, and that it closes for the next episode."""

import mujoco
import numpy as np
import pytest
from led_episode import lead
from serl_robots.model.pose import Pose
from serl_sim.envs import TaskEnv


@pytest.fixture(scope="module")
def env() -> TaskEnv:
    return TaskEnv("open_drawer")


def test_poses_are_those_of_the_simulator(env: TaskEnv) -> None:
    """Between the steps of an episode: by forward kinematics of MuJoCo, which goes through the joint's frame."""
    env.reset(seed=3)
    expert = env.task.make_expert(np.random.default_rng(3))
    for _ in range(12):
        env.step(expert.act(*env.known()))
    world = env.world
    mujoco.mj_kinematics(world.model, world.data)
    assert float(world.data.joint("drawer").qpos[0]) > 0.02, "the drawer has moved"
    for name in ("cabinet", "drawer"):
        body, pose = world.data.body(name), world.objects()[name]
        assert pose.position == pytest.approx(body.xpos, abs=1e-9)
        assert pose.rotation_matrix().ravel() == pytest.approx(body.xmat, abs=1e-9)


def test_an_episode_begins_with_a_closed_drawer(env: TaskEnv) -> None:
    assert lead(env, 5)[0]
    before = env.world.data.joint("drawer").qpos[0]
    env.reset(seed=6)
    assert before > 0.09
    assert abs(env.world.data.joint("drawer").qpos[0]) < 1e-6


def test_a_drawer_goes_where_its_cabinet_does_and_not_by_itself(env: TaskEnv) -> None:
    env.reset(seed=0)
    cabinet = Pose((0.62, 0.03, 0.0))
    env.world.reset(0, {"cabinet": cabinet})
    task = env.task
    assert env.world.objects()["drawer"].position == pytest.approx(np.array((0.56, 0.03, 0.06)), abs=1e-6)
    with pytest.raises(ValueError, match="no object drawer"):
        env.world.reset(0, {"drawer": cabinet})
    for _ in range(10):
        env.world.step(env.world.objects()["tcp"], task.start.gripper_width)
    assert abs(env.world.data.joint("drawer").qpos[0]) < 1e-4


def test_the_expert_opens_it_in_ninety_five_of_a_hundred_scenes(env: TaskEnv) -> None:
    found = [lead(env, seed) for seed in range(100)]
    assert sum(success for success, _ in found) >= 95
    assert np.mean([length for success, length in found if success]) < 20


def test_a_clumsy_expert_mostly_does(env: TaskEnv) -> None:
    assert sum(lead(env, seed, noise=0.3)[0] for seed in range(30)) >= 24


@pytest.mark.parametrize("corner", [(x, y, z) for x in (0.36, 0.62) for y in (-0.14, 0.14) for z in (0.06, 0.19)])
def test_the_expert_takes_over_anywhere_in_the_box(env: TaskEnv, corner: tuple[float, float, float]) -> None:
    """It is led to a corner first, as a policy that drifts would."""
    env.reset(seed=11)
    scale = np.array(env.task.action.scale)
    for _ in range(14):
        way = np.array(corner) - env.known()[0].tcp.position
        env.step(np.clip(way / scale, -1.0, 1.0).astype(np.float32))
    expert = env.task.make_expert(np.random.default_rng(0))
    for _ in range(36):
        *_, terminated, truncated, info = env.step(expert.act(*env.known()))
        if terminated or truncated:
            break
    assert info["success"]
