# SPDX-License-Identifier: Apache-2.0
"""A leader arm: kinematics against differences, grabs, who leads where to, and takeovers at random."""

from __future__ import annotations

import math
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import Phase as Stage
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose
from serl_robots.model.robot import load_robot
from serl_robots.safety.limits import SafetyLimits
from serl_tasks.messages import MessageError
from serl_teleop.benchmarks.takeovers import Jumps, PretendedLeader, World, servo_leader, take_over
from serl_teleop.devices.device import GRAB, DeviceError
from serl_teleop.devices.leader.arm import LeaderArm, LeaderSettings, Leading
from serl_teleop.devices.leader.chain import RobotChain, solve
from serl_teleop.devices.leader.grab import GrabDetector, GrabSettings
from serl_teleop.devices.leader.space import JointSpace, ToolSpace
from serl_teleop.devices.leader.topic_leader import TopicLeader
from serl_teleop.devices.takeover import Phase

from serl_tasks import ArmSample, get_task

HOME = np.array([0.0, -0.4, 0.2, 0.8, 0.0])
REACH = np.array([1.9, 1.7, 1.6, 1.6, 2.7])
LOOK = 0.02
ANGLES = st.lists(st.floats(-1.5, 1.5), min_size=5, max_size=5).map(np.array)
ROBOT_HOME = Pose((0.5, 0.0, 0.25), (1.0, 0.0, 0.0, 0.0))


@cache
def leader_arm() -> RobotChain:
    return RobotChain(servo_leader())


@cache
def kinematics() -> Kinematics:
    return Kinematics(load_robot(get_task("pick_cube").robot))


# Kinematics


@settings(max_examples=30, deadline=None)
@given(ANGLES)
def test_the_jacobian_is_what_differences_say_and_lengths_stay(joints):
    pose, jacobian = leader_arm().differential(joints)
    for index in range(5):
        step = np.zeros(5)
        step[index] = 1e-6
        before, after = leader_arm().tcp(joints - step), leader_arm().tcp(joints + step)
        moved = np.concatenate([after.position - before.position, before.rotation_vector_to(after)]) / 2e-6
        assert moved == pytest.approx(jacobian[:, index], abs=1e-8)
    shoulder = np.array([0.0388, 0.0, 0.1166])
    assert np.linalg.norm(pose.position - shoulder) < 0.0304 + 0.116 + 0.1351 + 0.1595 + 0.016


def test_an_so101_stretches_forward_pans_right_and_bends_down():
    drawn = [0.3914, 0.0, 0.2265]  # [m] by the lengths of its drawings; the jaw's tool is 16 mm beside the wrist's axis
    assert leader_arm().tcp(np.zeros(5)).position == pytest.approx(drawn, abs=0.017)
    assert leader_arm().tcp(np.array([0.5, 0, 0, 0, 0])).position[1] < -0.1
    for joint in (1, 2, 3):
        angles = np.zeros(5)
        angles[joint] = 0.3
        assert leader_arm().tcp(angles).position[2] < 0.23


@settings(max_examples=20, deadline=None)
@given(ANGLES.filter(lambda joints: abs(joints[2]) > 0.3))
def test_a_reachable_pose_is_reached(joints):
    near = joints + 0.05
    found = solve(leader_arm(), leader_arm().tcp(joints), near, -REACH, REACH, turn_weight=0.05, iterations=100)
    assert leader_arm().tcp(found).distance(leader_arm().tcp(joints)) < 2e-3
    assert (np.abs(found) <= REACH).all()


# Grabs


def test_noise_of_the_encoders_is_no_grab_a_pull_is_and_stillness_lets_go():
    detector, rng, now = GrabDetector(GrabSettings()), np.random.default_rng(0), 0.0
    step = 2 * math.pi / 4096
    for _ in range(500):
        now += LOOK
        assert not detector.update(rng.integers(-1, 2, 5) * step, now)
    pulled = [detector.update(np.array([0.0, 0.03 * index, 0.0, 0.0, 0.0]), now + index * LOOK) for index in range(6)]
    assert pulled[-1]
    now += 6 * LOOK
    detector.forget(grabbed=True)
    held = [detector.update(np.full(5, 0.1), now + index * LOOK) for index in range(40)]
    assert all(held[: round(0.5 / LOOK)])
    assert not held[round(0.5 / LOOK) + 1]


# Leading


class Rig:
    """A leader whose servos and hand are pretended, and a robot that is where it is put."""

    def __init__(self, space=None, home=HOME, lead_button="", **others):
        self.hardware = PretendedLeader(home, 0.05, np.random.default_rng(0))
        self.commanded, self.width, self.now = ROBOT_HOME, 0.08, 10.0
        self.buttons: frozenset[str] = frozenset()
        self.joints = None
        space = space or ToolSpace(leader_arm(), HOME, ROBOT_HOME, -REACH, REACH, scale=2.0)
        self.leader = LeaderArm(
            self.hardware, space, LeaderSettings(**others), self.sample, 0.08, lambda: self.buttons, lead_button
        )

    def sample(self):
        return ArmSample(self.commanded, np.zeros(6), self.width, self.width, self.commanded, self.joints)

    def look(self, seconds=LOOK):
        for _ in range(max(1, round(seconds / LOOK))):
            self.now += LOOK
            self.hardware.move(LOOK)
            self.state = self.leader.read(self.now)
        return self.state

    def pull(self, way, seconds=0.2):
        """A hand moves the joints by `way` (n,) [rad]."""
        hardware, ticks = self.hardware, round(seconds / LOOK)
        hardware.hand = hardware.joints.copy()
        for _ in range(ticks):
            hardware.hand = hardware.hand + np.array(way) / ticks
            self.look()
        return self.state


def test_it_follows_the_robot_as_fast_as_it_may_and_that_is_no_grab():
    rig = Rig()
    rig.look(0.5)
    rig.commanded = Pose((0.6, 0.1, 0.3), (1.0, 0.0, 0.0, 0.0))
    for _ in range(100):
        assert not rig.look().buttons
    way = leader_arm().tcp(rig.hardware.joints).position - leader_arm().tcp(HOME).position
    assert way == pytest.approx([0.05, 0.05, 0.025], abs=3e-3), "half of the robot's way"


def test_a_hand_leads_the_tool_by_the_way_of_the_leaders_whatever_the_arms_are_built_like():
    rig = Rig()
    rig.look(0.5)
    state = rig.pull([0.2, 0.0, 0.0, 0.0, 0.0])
    assert GRAB in state.buttons
    begin = leader_arm().tcp(rig.hardware.joints)
    rig.commanded = Pose(rig.commanded.position + rig.state.motion[:3], (1.0, 0.0, 0.0, 0.0))
    rig.look()
    assert rig.state.motion == pytest.approx((0.0,) * 6, abs=0.2), "turns are asked for, too"
    rig.pull([0.0, 0.02, 0.0, -0.02, 0.0])
    way = 2.0 * (leader_arm().tcp(rig.hardware.joints).position - begin.position)
    assert rig.state.motion[:3] == pytest.approx(way, abs=4e-3)


def test_a_base_that_is_turned_leads_the_same_way_as_the_person_sees_it():
    turned = Rig(ToolSpace(leader_arm(), HOME, ROBOT_HOME, -REACH, REACH, scale=1.0, yaw=math.pi / 2))
    turned.look(0.5)
    turned.pull([0.2, 0.0, 0.0, 0.0, 0.0])
    turned.commanded = Pose(ROBOT_HOME.position + turned.state.motion[:3], (1.0, 0.0, 0.0, 0.0))
    turned.look()
    begin = turned.state.motion
    turned.pull([0.1, 0.0, 0.0, 0.0, 0.0])  # to the right of the leader, whose base looks to the robot's left
    assert turned.state.motion[0] - begin[0] > 0.02
    assert abs(turned.state.motion[1] - begin[1]) < 0.02


def test_nothing_is_asked_for_at_the_grab_and_what_a_leader_is_ahead_by_too_much_is_lost():
    rig = Rig()
    rig.look(0.5)
    rig.hardware.hand = rig.hardware.joints + np.array([0.3, 0.0, 0.0, 0.0, 0.0])
    first = next(state for state in iter(rig.look, None) if state.buttons)
    assert first.motion == pytest.approx((0.0,) * 6, abs=1e-12)
    rig.pull([1.0, 0.0, 0.0, 0.0, 0.0], 1.0)  # the robot stands, as at a wall
    assert np.linalg.norm(rig.state.motion[:3]) == pytest.approx(0.08)
    rig.pull([-0.02, 0.0, 0.0, 0.0, 0.0], 0.04)
    assert np.linalg.norm(rig.state.motion[:3]) < 0.075, "it turns round with the hand"


def test_letting_go_fades_the_lead_within_its_time_and_the_leader_goes_back_to_the_robot():
    rig = Rig(blend=0.3)
    rig.look(0.5)
    rig.pull([0.3, 0.0, 0.0, 0.0, 0.0])
    rig.hardware.hand = None
    while rig.leader.state is Leading.LEADING:
        last = np.linalg.norm(rig.look().motion)
    begin = rig.now
    while rig.look().buttons:
        assert np.linalg.norm(rig.state.motion) <= last + 1e-9, "how the leader goes back is nobody's wish"
        last = np.linalg.norm(rig.state.motion)
    assert rig.now - begin <= 0.3 + LOOK + 1e-9
    rig.look(2.0)
    assert rig.hardware.joints == pytest.approx(HOME, abs=0.02)
    assert rig.leader.state is Leading.FOLLOWING


def test_a_leader_that_is_left_stays_where_it_is_left():
    rig = Rig()
    rig.look(0.5)
    rig.pull([0.0, 0.4, 0.0, 0.0, 0.0])
    left, rig.hardware.hand = rig.hardware.joints.copy(), None
    rig.look(0.3)
    assert rig.hardware.joints == pytest.approx(left, abs=0.031)


def test_a_button_leads_while_it_is_held_and_a_hand_alone_does_not():
    rig = Rig(lead_button="0")
    rig.look(0.5)
    assert not rig.pull([0.3, 0.0, 0.0, 0.0, 0.0]).buttons
    rig.buttons = frozenset({"0", "1"})
    assert rig.look().buttons == {GRAB, "1"}
    rig.look(1.0)
    assert GRAB in rig.state.buttons, "who holds still leads on"
    rig.buttons = frozenset()
    rig.hardware.hand = None
    rig.look(0.4)
    assert not rig.state.buttons


def test_the_handle_moves_the_gripper_once_it_has_been_moved_and_has_met_it():
    rig = Rig()
    rig.look(0.5)
    rig.width = 0.0  # the gripper is closed, the handle open
    rig.hardware.handle = 1.0
    rig.pull([0.3, 0.0, 0.0, 0.0, 0.0])
    rig.hardware.handle = 1.0
    rig.leader._take(rig.hardware.read(rig.now), rig.sample())
    assert rig.look().gripper is None
    rig.hardware.handle = 0.6
    assert rig.look().gripper is None, "it would open the gripper with a jump"
    rig.hardware.handle = 0.1
    assert rig.look().gripper == pytest.approx(-0.8)
    rig.hardware.handle = 0.9
    assert rig.look().gripper == pytest.approx(0.8)


def test_an_arm_built_as_the_robot_leads_joint_by_joint():
    robot = kinematics()
    home = np.array(load_robot(get_task("pick_cube").robot).configuration("home"))
    rig = Rig(JointSpace(robot), home)
    rig.commanded, rig.joints = robot.tcp(home), home
    rig.look(0.5)
    way = np.array([0.15, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    rig.pull(way)
    begin = rig.hardware.joints.copy()
    rig.leader._take(rig.hardware.read(rig.now), rig.sample())
    rig.pull(0.2 * way)
    expected = robot.tcp(home + rig.hardware.joints - begin).position - robot.tcp(home).position
    assert rig.state.motion[:3] == pytest.approx(expected, abs=2e-3)


# Other arms


def states(**positions):
    return SimpleNamespace(name=list(positions), position=list(positions.values()))


def test_joint_states_are_read_by_name_and_missed_when_they_stop():
    sent = []
    leader = TopicLeader("leader/joint_states", ("a", "b"), ("grip", 0.0, 0.5), 0.5, sent.append)
    assert leader.read(1.0) is None
    leader.take(states(b=2.0, grip=0.25, a=1.0), 1.0)
    assert leader.read(1.4).joints.tolist() == [1.0, 2.0]
    assert leader.read(1.4).handle == 0.5
    leader.send(np.array([0.0, 1.0]), 0.5, held=False)
    assert sent[0].tolist() == [0.0, 1.0]
    with pytest.raises(DeviceError, match="is the leader's driver alive"):
        leader.read(1.6)
    with pytest.raises(MessageError, match="expected joint 'b' among them, found a"):
        leader.take(states(a=1.0), 2.0)
    with pytest.raises(MessageError, match="position of 'a': expected a finite number, found nan"):
        leader.take(states(a=math.nan, b=1.0, grip=0.0), 2.0)
    with pytest.raises(MessageError, match="position: expected one for each"):
        leader.take(SimpleNamespace(name=["a"], position=[]), 2.0)


def test_an_arm_of_config_robots_has_the_jacobian_of_differences():
    robot = kinematics()
    joints = np.array(load_robot(get_task("pick_cube").robot).configuration("ready"))
    chain = RobotChain(robot)
    step = 1e-6 * np.eye(7)[3]
    moved = (robot.tcp(joints + step).position - robot.tcp(joints - step).position) / 2e-6
    assert chain.differential(joints)[1][:3, 3] == pytest.approx(moved, abs=1e-7)


# The whole of it: leader, operator, mapping, arm controller, safety filter


@settings(max_examples=8, deadline=None, phases=[Stage.explicit, Stage.reuse, Stage.generate])  # a seed has no size
@given(st.integers(0, 2**32 - 1))
def test_no_takeover_or_release_moves_the_commanded_tool_by_more_than_one_step(seed):
    jumps = take_over([get_task("pick_cube"), get_task("insert_connector")], 4, seed, each=1)
    assert jumps.takeovers >= 4
    assert jumps.releases >= 4
    assert jumps.step <= 1.0 + 1e-9
    assert jumps.asked < 1e-9, "a takeover asks for nothing by itself"


def world(seed=0, **limits):
    task = get_task("pick_cube")
    given_limits = SafetyLimits(
        workspace_min=(0.3, -0.3, 0.02),
        workspace_max=(0.7, 0.3, 0.5),
        min_gripper_width=0.0,
        max_gripper_width=0.08,
        **limits,
    )
    return World(task, given_limits, kinematics(), np.random.default_rng(seed), Jumps(), by_joints=False)


@pytest.mark.parametrize("seed", range(5))
def test_a_policy_that_moves_the_robot_about_is_never_taken_for_a_hand(seed):
    quiet = world(seed, max_velocity=0.25)
    quiet._until = math.inf
    for _ in range(300):
        quiet.advance()
    assert quiet._jumps.takeovers == 0
    assert quiet._jumps.commands > 30


def test_a_leader_that_is_unplugged_while_it_leads_holds_the_arm_until_somebody_agrees():
    rig = world()
    rig._until = math.inf
    rig.leader.hand = rig.leader.joints.copy()
    rig._velocity = np.array([0.5, 0.0, 0.0, 0.0, 0.0])
    while not rig._led:
        rig.advance()
    for _ in range(10):
        rig.advance()
    rig.leader.gone = True
    rig.advance()
    assert rig.hand.operator.takeover.phase is Phase.HOLDING
    for _ in range(30):
        rig.advance()
    held = rig.controller.target
    for _ in range(50):
        rig.advance()
    assert rig.controller.target == held
    assert rig.hand.operator.takeover.consent()
    for _ in range(50):
        rig.advance()
    assert rig.controller.target != held
