# SPDX-License-Identifier: Apache-2.0
"""The mappings that we ship, on small environments with the spaces of those that they are for."""

import importlib
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st
from serl_config.schema import ConfigError
from serl_robots.control.task_robot import robot_of
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose
from serl_robots.model.robot import load_robot
from serl_sim.foreign.environment_world import EnvironmentWorld, WorldFailure
from serl_sim.foreign.gantry import is_gantry
from serl_sim.foreign.metaworld import named
from serl_tasks.arm_sample import ArmSample
from serl_tasks.teachers.metaworld import Policy, observation

from serl_tasks import get_task, task_names

METAWORLD = [name for name in task_names() if name.startswith("metaworld-")]
PICK = "gym-hil-pick-cube"


def sample(world, target):
    """What the scripted person is told of the arm."""
    width = robot_of(world.task).gripper.width(world.joint_positions[3:])
    return ArmSample(world.objects()["tcp"], np.zeros(6), width, target)


def episode(world, teacher, seed):
    """The teacher's episode, without safety filter; where the tool was and what came of it."""
    task = world.task
    world.reset(seed)
    told, target, way = world.joint_positions[:3].copy(), 0.1, []
    for _ in range(task.horizon):
        action = teacher.act(sample(world, target), world.objects())
        told = told + action[:3] * task.action.scale[:3]
        target = float(np.clip(target + action[3] * task.action.scale[3], 0.0, 0.1))
        world.step(told, target)
        way.append(world.joint_positions[:3].copy())
        if world.judgement.terminated:
            break
    return np.array(way), world.judgement


@pytest.mark.filterwarnings("ignore:.*Overriding environment:UserWarning")
@pytest.mark.parametrize("name", ["metaworld-reach-v3", PICK, "gym-hil-pick-cube-fixed"])
def test_the_scripted_person_does_the_task_and_a_seed_is_a_scene(stand_ins, name):
    world = EnvironmentWorld(get_task(name))
    teacher = world.task.make_expert(np.random.default_rng(0))
    ways = []
    for seed in (1, 2, 1):
        way, judgement = episode(world, teacher, seed)
        assert (judgement.reward, judgement.success, judgement.terminated) == (1.0, True, True)
        ways.append(way)
    np.testing.assert_array_equal(ways[0], ways[2])
    differ = ways[0].shape != ways[1].shape or not np.array_equal(ways[0], ways[1])
    assert differ == (name != "gym-hil-pick-cube-fixed"), "whose scene is always the same"


def test_metaworlds_own_reward_is_not_what_is_learned_from(stand_ins):
    world = EnvironmentWorld(get_task("metaworld-reach-v3"))
    world.reset(0)
    world.step(world.joint_positions[:3], 0.1)
    assert world.judgement.reward == 0.0


def test_there_are_fifty_tasks_of_one_mapping():
    assert len(METAWORLD) == 50
    tasks = [get_task(name) for name in METAWORLD]
    variants = {task.variant for task in tasks}
    assert len(variants) == 50
    assert {"assembly-v3", "pick-place-wall-v3"} < variants
    assert all(task.environment == tasks[0].environment and task.state == tasks[0].state for task in tasks)


def test_an_unknown_variant_is_named(stand_ins):
    with pytest.raises(ConfigError, match="expected a task of Meta-World, as assembly-v3, found 'assembly-v3'"):
        EnvironmentWorld(get_task("metaworld-assembly-v3"))  # which the stand-in has not
    with pytest.raises(ConfigError, match="expected one of reach-v3, found 'assembly-v3'"):
        get_task("metaworld-assembly-v3").make_expert(np.random.default_rng(0))


@pytest.mark.parametrize(("task", "package"), [("metaworld-reach-v3", "metaworld"), (PICK, "gym_hil")])
def test_a_package_that_is_missing_is_named_with_the_command_that_brings_it(task, package):
    if importlib.util.find_spec(package) is not None:
        pytest.skip(f"{package} is installed here")
    with pytest.raises(ConfigError, match=rf"No module named '{package}.*; run ./serl setup gym {package}, whose"):
        EnvironmentWorld(get_task(task))


numbers = st.lists(st.floats(-1.0, 1.0), min_size=39, max_size=39).map(np.array)


@given(numbers=numbers, opening=st.floats(0.0, 1.0))
def test_the_policies_see_what_metaworld_would_show_them(numbers, opening):
    """Names and back again: the numbers of this moment, whose quaternions have no length of their own, and the goal."""
    numbers[3] = opening
    for part in (slice(7, 11), slice(14, 18)):
        length = np.linalg.norm(numbers[part])
        numbers[part] = numbers[part] / length if length > 0.5 else [1.0, 0.0, 0.0, 0.0]
    names = named(numbers)
    objects = {"goal": Pose(names["goal"])}
    for name in ("first", "second"):
        w, x, y, z = names[name]["quaternion"]
        objects[name] = Pose(names[name]["position"], (x, y, z, w))
    arm = ArmSample(Pose(names["hand"]), np.zeros(6), 0.1 * float(names["opening"][0]), 0.1)
    seen = observation(arm, objects)
    for place in (7, 14):  # q and -q are one orientation
        if np.dot(seen[place : place + 4], numbers[place : place + 4]) < 0.0:
            seen[place : place + 4] *= -1.0
    np.testing.assert_allclose(seen[:18], numbers[:18], atol=1e-9)
    np.testing.assert_allclose(seen[36:], numbers[36:])


def test_a_policy_says_how_the_fingers_press_and_we_how_far_they_are_apart(stand_ins):
    far = {name: Pose((0.0, 0.9, 0.0)) for name in ("first", "second", "goal")}
    act = Policy("reach-v3").act
    arm = ArmSample(Pose((0.0, 0.6, 0.2)), np.zeros(6), 0.02, 0.02)
    np.testing.assert_allclose(act(arm, far), [0.0, 1.0, -1.0, 0.8])  # opens: from 2 cm to 10 cm
    near = {**far, "goal": Pose((0.0, 0.61, 0.2))}
    np.testing.assert_allclose(act(arm, near), [0.0, 0.1, 0.0, -0.2])  # closes


def test_a_person_acts_with_the_share_of_noise_that_the_mapping_allows(stand_ins):
    task, rng = get_task("metaworld-reach-v3"), np.random.default_rng(0)
    near = {"first": Pose((0.0, 0.9, 0.0)), "second": Pose((0.0, 0.9, 0.0)), "goal": Pose((0.0, 0.61, 0.2))}
    arm = ArmSample(Pose((0.0, 0.6, 0.2)), np.zeros(6), 0.02, 0.02)
    clumsy = task.make_expert(rng, noise=0.3)
    actions = np.array([clumsy.act(arm, near) for _ in range(1000)])
    exact = task.make_expert(rng).act(arm, near)
    np.testing.assert_allclose(actions.mean(axis=0), exact, atol=0.02)
    np.testing.assert_allclose(actions[:, :3].std(axis=0), 0.1, rtol=0.1)  # a tenth: docs/metaworld.md


@pytest.mark.filterwarnings("ignore:.*A Box observation space m.*:UserWarning")
def test_gymnasium_finds_nothing_wrong_with_the_named_environment(stand_ins):
    env = gymnasium.make("serl_sim.foreign.metaworld:MetaWorld-v0", variant="reach-v3", disable_env_checker=True)
    check_env(env.unwrapped, skip_render_check=True)


@pytest.mark.filterwarnings("ignore:.*Overriding environment:UserWarning")
def test_pictures_that_are_drawn_together_are_told_apart(stand_ins):
    world = EnvironmentWorld(get_task("gym-hil-pick-cube-vision"))
    for _ in range(2):  # each state is drawn once, and anew
        world.reset(0)
        assert (world.picture("front") == 10).all()
        assert (world.picture("wrist") == 20).all()
    assert importlib.import_module("gym_hil").PickCube.drawn == 2


@pytest.mark.filterwarnings("ignore:.*Overriding environment:UserWarning")
def test_a_picture_that_is_not_drawn_is_a_failure(stand_ins, monkeypatch):
    world = EnvironmentWorld(get_task("gym-hil-pick-cube-vision"))
    world.reset(0)
    stand_in = importlib.import_module("gym_hil").PickCube
    monkeypatch.setattr(stand_in, "render", lambda self: [np.zeros((8, 8, 3), np.uint8)])
    with pytest.raises(WorldFailure, match=r"picture of wrist of .*IndexError"):
        world.picture("wrist")


@pytest.mark.filterwarnings("ignore:.*Overriding environment:UserWarning")
@pytest.mark.parametrize("reward", [np.nan, np.inf])
def test_a_reward_that_is_no_number_is_a_failure(stand_ins, monkeypatch, reward):
    world = EnvironmentWorld(get_task(PICK))
    world.reset(0)
    step = importlib.import_module("gym_hil").PickCube.step
    monkeypatch.setattr(
        importlib.import_module("gym_hil").PickCube,
        "step",
        lambda self, action: (step(self, action)[0], reward, *step(self, action)[2:]),
    )
    with pytest.raises(WorldFailure, match="reward: expected a finite number, found"):
        world.step(world.objects()["tcp"].position, 0.1)


def test_a_gantry_is_told_from_its_urdf_as_kinematics_tell_it():
    probe = (0.1, -0.2, 0.3)
    for name in ("gantry", "panda"):
        robot = load_robot(name)
        moves = len(robot.arm_joints) == 3 and np.allclose(Kinematics(robot).tcp(probe).position, probe)
        assert is_gantry(robot) == moves == (name == "gantry")


def test_a_gantry_stays_one_with_a_transmission_for_each_joint(tmp_path, monkeypatch):
    robot = load_robot("gantry")
    drives = "".join(f'<transmission name="d"><joint name="{name}"/></transmission>' for name in robot.arm_joints)
    (tmp_path / "urdf").mkdir()
    (tmp_path / "urdf/driven.urdf").write_text(robot.urdf_xml().replace("</robot>", f"{drives}</robot>"))
    monkeypatch.setenv("SERL_SHARE", str(tmp_path))
    assert is_gantry(replace(robot, urdf="urdf/driven.urdf"))
