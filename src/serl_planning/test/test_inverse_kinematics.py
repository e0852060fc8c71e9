# SPDX-License-Identifier: Apache-2.0
import itertools

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_planning.inverse_kinematics import IkLimits, InverseKinematics
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose
from serl_robots.model.reachable import ReachableOrientation
from serl_robots.model.robot import load_robot

PERIOD = 0.01
LIMITS = IkLimits()


def follow(ik, q, goal, count):
    ways, acting = [q], set()
    for _ in range(count):
        ways.append(ik.step(ways[-1], goal))
        acting.update(ik.acting)
    return np.array(ways), acting


def nearby(robot, kinematics, rng, most=0.5):
    """Joints that are near `ready`, with room to all limits."""
    ready = np.array(robot.configuration("ready"))
    q = ready + rng.uniform(-most, most, len(ready))
    return q.clip(kinematics.lower + 0.15, kinematics.upper - 0.15)


def check_limits(kinematics, ways, limits=LIMITS):
    """Positions, velocities and accelerations (t, n) of a way, by differences of what was returned."""
    start = ways[0]
    assert (ways >= np.minimum(kinematics.lower + limits.joint_margin, start) - 1e-9).all()
    assert (ways <= np.maximum(kinematics.upper - limits.joint_margin, start) + 1e-9).all()
    velocity = np.diff(ways, axis=0, prepend=ways[:1]) / PERIOD
    assert (np.abs(velocity) <= limits.velocity_scaling * kinematics.velocity + 1e-9).all()
    assert (np.abs(np.diff(velocity, axis=0)) / PERIOD <= limits.acceleration + 1e-6).all()


def test_the_tool_gets_to_the_pose_that_other_joints_have(arm):
    robot, kinematics = arm
    if len(kinematics.joints) < 6:
        pytest.skip("the tool of a short arm is turned where it can be: see the test of that")
    arrived = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        ik = InverseKinematics(robot, kinematics, PERIOD, IkLimits(condition_slow=1e3, condition_stop=1e4))
        goal = kinematics.tcp(nearby(robot, kinematics, rng))
        ways = follow(ik, np.array(robot.configuration("ready")), goal, 400)[0]
        check_limits(kinematics, ways)
        tcp = kinematics.tcp(ways[-1])
        arrived += tcp.distance(goal) < 1e-5 and tcp.angle(goal) < 1e-4
    assert arrived >= 3, "one of four may end at a joint's limit"


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_limits_hold_whatever_is_wanted(seed):
    rng = np.random.default_rng(seed)
    robot = load_robot(["fr3", "so101", "piper", "trossen"][seed % 4])
    kinematics = Kinematics(robot)
    ik = InverseKinematics(robot, kinematics, PERIOD)
    q, ways, acted = nearby(robot, kinematics, rng), [], set()
    for _ in range(6):  # goals that jump, many of them out of reach
        goal = Pose.from_rotation_vector(rng.uniform(-0.8, 0.8, 3), rng.uniform(-2.0, 2.0, 3))
        part, acting = follow(ik, q, goal, 15)
        ways += [*part[:-1]]
        q, acted = part[-1], acted | acting
    if "self_collision" not in acted:  # it may brake harder
        check_limits(kinematics, np.array(ways))


def test_a_short_arm_puts_the_place_first_and_turns_as_far_as_the_search_over_joints_finds():
    robot = load_robot("so101")
    kinematics = Kinematics(robot)
    start = np.array(robot.configuration("ready"))
    for seed in range(4):
        rng = np.random.default_rng(seed)
        at = kinematics.tcp(nearby(robot, kinematics, rng, 0.25))
        goal = Pose(
            at.position, Pose.from_rotation_vector(at.position, rng.uniform(-0.3, 0.3, 3)).compose(at).quaternion
        )
        ik = InverseKinematics(robot, kinematics, PERIOD, IkLimits(joint_margin=0.0))
        tcp = kinematics.tcp(follow(ik, start, goal, 500)[0][-1])
        best = ReachableOrientation(kinematics).nearest(goal, start)
        assert tcp.distance(goal) < 2e-4
        assert tcp.angle(goal) < best.angle(goal) + 0.01


def test_no_link_comes_nearer_than_the_distance_that_is_kept():
    robot = load_robot("fr3")
    kinematics = Kinematics(robot)
    ik = InverseKinematics(robot, kinematics, PERIOD, IkLimits(condition_slow=1e3, condition_stop=1e4))
    goal = Pose((0.0, 0.0, 0.25), kinematics.tcp(robot.configuration("ready")).quaternion)  # inside of its own base
    ways, acted = follow(ik, np.array(robot.configuration("ready")), goal, 300)
    assert "self_collision" in acted

    model = mujoco.MjSpec.from_string(robot.urdf_xml()).compile()
    data = mujoco.MjData(model)
    for joint in robot.gripper.joints:
        data.qpos[model.joint(joint).qposadr] = 0.04
    arm = [model.joint(name).qposadr[0] for name in robot.arm_joints]
    links = {f"fr3_link{number}": number for number in range(8)} | {
        "fr3_hand": 8,
        "fr3_leftfinger": 8,
        "fr3_rightfinger": 8,
    }
    number = [
        links.get(model.body(body).name, -1) if solid else -1
        for body, solid in zip(model.geom_bodyid, model.geom_contype, strict=True)
    ]
    # link 7 and the hand are one body; its flange is always near link 5
    pairs = [
        (a, b)
        for a, b in itertools.combinations(range(model.ngeom), 2)
        if min(number[a], number[b]) >= 0
        and number[b] - number[a] > 1
        and (number[a], number[b]) != (6, 8)
        and (number[a], number[b]) != (5, 7)
    ]
    nearest = np.inf
    for q in ways[::10]:
        data.qpos[arm] = q
        mujoco.mj_kinematics(model, data)
        nearest = min([nearest, *(mujoco.mj_geomDistance(model, data, a, b, 1.0, None) for a, b in pairs)])
    assert 0.0095 < nearest < 0.02, "kept, and used"


def test_a_tool_that_is_pulled_straight_out_stops_before_the_arm_is_singular_and_comes_back():
    robot = load_robot("fr3")
    kinematics = Kinematics(robot)
    ik = InverseKinematics(robot, kinematics, PERIOD)
    ready = np.array(robot.configuration("ready"))
    start = kinematics.tcp(ready)
    out, acted = follow(ik, ready, Pose(start.position + np.array([1.0, 0.0, 0.3]), start.quaternion), 500)
    assert "singularity" in acted
    worst = 0.0
    for q in out:
        scaled = kinematics.jacobian(q) * np.array([[1.0], [1.0], [1.0], [0.3], [0.3], [0.3]])
        worst = max(worst, float(np.linalg.cond(scaled)))
    assert LIMITS.condition_slow < worst < 1.1 * LIMITS.condition_stop
    back, _ = follow(ik, out[-1], start, 800)
    assert kinematics.tcp(back[-1]).distance(start) < 1e-3


def test_an_arm_with_a_joint_too_many_goes_to_its_posture_and_the_tool_stays():
    robot = load_robot("fr3")
    kinematics = Kinematics(robot)
    ik = InverseKinematics(robot, kinematics, PERIOD)
    ready = np.array(robot.configuration("ready"))
    goal = kinematics.tcp(ready)
    away = ready + np.array([0.0, 0.0, 0.4, 0.0, 0.0, 0.0, 0.0])
    still = InverseKinematics(robot, kinematics, PERIOD, IkLimits(posture_gain=0.0))
    aside = follow(still, away, goal, 100)[0][-1]
    ways, _ = follow(ik, aside, goal, 800)
    assert np.linalg.norm(ways[-1] - ready) < 0.2 * np.linalg.norm(aside - ready)
    assert max(kinematics.tcp(q).distance(goal) for q in ways[100:]) < 1e-3


def test_what_is_no_position_is_refused():
    robot = load_robot("so101")
    ik = InverseKinematics(robot, Kinematics(robot), PERIOD)
    with pytest.raises(ValueError, match="expected 5 finite joint positions"):
        ik.step([0.0] * 6, Pose.identity())
    with pytest.raises(ValueError, match="expected 5 finite joint positions"):
        ik.step([np.nan] * 5, Pose.identity())
    with pytest.raises(ValueError, match="link_distance below link_notice"):
        IkLimits(link_distance=0.1)
    with pytest.raises(ValueError, match="expected a positive period"):
        InverseKinematics(robot, Kinematics(robot), 0.0)
