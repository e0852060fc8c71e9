# SPDX-License-Identifier: Apache-2.0
from itertools import pairwise

import numpy as np
import pytest
from controller_rig import PERIOD, Rig
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_robots.control.move_to import MoveRejected, Profile
from serl_robots.model.pose import Pose
from serl_robots.safety.source import Source

READY = [0.0, -0.785398, 0.0, -2.356194, 0.0, 1.570796, 0.785398]


@pytest.fixture(params=["lockstep", "paced"])
def rig(request: pytest.FixtureRequest) -> Rig:
    return Rig(lockstep=request.param == "lockstep")


def finish(rig: Rig, seconds: float = 20.0) -> None:
    """The world goes on until the motion is over."""
    for _ in range(round(seconds / (PERIOD if rig.lockstep else 0.1 * PERIOD))):
        if rig.outcomes:
            return
        rig.state()


def the_outcome(rig: Rig) -> str:
    assert len(rig.outcomes) == 1
    return rig.outcomes[0].termination_reason


@given(
    speed=st.floats(0.1, 10.0),
    acceleration=st.floats(0.1, 50.0),
    period=st.floats(0.01, 0.5),
    stop=st.integers(0, 99),
)
@settings(deadline=None)
def test_a_profile_keeps_its_limits_and_ends_at_the_goal_exactly(
    speed: float, acceleration: float, period: float, stop: int
) -> None:
    profile, stopped = Profile(speed, acceleration, period), Profile(speed, acceleration, period)
    positions, speeds = [0.0], [0.0]
    while profile.progress < 1.0:
        profile.advance()
        positions.append(profile.progress)
        speeds.append((positions[-1] - positions[-2]) / period)
        assert len(positions) < 1e4
    assert max(speeds) <= speed * (1 + 1e-6)
    changes = np.abs(np.diff([*speeds, 0.0]))
    assert changes.max() <= acceleration * period * (1 + 1e-6) + 1e-6 or len(positions) == 2
    for _ in range(stop):
        stopped.advance()
    for _ in range(len(positions)):
        stopped.advance(stopping=True)
    assert stopped.speed == 0.0


def test_a_pose_is_reached_on_a_straight_line_within_the_speed_limits(rig: Rig) -> None:
    start, goal = rig.tcp.position, np.array([0.4, 0.2, 0.1])
    rig.move_to_pose(goal)
    finish(rig)
    assert the_outcome(rig) == "reached" and rig.outcomes[0].success
    assert rig.outcomes[0].error < 1e-6
    assert rig.safety.mode == Source.IDLE
    direction = (goal - start) / np.linalg.norm(goal - start)
    positions = [start, *(command.target.position for command in rig.commands)]
    for position in positions:
        offset = position - start
        assert np.linalg.norm(offset - (offset @ direction) * direction) < 1e-9
    steps = [float(np.linalg.norm(b - a)) for a, b in pairwise(positions)]
    assert max(steps) <= rig.limits.max_velocity * PERIOD + 1e-9
    assert max(abs(b - a) for a, b in pairwise([0.0, *steps, 0.0])) <= rig.limits.max_acceleration * PERIOD**2 + 1e-9
    assert {command.source for command in rig.commands} == {Source.MOVE_TO}
    assert not any(command.limits for command in rig.commands)


def test_a_pose_may_turn_the_tool(rig: Rig) -> None:
    goal = Pose.from_rotation_vector(rig.tcp.position, (0.0, 0.0, 0.3)).compose(
        Pose((0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0))
    )
    rig.move_to_pose(goal.position, orientation=goal.quaternion)
    finish(rig)
    assert the_outcome(rig) == "reached"
    assert rig.tcp.angle(goal) < 1e-6


def test_scaling_slows_a_motion_down() -> None:
    counts = []
    for scaling in (1.0, 0.25):
        rig = Rig(lockstep=True)
        rig.move_to_pose((0.4, 0.2, 0.1), scaling)
        finish(rig)
        counts.append(len(rig.commands))
    assert counts[1] > 3 * counts[0]


def test_joints_are_reached_within_joint_and_tool_speed_limits(rig: Rig) -> None:
    start = rig.joints
    rig.move_to_joints(READY)
    finish(rig)
    assert the_outcome(rig) == "reached"
    positions = np.array([start, *(command.joint_positions for command in rig.commands)])
    speeds = np.abs(np.diff(positions, axis=0)) / PERIOD
    assert np.all(speeds <= rig.limits.joint_velocity_scaling * rig.kinematics.velocity + 1e-9)
    assert rig.joints == pytest.approx(READY)
    tools = [rig.kinematics.tcp(joints) for joints in positions]
    assert max(a.distance(b) for a, b in pairwise(tools)) <= rig.limits.max_velocity * PERIOD * 1.001
    assert all(command.target.distance(tool) < 1e-12 for command, tool in zip(rig.commands, tools[1:], strict=True))


def test_in_lockstep_each_increment_waits_for_the_world() -> None:
    rig = Rig(lockstep=True)
    rig.move_to_pose((0.4, 0.2, 0.1))
    assert len(rig.commands) == 1
    rig.wait(1.0)
    assert len(rig.commands) == 1
    rig.state()
    assert len(rig.commands) == 2


def test_a_goal_where_the_arm_is_already_is_reached(rig: Rig) -> None:
    rig.move_to_joints(rig.joints)
    finish(rig)
    assert the_outcome(rig) == "reached"


@pytest.mark.parametrize(
    ("position", "orientation", "said"),
    [
        ((0.4, 0.2, 0.9), (1.0, 0.0, 0.0, 0.0), "outside the workspace box: z = 0.900 m"),
        ((0.1, 0.0, 0.2), (1.0, 0.0, 0.0, 0.0), "outside the workspace box: x = 0.100 m"),
        ((0.4, 0.2, 1e300), (1.0, 0.0, 0.0, 0.0), r"z = 1e\+300 m, allowed 0.\d+ to 0.\d+ m$"),
        ((0.4, 0.2, 0.1), (0.0, 0.0, 0.0, 1.0), "outside the orientation cone"),
    ],
)
def test_a_pose_outside_the_limits_is_rejected(
    rig: Rig, position: tuple[float, ...], orientation: tuple[float, ...], said: str
) -> None:
    with pytest.raises(MoveRejected, match=said):
        rig.move_to_pose(position, orientation=orientation)
    assert rig.commands == [] and rig.outcomes == []


def test_a_little_outside_is_told_by_how_much(rig: Rig) -> None:
    highest = rig.limits.workspace_max[2]
    with pytest.raises(MoveRejected, match=r"to 0.\d+ m, 0\.3 mm beyond$"):
        rig.move_to_pose((0.4, 0.2, highest + 0.0003), orientation=(1.0, 0.0, 0.0, 0.0))


def test_joints_beyond_their_limits_or_a_tool_outside_are_rejected(rig: Rig) -> None:
    beyond = [2.89, *READY[1:]]
    with pytest.raises(MoveRejected, match="joint panda_joint1: expected a position in"):
        rig.move_to_joints(beyond)
    with pytest.raises(MoveRejected, match="the goal is outside the workspace box"):
        rig.move_to_joints([1.5, *READY[1:]])


def test_a_way_that_leaves_the_box_between_start_and_goal_is_rejected() -> None:
    rig = Rig(lockstep=True, start=False, workspace_max=(0.45, 0.3, 0.5), orientation_cone=1.0)
    rig.joints[0] = -0.55
    rig.tcp = rig.kinematics.tcp(rig.joints)
    rig.state()
    # the tool would swing round the base, from right to left: both ends are inside, the middle is too far out
    with pytest.raises(MoveRejected, match=r"the way to the goal goes outside .*: x = 0\.45.*planner:=ompl"):
        rig.move_to_joints([0.55, *rig.joints[1:]])


@pytest.mark.parametrize("scaling", [-0.1, 1.5, float("nan")])
def test_a_speed_share_outside_its_range_is_rejected(rig: Rig, scaling: float) -> None:
    with pytest.raises(MoveRejected, match="velocity_scaling"):
        rig.move_to_pose((0.4, 0.2, 0.1), scaling)


def test_no_motion_without_joint_states() -> None:
    with pytest.raises(MoveRejected, match="no joint_states"):
        Rig(lockstep=False, start=False).move_to_pose((0.4, 0.2, 0.1))


def test_no_motion_while_stopped(rig: Rig) -> None:
    rig.controller.on_estop()
    with pytest.raises(MoveRejected, match="e-stop"):
        rig.move_to_pose((0.4, 0.2, 0.1))


def test_no_motion_while_a_person_leads(rig: Rig) -> None:
    rig.teleop(0.1, 0.0, 0.0, 0.0)
    with pytest.raises(MoveRejected, match="a person leads"):
        rig.move_to_pose((0.4, 0.2, 0.1))


def test_a_canceled_motion_brakes_and_stands(rig: Rig) -> None:
    rig.move_to_pose((0.69, 0.29, 0.05))
    while len(rig.commands) < 3:
        rig.state()
    rig.controller.cancel_move()
    finish(rig)
    assert the_outcome(rig) == "canceled"
    assert rig.tcp.distance(Pose((0.69, 0.29, 0.05))) > 0.05


def test_a_person_preempts_a_motion_and_leads_on(rig: Rig) -> None:
    rig.move_to_joints(READY)
    while len(rig.commands) < 3:
        rig.state()
    rig.teleop(1.0, 0.0, 0.0, 0.0)
    assert the_outcome(rig) == "preempted"
    for _ in range(20):
        rig.state(PERIOD)
        rig.now += PERIOD
        rig.teleop(1.0, 0.0, 0.0, 0.0)
    sources = [command.source for command in rig.commands]
    assert sources[-1] == Source.HUMAN
    assert rig.commands[-1].joint_positions is None
    brakes = [command.joint_positions for command in rig.commands if command.source == Source.IDLE]
    assert len(brakes) > 1 and all(positions is not None for positions in brakes), "on its own path first"


def test_another_goal_preempts_a_motion(rig: Rig) -> None:
    rig.move_to_pose((0.4, 0.2, 0.1))
    rig.state()
    rig.move_to_pose((0.5, 0.0, 0.3))
    assert the_outcome(rig) == "preempted"
    rig.outcomes.clear()
    finish(rig)
    assert the_outcome(rig) == "reached"


def test_the_stop_brakes_a_joint_motion_on_its_path(rig: Rig) -> None:
    rig.move_to_joints(READY)
    for _ in range(5):
        rig.state(PERIOD)
    rig.take(rig.controller.on_estop())
    assert the_outcome(rig) == "estop"
    for _ in range(30):
        rig.state(PERIOD)
    positions = np.array([command.joint_positions for command in rig.commands])
    assert len(positions) > 5
    assert np.abs(np.diff(positions, 2, axis=0)).max() <= rig.limits.joint_acceleration * PERIOD**2 + 1e-9
    assert np.array_equal(positions[-1], positions[-2])
    assert rig.commands[-1].source == Source.ESTOP
    assert rig.joints == pytest.approx(positions[-1])


def test_a_joint_motion_waits_until_the_arm_rests(rig: Rig) -> None:
    for k in range(3):
        rig.policy(1, k, 1.0, 0.0, 0.0, 0.0)
        rig.state(PERIOD)
    rig.move_to_joints(rig.joints)
    for _ in range(5):
        rig.state(PERIOD)
    x = np.array([command.target.position[0] for command in rig.commands if command.joint_positions is None])
    assert np.abs(np.diff(x, 2)).max() <= rig.limits.max_acceleration * PERIOD**2 + 1e-9
    assert x[-1] == x[-2]


def test_a_goal_whose_arm_is_put_elsewhere_ends() -> None:
    rig = Rig(lockstep=True)
    rig.policy(1, 0)
    rig.state()
    rig.move_to_pose((0.4, 0.2, 0.1))
    rig.state()
    rig.episode(2)
    rig.state(2 * PERIOD)
    assert the_outcome(rig) == "preempted"


def test_a_policy_is_refused_during_a_motion_and_heard_after_it(rig: Rig) -> None:
    rig.move_to_pose((0.4, 0.2, 0.1))
    assert rig.policy(1, 0, 1.0, 0.0, 0.0, 0.0) is None
    assert "move_to is running" in rig.safety.reason
    finish(rig)
    rig.state(PERIOD)
    assert rig.policy(1, 1, 1.0, 0.0, 0.0, 0.0) is not None


def test_an_arm_that_does_not_follow_ends_in_a_timeout(rig: Rig) -> None:
    rig.blocked = True
    rig.move_to_pose((0.4, 0.2, 0.1))
    finish(rig)
    assert the_outcome(rig) == "timeout"
    assert rig.outcomes[0].error > 0.1


def test_joint_states_that_stop_end_a_motion(rig: Rig) -> None:
    rig.move_to_pose((0.4, 0.2, 0.1))
    rig.wait(6.0)
    assert the_outcome(rig) == "timeout"
    assert "joint_states" in rig.outcomes[0].message


def test_a_motion_keeps_the_grip(rig: Rig) -> None:
    rig.policy(1, 0, 0.0, 0.0, 0.0, -1.0)
    rig.state(PERIOD)
    rig.width = 0.04
    rig.state(PERIOD)
    rig.blocked = True
    rig.move_to_pose((0.4, 0.2, 0.1))
    assert rig.commands[-1].gripper_width == 0.0


WALL = (0.55, -1.0, 0.0, 0.56, 1.0, 1.0)


def test_a_motion_through_a_keep_out_box_is_refused_with_the_box() -> None:
    rig = Rig(lockstep=True, keep_out=WALL)
    with pytest.raises(MoveRejected, match=r"keep-out box is in the way: \(0.55, -1.0, 0.0\) to \(0.56, 1.0, 1.0\)"):
        rig.move_to_pose([0.65, 0.0, 0.25])
    with pytest.raises(MoveRejected, match="keep-out box is in the way"):
        rig.move_to_pose([0.545, 0.0, 0.25])  # in front of it, but nearer than limits.keep_out_distance
    turned = Rig(lockstep=True, keep_out=(0.4, 0.1, 0.0, 0.6, 0.11, 1.0))
    with pytest.raises(MoveRejected, match="keep-out box is in the way"):
        turned.move_to_joints(turned.joints + np.array([0.4, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
    rig.move_to_pose([0.51, 0.0, 0.25])
    finish(rig)
    assert the_outcome(rig) == "reached"
