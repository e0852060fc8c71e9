# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from builtin_interfaces.msg import Duration
from hypothesis import given
from hypothesis import strategies as st
from serl_robots.model.joint_trajectory import JointTrajectoryPlan, TrajectoryError
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

JOINTS = ("a", "b")
START = np.array([0.0, 1.0])


def message(*points, names=JOINTS):
    return JointTrajectory(joint_names=list(names), points=[_point(time, positions) for time, positions in points])


def _point(time, positions):
    duration = Duration(sec=int(time), nanosec=round(time % 1 * 1e9))
    return JointTrajectoryPoint(positions=positions, time_from_start=duration)


def plan(*points, names=JOINTS):
    return JointTrajectoryPlan.from_message(message(*points, names=names), JOINTS, START)


def test_it_goes_straight_from_where_the_arm_is():
    path = plan((1.0, [2.0, 1.0]), (2.0, [2.0, 3.0]))
    np.testing.assert_allclose(path.at(0.0), START)
    np.testing.assert_allclose(path.at(0.25), [0.5, 1.0])
    np.testing.assert_allclose(path.at(1.5), [2.0, 2.0])
    np.testing.assert_allclose(path.at(9.0), [2.0, 3.0])
    assert path.duration == 2.0


def test_joints_may_come_in_any_order():
    np.testing.assert_allclose(plan((1.0, [5.0, 6.0]), names=("b", "a")).goal, [6.0, 5.0])


def test_a_single_point_without_a_time_is_a_set_point():
    np.testing.assert_allclose(plan((0.0, [2.0, 2.0])).at(0.0), [2.0, 2.0])


@given(
    st.lists(st.tuples(st.floats(0.01, 1.0), st.floats(-3, 3), st.floats(-3, 3)), min_size=1, max_size=6),
    st.floats(0.0, 8.0),
)
def test_it_never_leaves_the_range_of_its_points(steps, time):
    times = np.cumsum([step[0] for step in steps])
    path = JointTrajectoryPlan([0.0, *times], [START, *(np.array(step[1:]) for step in steps)])
    corners = np.array([START, *(step[1:] for step in steps)])
    position = path.at(time)
    assert (position >= corners.min(axis=0) - 1e-9).all()
    assert (position <= corners.max(axis=0) + 1e-9).all()


@pytest.mark.parametrize(
    ("bad", "message_part"),
    [
        (message((1.0, [1.0, 1.0]), names=("a", "c")), "expected the joints a, b"),
        (message((1.0, [1.0]), names=("a",)), "expected the joints a, b"),
        (message(), "at least one point"),
        (message((1.0, [1.0])), "point 0: expected 2 finite positions"),
        (message((1.0, [1.0, float("nan")])), "point 0: expected 2 finite positions"),
        (message((1.0, [1.0, 1.0]), (0.5, [1.0, 1.0])), "point 1: expected a time after 1 s"),
        (message((0.0, [1.0, 1.0]), (0.0, [1.0, 1.0])), "point 1: expected a time after 0 s"),
    ],
)
def test_a_trajectory_that_cannot_be_followed_is_refused(bad, message_part):
    with pytest.raises(TrajectoryError, match=message_part):
        JointTrajectoryPlan.from_message(bad, JOINTS, START)


def test_a_trajectory_beyond_the_limits_is_refused():
    limits = np.array([[-1.0, 1.0]] * len(JOINTS))
    inside = message((1.0, [0.5] * len(JOINTS)))
    JointTrajectoryPlan.from_message(inside, JOINTS, START, limits)
    with pytest.raises(TrajectoryError, match="point 0: expected positions from"):
        JointTrajectoryPlan.from_message(message((1.0, [0.5, 1e30])), JOINTS, START, limits)
