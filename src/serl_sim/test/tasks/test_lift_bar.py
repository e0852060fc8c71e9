# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest
from serl_config.schema import ConfigError
from serl_sim.world import World

import serl_sim
from serl_tasks import get_task


@pytest.fixture(scope="module")
def env():
    env = serl_sim.make("lift_bar")
    yield env
    env.close()


def expert_episode(env, seed, noise=0.0):
    expert = env.task.make_expert(np.random.default_rng(seed), noise=noise)
    states = [env.reset(seed=seed)[0]["state"]]
    while True:
        observation, reward, terminated, truncated, info = env.step(expert.act(*env.known()))
        states.append(observation["state"])
        if terminated or truncated:
            return states, reward, info


def test_two_arms_lift_the_bar(env):
    for seed in range(10):
        _, reward, info = expert_episode(env, seed)
        assert reward == 1.0, seed
        assert info["success"]
    assert sum(expert_episode(env, seed, noise=0.3)[2]["success"] for seed in range(5)) >= 4


def test_two_widowx_that_face_each_other_lift_the_bar():
    env = serl_sim.make("lift_bar_trossen")
    assert env.world.robot.name == "trossen"
    assert all(expert_episode(env, seed)[2]["success"] for seed in range(5))
    assert sum(expert_episode(env, seed, noise=0.3)[2]["success"] for seed in range(5)) >= 4
    env.close()


def test_an_episode_repeats_bit_for_bit(env):
    once, again = (expert_episode(env, 3, noise=0.3)[0] for _ in range(2))
    assert np.array_equal(once, again)


def test_one_arm_alone_does_not_lift_it(env):
    expert = env.task.make_expert(np.random.default_rng(0))
    env.reset(seed=0)
    idle = env.task.action.rest({"left": 0.08, "right": 0.08})
    for _ in range(env.task.horizon):
        action = expert.act(*env.known())
        action[4:] = idle[4:]
        *_, info = env.step(action)
        assert not info["success"]


def test_hands_keep_apart_whatever_is_asked_for(env):
    task = env.task
    env.reset(seed=1)
    action = np.array([0.0, -1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0], np.float32)  # towards each other
    acted = set()
    for _ in range(20):
        *_, info = env.step(action)
        acted.update(info["limits"])
    tools = env.world.objects()
    assert tools["left/tcp"].distance(tools["right/tcp"]) >= task.keep_apart - 0.005  # the arms lag a little
    assert {"keep_apart", "workspace"} & acted


def test_each_arm_is_observed_in_the_frame_of_the_world(env):
    env.reset(seed=2)
    arm, objects = env.known()
    for name, y in (("left", 0.3), ("right", -0.3)):
        assert arm.arms[name].tcp == objects[f"{name}/tcp"]
        assert arm.arms[name].tcp.position == pytest.approx((0.5, y, 0.2), abs=0.005)
    state = env.reset(seed=2)[0]["state"]
    assert state.shape == (31,)
    assert np.abs(state).max() < 3.0


def test_a_task_says_of_two_arms_what_is_wrong():
    task = get_task("lift_bar")
    with pytest.raises((ValueError, ConfigError), match="keep_apart: expected a distance"):
        dataclasses.replace(task, keep_apart=None)
    with pytest.raises((ValueError, ConfigError), match="arms: expected two"):
        dataclasses.replace(task, arms={"left": task.arms["left"]})
    with pytest.raises((ValueError, ConfigError), match="keep_apart: expected none, because there is one arm"):
        dataclasses.replace(get_task("pick_cube"), keep_apart=0.1)


def test_a_copy_of_a_world_of_two_arms_is_a_world_of_its_own():
    import copy

    world = World(get_task("lift_bar"))
    other = copy.deepcopy(world)
    other.command_gripper(0.0, "right")
    other.advance(100)
    assert other.sample_of("right").gripper_width < 0.04 < world.sample_of("right").gripper_width
    assert other.sample_of("left").gripper_width > 0.07
