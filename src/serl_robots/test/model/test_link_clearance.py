# SPDX-License-Identifier: Apache-2.0
"""No link gets into a box, between two configurations neither: against points on the shapes, by the URDF alone."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.link_clearance import LinkClearance
from serl_robots.model.robot import load_robot
from urdf_points import UrdfPoints, outside

ARMS = ("panda", "so101", "piper", "trossen")
DISTANCE = 0.01


@cache
def known(name):
    robot = load_robot(name)
    return robot, Kinematics(robot), UrdfPoints(robot, 300)


def points(name, joints):
    robot, _, shapes = known(name)
    gripper = robot.gripper
    fingers = dict.fromkeys(gripper.joints, gripper.position(gripper.max_width))
    return shapes.at({**dict(zip(robot.arm_joints, joints.tolist(), strict=True)), **fingers})


def box_near(rng, name, joints):
    """A box beside a point of the arm: a block, a wall, or a thin post."""
    cloud = points(name, joints)
    middle = cloud[rng.integers(len(cloud))] + rng.uniform(-0.15, 0.15, 3)
    half = rng.choice([[0.05, 0.05, 0.05], [0.005, 0.3, 0.3], [0.004, 0.004, 0.5]]) * rng.uniform(0.5, 1.5)
    return np.concatenate([middle - half, middle + half])


@settings(max_examples=100, deadline=None)
@given(name=st.sampled_from(ARMS), seed=st.integers(0, 2**32 - 1), step=st.sampled_from([0.02, 0.1, 0.3]))
def test_what_is_not_blocked_has_no_point_of_the_arm_in_a_box_on_the_way(name, seed, step):
    robot, kinematics, _ = known(name)
    rng = np.random.default_rng(seed)
    before = rng.uniform(kinematics.lower, kinematics.upper)
    after = before + rng.uniform(-step, step, len(before))
    box = box_near(rng, name, 0.5 * (before + after))
    clearance = LinkClearance(robot, box.tolist(), DISTANCE)
    start, end = (outside(points(name, joints), box) for joints in (before, after))
    assert clearance.gap(before) < start + 1e-6  # the points are of the surface, so they are no nearer
    if start > 0.03:  # nearer ones may poke between the samples
        assert clearance.gap(before) > min(start, 0.05) - 0.02
    if clearance.blocked(before, after):
        return
    if clearance.gap(before) > DISTANCE:
        assert end >= DISTANCE - 1e-6
    if clearance.gap(before) > 0.0:
        for share in np.linspace(0.0, 1.0, 41):
            assert outside(points(name, before + share * (after - before)), box) > 0.0


@pytest.mark.parametrize("name", ["panda", "piper"])  # whose hands are narrower than this step
def test_a_post_that_is_thinner_than_a_step_is_not_jumped_over(name):
    robot, kinematics, _ = known(name)
    home = np.array(robot.configuration("home"))
    before, after = home.copy(), home.copy()
    before[0] -= 0.4
    after[0] += 0.4
    tool = kinematics.tcp(home).position
    box = np.array([*(tool[:2] - 0.002), tool[2] - 0.3, *(tool[:2] + 0.002), tool[2] + 0.3])
    clearance = LinkClearance(robot, box.tolist(), DISTANCE)
    assert min(outside(points(name, joints), box) for joints in (before, after)) > DISTANCE
    assert clearance.blocked(before, after) != ""


def test_a_link_that_is_too_near_comes_no_nearer_and_may_go_away():
    robot, kinematics, _ = known("panda")
    here = np.array(robot.configuration("home"))
    x, y, z = kinematics.tcp(here).position.tolist()
    clearance = LinkClearance(robot, (x - 0.1, y - 0.1, z - 0.3, x + 0.1, y + 0.1, z - 0.005), DISTANCE)
    lower, higher = here.copy(), here.copy()
    lower[1] += 0.02
    higher[1] -= 0.02
    assert clearance.blocked(here, lower).startswith(("left", "right"))  # a finger
    assert clearance.blocked(here, higher) == ""
    assert clearance.blocked(here, here) == ""


def test_the_elbow_is_kept_out_where_the_tool_is_far_away():
    robot, kinematics, _ = known("panda")
    here = np.array(robot.configuration("home"))
    over = here.copy()
    over[0] += 0.2
    elbow = points("panda", over)
    elbow = elbow[np.argmax(elbow[:, 2])]
    box = (*(elbow - 0.02), *(elbow + 0.02))
    assert np.linalg.norm(kinematics.tcp(over).position - elbow) > 0.3
    clearance = LinkClearance(robot, box, DISTANCE)
    assert clearance.blocked(here, over) != ""
    assert clearance.blocked(over, here) == "" or clearance.gap(over) > DISTANCE


@pytest.mark.parametrize("name", ARMS)
def test_an_arm_at_home_may_move_beside_the_shipped_table(name):
    robot, _, _ = known(name)
    home = np.array(robot.configuration("home"))
    clearance = LinkClearance(robot, (-0.25, -0.5, -0.04, 0.85, 0.5, 0.0), DISTANCE)
    turned = home.copy()
    turned[0] += 0.2
    assert clearance.blocked(home, turned) == ""
