# SPDX-License-Identifier: Apache-2.0
"""A cable in the world: it bends as a beam does, is as long as it was, and the expert clips it in."""

import copy
from dataclasses import replace

import mujoco
import numpy as np
import pytest
from led_episode import lead
from serl_robots.model.pose import Pose
from serl_sim.envs import TaskEnv
from serl_sim.world import World
from serl_tasks.episode_errors import ErrorSettings

from serl_tasks import get_task

TASK = get_task("route_cable")
CABLE = ("cable", *TASK.objects["cable"].points("cable"))
GRAVITY = 9.81  # [m/s^2]


@pytest.fixture(scope="module")
def env() -> TaskEnv:
    return TaskEnv(replace(TASK, errors=ErrorSettings()))


@pytest.fixture(scope="module")
def patient() -> TaskEnv:
    return TaskEnv(replace(TASK, errors=ErrorSettings(), horizon=14 + TASK.horizon))


def lengths(world: World) -> np.ndarray:
    """Distances of neighbouring points of the cable [m]."""
    objects = world.objects()
    return np.linalg.norm(np.diff([objects[name].position for name in CABLE], axis=0), axis=1)


@pytest.mark.parametrize("stiffness", [0.01, 0.04])
def test_it_sags_by_its_own_weight_as_a_beam_does(stiffness: float) -> None:
    """Euler and Bernoulli: the free end of a clamped beam sags by w L^4 / (8 E I), w its weight for each metre."""
    links, length, mass = 28, 0.14, 0.014
    cable = TASK.objects["cable"]
    cable = replace(cable, flexible=replace(cable.flexible, links=links, stiffness=stiffness))
    state = tuple(term for term in TASK.state if not term.name.startswith("cable"))
    world = World(replace(TASK, objects={**TASK.objects, "cable": cable}, state=state))
    objects = world.objects()
    end = objects["cable"].inverse().transform(objects[f"cable_{links}"].position)
    sag = float(np.hypot(end[0], end[1]))
    free = length * (1.0 - 1.0 / links)  # its first link is held
    expected = mass / length * GRAVITY * free**4 / (8.0 * stiffness)
    assert sag == pytest.approx(expected, rel=0.1)


def test_it_is_neither_stretched_nor_torn_and_its_poses_are_those_of_the_simulator(env: TaskEnv) -> None:
    env.reset(seed=3)
    world, rng = env.world, np.random.default_rng(0)
    for _ in range(25):
        *_, terminated, truncated, _ = env.step(rng.uniform(-1.0, 1.0, 3).astype(np.float32))
        assert lengths(world) == pytest.approx(0.02, abs=1e-9)
        if terminated or truncated:
            env.reset(seed=4)
    objects = world.objects()
    mujoco.mj_kinematics(world.model, world.data)
    for name in CABLE[:-1]:
        body = world.data.body(name)
        assert objects[name].position == pytest.approx(body.xpos, abs=1e-9)
        assert objects[name].rotation_matrix().ravel() == pytest.approx(body.xmat, abs=1e-9)


def test_it_lies_on_what_is_fixed_and_passes_the_robot(env: TaskEnv) -> None:
    world = env.world
    world.reset(0, {"clip": Pose((0.52, 0.0, 0.0))})
    for _ in range(15):
        world.step(Pose((0.48, 0.02, 0.03), TASK.limits.reference_orientation), 0.0)
    touching = {world.model.geom(geom).name for pair in world.data.contact.geom for geom in pair}
    assert any(name.startswith("cable") for name in touching)
    assert any(name.startswith("clip") for name in touching)
    meets_robot = [
        pair
        for pair in world.data.contact.geom
        if sorted(world.model.geom(geom).name.split("_")[0] for geom in pair)[0] == "cable"
        and not any(world.model.geom(geom).name.startswith(("clip", "table")) for geom in pair)
    ]
    assert not meets_robot
    bent = world.objects()
    assert bent["cable_3"].position[2] > bent["tcp"].position[2] + 0.005


def test_the_same_seed_is_the_same_episode_and_a_copy_goes_on_alike(env: TaskEnv) -> None:
    action = np.array((0.3, -0.5, -1.0), np.float32)
    runs = []
    for _ in range(2):
        env.reset(seed=9)
        runs.append(np.array([env.step(action)[0]["state"] for _ in range(8)]))
    np.testing.assert_array_equal(*runs)
    twin = copy.deepcopy(env)
    np.testing.assert_array_equal(env.step(action)[0]["state"], twin.step(action)[0]["state"])


def test_who_knows_where_the_clip_is_clips_it_in_in_ninety_five_of_a_hundred_scenes(env: TaskEnv) -> None:
    found = [lead(env, seed) for seed in range(100)]
    assert sum(success for success, _ in found) >= 95
    assert np.mean([length for success, length in found if success]) < 10


def test_who_knows_it_roughly_often_does_not() -> None:
    rough = TaskEnv(TASK)
    assert 15 <= sum(lead(rough, seed)[0] for seed in range(30)) <= 27


@pytest.mark.parametrize("corner", [(x, y, z) for x in (0.39, 0.55) for y in (-0.11, 0.11) for z in (0.03, 0.15)])
def test_the_expert_takes_over_anywhere_in_the_box(patient: TaskEnv, corner: tuple[float, float, float]) -> None:
    """It is led to a corner first, as a policy that drifts would; from there it has the time of an episode."""
    env = patient
    env.reset(seed=11)
    scale = np.array(env.task.action.scale)
    for _ in range(14):
        way = np.array(corner) - env.known()[0].tcp.position
        env.step(np.clip(way / scale, -1.0, 1.0).astype(np.float32))
    expert = env.task.make_expert(np.random.default_rng(0))
    for _ in range(TASK.horizon):
        *_, terminated, truncated, info = env.step(expert.act(*env.known()))
        if terminated or truncated:
            break
    assert info["success"]


def test_a_cable_that_makes_no_stable_simulation_is_refused_at_the_start() -> None:
    """It would whip about, with next to no damping."""
    cable = TASK.objects["cable"]
    limp = replace(cable, flexible=replace(cable.flexible, stiffness=1e-12))
    with pytest.raises(ValueError, match=r"'route_cable': objects: .* diverged.* a cable not stiff enough\?"):
        World(replace(TASK, objects={**TASK.objects, "cable": limp}))
