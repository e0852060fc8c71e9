# SPDX-License-Identifier: Apache-2.0
import copy
import os
import pickle
import re
import subprocess
import sys
import textwrap
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from serl_robots.control.action import ActionError, ActionSpec
from serl_sim.envs import TaskEnv
from serl_sim.world import SimulationError
from serl_tasks.camera_view import CameraView
from unjudged_task import unjudged

import serl_sim
from serl_tasks import get_task, task_names


@pytest.fixture(scope="module")
def env():
    env = serl_sim.make("pick_cube")
    yield env
    env.close()


def expert_episode(env, seed, noise=0.0):
    """Let the expert play; returns the transitions (observation, reward, terminated, truncated, info)."""
    observation, _ = env.reset(seed=seed)
    expert = env.task.make_expert(np.random.default_rng(seed), noise=noise)
    history = [(observation, 0.0, False, False, {})]
    while not (history[-1][2] or history[-1][3]):
        history.append(env.step(expert.act(*env.known())))
    return history


@pytest.mark.filterwarnings("ignore:.*A Box observation space m.*:UserWarning")
@pytest.mark.parametrize("name", ["PandaPickCube-v0", "PandaPickCubeVision-v0", "serl/InsertPeg-v0"])
def test_gymnasium_finds_nothing_wrong(name):
    env = gymnasium.make(name, render_mode="rgb_array")
    check_env(env.unwrapped)
    assert env.spec is not None
    env.close()


def test_every_task_is_a_gymnasium_environment():
    for task in task_names():
        if not re.fullmatch(r"[a-z0-9_]+", task):
            continue  # of another one's world, or an odd name
        spec = gymnasium.spec(serl_sim.environment_id(task))
        assert spec.kwargs == {"task": task}
    assert serl_sim.environment_id("insert_peg_vision") == "serl/InsertPegVision-v0"


def test_environments_side_by_side_are_what_each_is_alone():
    several = gymnasium.make_vec("serl/InsertPeg-v0", num_envs=2, vectorization_mode="sync")
    observations, _ = several.reset(seed=[3, 4])
    actions = np.array([[0.5, -0.5, -1.0], [0.0, 0.2, -0.3]], np.float32)
    ahead, *_ = several.step(actions)
    several.close()
    alone = gymnasium.make("serl/InsertPeg-v0")
    for index, seed in enumerate((3, 4)):
        first, _ = alone.reset(seed=seed)
        second, *_ = alone.step(actions[index])
        assert np.array_equal(observations["state"][index], first["state"])
        assert np.array_equal(ahead["state"][index], second["state"])
    alone.close()


def test_a_task_with_an_odd_name_keeps_nobody_from_the_others(tmp_path):
    folder = tmp_path / "config" / "tasks"
    folder.mkdir(parents=True)
    (folder / "my task!.yaml").write_text("name: my task!\nextends: pick_cube\n")
    (folder / "my_task.yaml").write_text("name: my_task\nextends: pick_cube\n")
    looks = "gymnasium.spec('serl/MyTask-v0').kwargs, serl_sim.make('my task!').task.name"
    code = f"import gymnasium, serl_sim; print({looks})"
    environment = {**os.environ, "SERL_SHARE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout == "{'task': 'my_task'} my task!\n", done.stderr


def test_the_vision_environment_shows_both_cameras():
    env = gymnasium.make("PandaPickCubeVision-v0")
    observation, _ = env.reset(seed=1)
    assert set(observation) == {"state", "front", "wrist"}
    assert observation["front"].shape == observation["wrist"].shape == (128, 128, 3)
    env.close()


@pytest.mark.parametrize(("noise", "goal"), [(0.0, 0.95), (0.3, 0.85)])
def test_the_expert_picks_the_cube(env, noise, goal):
    ends = [expert_episode(env, seed, noise)[-1] for seed in range(40)]
    assert np.mean([info["success"] for *_, info in ends]) >= goal


def test_success_is_the_only_reward_and_ends_the_episode(env):
    history = expert_episode(env, seed=3)
    assert [reward for _, reward, *_ in history] == [0.0] * (len(history) - 1) + [1.0]
    _, _, terminated, truncated, info = history[-1]
    assert (terminated, truncated, info["success"]) == (True, False, True)


def test_the_horizon_cuts_off_without_ending(env):
    env.reset(seed=0)
    still = np.array([0.0, 0.0, 0.0, 1.0], np.float32)
    ends = [env.step(still)[2:4] for _ in range(env.task.horizon)]
    assert ends == [(False, False)] * (env.task.horizon - 1) + [(False, True)]


def test_an_episode_repeats_bit_for_bit(env):
    def play(env):
        return [observation["state"].tobytes() for observation, *_ in expert_episode(env, seed=11, noise=0.3)]

    first = play(env)
    expert_episode(env, seed=12)
    assert play(env) == first
    other = serl_sim.make("pick_cube")
    assert play(other) == first


def test_info_has_what_was_executed_and_which_limits_acted(env):
    env.reset(seed=0)
    *_, info = env.step(np.array([1.0, 1.0, 1.0, 1.0], np.float32))
    assert info["executed_action"].shape == (4,)
    assert "step" in info["limits"]
    assert np.linalg.norm(info["executed_action"][:3]) * 0.04 <= 0.045 + 1e-6
    *_, info = env.step(np.array([0.0, 0.0, 0.1, 1.0], np.float32))
    assert info["executed_action"][2] == pytest.approx(0.1)
    assert info["limits"] == ()


@pytest.mark.parametrize("action", [[0, 0, 0], [np.nan, 0, 0, 0], [2.0, 0, 0, 0]])
def test_an_action_that_is_none_is_refused(env, action):
    env.reset(seed=0)
    with pytest.raises(ActionError):
        env.step(np.array(action, np.float32))


def test_misuse_is_explained():
    env = serl_sim.make("pick_cube")
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(np.zeros(4, np.float32))
    with pytest.raises(ValueError, match="no options"):
        env.reset(options={"episode": 3})
    with pytest.raises(ValueError, match="no camera side; there are front, wrist"):
        serl_sim.make(replace(get_task("pick_cube"), cameras={"side": CameraView()}))
    with pytest.raises(ValueError, match="render_mode"):
        serl_sim.make("pick_cube", render_mode="human")
    with pytest.raises(ValueError, match="unknown task"):
        serl_sim.make("pick_cub")


def test_a_seedless_reset_draws_from_the_seed_before(env):
    def places():
        env.reset(seed=5)
        return [env.reset()[0]["state"].tobytes() for _ in range(3)]

    assert places() == places()
    assert len(set(places())) == 3


def test_spaces_of_two_environments_draw_by_themselves(env):
    other = serl_sim.make("pick_cube")
    env.action_space.seed(1)
    other.action_space.seed(2)
    expected = [env.action_space.sample().tobytes() for _ in range(3)]
    env.action_space.seed(1)
    other.action_space.sample()
    assert [env.action_space.sample().tobytes() for _ in range(3)] == expected
    other.close()


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda env: pickle.loads(pickle.dumps(env))}  # noqa: S301 - our own


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_goes_on_by_itself_as_the_original_would_have(way):
    env = gymnasium.wrappers.RecordEpisodeStatistics(gymnasium.make("PandaPickCubeVision-v0"))
    env.reset(seed=3)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1.0, 1.0, (12, 4)).astype(np.float32)
    for action in actions[:4]:
        env.step(action)
    duplicate = COPIES[way](env)
    assert duplicate.spec == env.spec

    def play(env):
        seen = [env.step(action)[0] for action in actions[4:]]
        env.unwrapped.world.command_joints(env.unwrapped.world.joint_positions[:7])  # of this one alone
        seen.append(env.reset()[0])
        return [{name: value.tobytes() for name, value in observation.items()} for observation in seen]

    assert play(duplicate) == play(env)
    for each in (env, duplicate, duplicate):
        each.close()
    assert duplicate.reset(seed=0)[0].keys() == env.reset(seed=0)[0].keys(), "closed twice, and usable"
    env.close()
    duplicate.close()


def test_an_environment_is_made_again_from_its_specification():
    spec = gymnasium.make("PandaPickCube-v0", render_mode="rgb_array", render_size=(64, 48)).spec
    env = gymnasium.make(gymnasium.envs.registration.EnvSpec.from_json(spec.to_json()))
    env.reset(seed=0)
    assert env.render().shape == (48, 64, 3)
    env.close()


def render_and_start_processes(folder, context, threads):
    """Run a program that renders and then starts environments in processes; what it printed, and its errors."""
    program = textwrap.dedent(
        f"""
        import gymnasium, numpy, serl_sim

        if __name__ == "__main__":
            env = gymnasium.make("PandaPickCubeVision-v0")
            expected = env.reset(seed=0)[0]
            several = gymnasium.make_vec(
                "PandaPickCubeVision-v0", 2, vectorization_mode="async", vector_kwargs={{"context": {context!r}}}
            )
            found = several.reset(seed=0)[0]
            print(all(numpy.array_equal(found[name][0], picture) for name, picture in expected.items()))
            several.step(several.action_space.sample())
            several.close()
            env.close()
        """
    )
    path = folder / "program.py"
    path.write_text(program)
    result = subprocess.run(
        [sys.executable, str(path)],
        env=os.environ | {"LP_NUM_THREADS": threads},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return result.stdout.strip(), result.stderr.strip()


def test_environments_in_processes_render_after_their_parent_has(tmp_path):
    printed, errors = render_and_start_processes(tmp_path, "fork", "0")
    assert printed == "True", errors


def test_a_driver_that_does_not_survive_a_fork_is_named(tmp_path):
    _, errors = render_and_start_processes(tmp_path, "fork", "2")
    assert "RenderError: OpenGL (llvmpipe with threads) does not survive a fork" in errors


def joint_task(names=(*(f"j{k}" for k in range(1, 8)), "gripper"), scale=(0.05,) * 7 + (0.08,)):
    """A task whose actions are joint deltas."""
    return unjudged(action=ActionSpec(names=names, scale=scale))


def test_joint_actions_move_the_joints_and_say_what_was_executed():
    env = TaskEnv(joint_task())
    env.reset(seed=3)
    rng = np.random.default_rng(0)
    start = commanded = env.world.arm_positions
    for _ in range(30):
        action = rng.uniform(-1.0, 1.0, 8).astype(np.float32)
        *_, info = env.step(action)
        commanded = commanded + 0.05 * info["executed_action"][:7].astype(float)
        if not info["limits"]:
            assert np.array_equal(info["executed_action"], action)
        assert np.abs(env.world.arm_positions - commanded).max() < 0.05, "the arm follows"
    assert np.abs(commanded - start).max() > 0.05, "it has moved"
    env.close()


def test_joint_actions_repeat_bit_for_bit():
    actions = np.random.default_rng(1).uniform(-1.0, 1.0, (20, 8)).astype(np.float32)
    runs = []
    for _ in range(2):
        env = TaskEnv(joint_task())
        env.reset(seed=0)
        runs.append([env.step(action)[0]["state"] for action in actions])
        env.close()
    assert np.array_equal(runs[0], runs[1])


def test_the_action_of_two_arms_is_refused_by_an_environment_of_one():
    with pytest.raises(ValueError, match="expected the action of one arm, found those of left, right"):
        TaskEnv(joint_task(("left/j1", "right/j1"), (0.1, 0.1)))


def test_a_joint_that_the_robot_does_not_have_is_refused():
    with pytest.raises(ValueError, match=r"expected j1 to j7 or one of panda_joint1.*found 'j8'"):
        TaskEnv(joint_task(("j8",), (0.1,)))


def test_an_environment_whose_world_explodes_says_so_and_goes_on_after_a_reset():
    env = TaskEnv("route_cable")
    action = np.zeros(3, np.float32)
    env.reset(seed=0)
    env.step(action)
    env.world.data.joint("cable_6_x").qvel[0] = 1e5
    with pytest.raises(SimulationError, match=r"the simulation diverged; reset the world"):
        env.step(action)
    with pytest.raises(RuntimeError, match=r"no episode is running; call reset\(\) first"):
        env.step(action)
    observation, _ = env.reset(seed=0)
    again, _ = TaskEnv("route_cable").reset(seed=0)
    np.testing.assert_array_equal(observation["state"], again["state"])
    assert np.abs(env.step(action)[0]["state"]).max() < 10.0
    env.close()
