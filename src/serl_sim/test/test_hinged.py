# SPDX-License-Identifier: Apache-2.0
"""What is hinged, in the world: where it is, what it takes to turn it, and who opens it."""

import math
from dataclasses import replace

import mujoco
import numpy as np
import pytest
from serl_robots.model.pose import Pose, quaternion_exp
from serl_sim.world import World
from serl_tasks.objects.mounts import HingeMount
from serl_tasks.objects.scene_object import SceneObject

from serl_tasks import get_task

PICK = get_task("pick_cube")
DOWN = (1.0, 0.0, 0.0, 0.0)
POST = SceneObject(
    mount="fixed", size=(0.02, 0.02, 0.2), colour=(0.5, 0.5, 0.5), lower=(0.5, 0.2), upper=(0.6, 0.3), yaw_deg=90.0
)
LENGTH, MASS = 0.2, 0.3  # [m], [kg] of a lever, whose end is on the axis


def lever(**hinge: object) -> SceneObject:
    """A bar along x of its own frame, 5 cm above the table."""
    mount = HingeMount(
        **{"base": "post", "position": (0.0, 0.03, -0.05), "axis": (0.0, 0.0, 1.0), "reach_deg": 90.0} | hinge
    )
    solid = {"size": (LENGTH, 0.02, 0.02), "position": (0.5 * LENGTH, 0.0, 0.0)}
    return SceneObject(mount="hinged", mass=MASS, colour=(0.9, 0.1, 0.1), hinge=mount, parts=(solid,))


def world_of(item: SceneObject) -> World:
    return World(replace(PICK, objects={**PICK.objects, "post": POST, "lever": item}))


@pytest.mark.parametrize("turn", [0.0, 0.3, 1.5])
def test_poses_are_those_of_the_simulator(turn: float) -> None:
    world = world_of(lever())
    world.reset(0, {"post": Pose((0.55, 0.25, 0.1), quaternion_exp((0.0, 0.0, 0.8)))})
    world.data.joint("lever").qpos[0] = turn
    mujoco.mj_kinematics(world.model, world.data)
    body, pose = world.data.body("lever"), world.objects()["lever"]
    assert pose.position == pytest.approx(body.xpos, abs=1e-9)
    assert pose.rotation_matrix().ravel() == pytest.approx(body.xmat, abs=1e-9)
    x, y, _ = pose.rotation_matrix()[:, 0]
    assert math.atan2(y, x) == pytest.approx(0.8 + turn)


def test_it_turns_as_far_as_it_says() -> None:
    world = world_of(lever(reach_deg=60.0))
    for torque, end in ((0.2, math.radians(60.0)), (-0.2, 0.0)):
        world.data.qfrc_applied[world.model.joint("lever").dofadr[0]] = torque
        world.advance(1500)
        assert float(world.data.joint("lever").qpos[0]) == pytest.approx(end, abs=0.02)


@pytest.mark.parametrize(("share", "holds"), [(1.3, True), (0.7, False)])
def test_a_lever_stands_where_friction_holds_its_weight(share: float, holds: bool) -> None:
    """It weighs m g L / 2 about a horizontal axis at its end."""
    weight = MASS * 9.81 * 0.5 * LENGTH
    # Its end is high enough that it would fall by 30 degrees.
    item = lever(axis=(0.0, 1.0, 0.0), position=(0.0, 0.03, 0.08), reach_deg=30.0, friction=share * weight)
    world = world_of(item)
    fallen = float(world.data.joint("lever").qpos[0])
    assert fallen == pytest.approx(0.0 if holds else math.radians(30.0), abs=0.03)


def test_damping_is_torque_for_each_radian_a_second() -> None:
    damping, torque = 0.05, 0.1
    world = world_of(lever(damping=damping, reach_deg=360.0))
    world.data.qfrc_applied[world.model.joint("lever").dofadr[0]] = torque
    world.advance(1000)  # inertia over damping is 0.08 s
    assert float(world.data.joint("lever").qvel[0]) == pytest.approx(torque / damping, rel=0.01)


def test_the_arm_opens_it_and_it_is_closed_for_the_next_episode() -> None:
    world = world_of(lever(friction=0.02))
    for _ in range(2):
        world.reset(1, {"post": Pose((0.42, -0.05, 0.1)), "cube": Pose((0.45, 0.2, 0.02))})
        assert abs(float(world.data.joint("lever").qpos[0])) < 1e-6
        for y in np.linspace(-0.10, 0.12, 25).tolist():
            world.step(Pose((0.57, y, 0.05), DOWN), 0.0)
        assert float(world.data.joint("lever").qpos[0]) > 0.3
        tip = world.objects()["lever"].transform((LENGTH, 0.0, 0.0))
        assert tip[1] > 0.03


def test_what_is_no_hinge_is_refused() -> None:
    item = lever()
    for change, message in (
        ({"axis": (0.0, 0.0, 2.0)}, "axis: expected a vector of length 1, found"),
        ({"reach_deg": 0.0}, "reach_deg"),
        ({"reach_deg": 400.0}, "reach_deg"),
        ({"damping": -1.0}, "damping"),
    ):
        with pytest.raises(ValueError, match=message):
            lever(**change)
    with pytest.raises(ValueError, match="hinge: expected on what it turns if mount is hinged"):
        replace(item, mount="free", lower=(0.0, 0.0), upper=(0.1, 0.1))
    with pytest.raises(ValueError, match="expected hinge alone of an object that is hinged"):
        replace(item, yaw_deg=3.0)
    with pytest.raises(ValueError, match=r"objects.lever.hinge.base: expected a fixed object 'gate', found none"):
        world_of(lever(base="gate"))
    with pytest.raises(ValueError, match=r"objects.lever.hinge.base: .* found one that is free"):
        world_of(lever(base="cube"))
    with pytest.raises(ValueError, match="an object that is hinged starts where its base does"):
        item.sample(np.random.default_rng(0))
