# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_robots.model.pose import Pose
from serl_robots.safety.keep_apart import KeepApart, nearest_points
from serl_robots.safety.limits import SafetyLimits
from serl_robots.safety.tool_filter import ToolFilter
from serl_robots.safety.tool_target import ToolTarget

PERIOD, DISTANCE = 0.1, 0.15
DOWN = (1.0, 0.0, 0.0, 0.0)
WRIST = (0.0, 0.0, -0.21)
LIMITS = SafetyLimits(
    workspace_min=(0.2, -0.6, 0.0),
    workspace_max=(0.8, 0.6, 0.5),
    max_step=0.045,
    max_velocity=0.5,
    max_acceleration=10.0,
    min_gripper_width=0.0,
    max_gripper_width=0.08,
)
BASES = (Pose((0.0, 0.3, 0.0)), Pose.from_rotation_vector((1.0, -0.3, 0.0), (0.0, 0.0, math.pi)))
STARTS = (Pose((0.5, 0.0, 0.2), DOWN), Pose((0.5, 0.0, 0.2), DOWN))


def filters(starts=STARTS):
    made = []
    for own, other, start in ((0, 1, starts[0]), (1, 0, starts[1])):
        apart = KeepApart(DISTANCE, BASES[own], BASES[other], WRIST, LIMITS, PERIOD)
        made.append(ToolFilter(LIMITS, PERIOD, keep_apart=apart))
        made[-1].reset(start, 0.08)
    return made


def hands(both):
    """The two ends of each hand in the frame of the world."""
    poses = [base.compose(Pose(*each.target)) for base, each in zip(BASES, both, strict=True)]
    return [(pose.position, pose.transform(WRIST)) for pose in poses]


def gap(both, samples=41):
    """Distance of the two hands, by points of both that lie close."""
    (a, b), (c, d) = hands(both)
    shares = np.linspace(0.0, 1.0, samples)[:, None]
    return np.linalg.norm((a + shares * (b - a))[:, None] - (c + shares * (d - c))[None], axis=2).min()


def step(both, desires):
    """Both are told where the other one is commanded to be, then both act."""
    for own, other in (both, both[::-1]):
        own.keep_apart.see(Pose(*other.target))
    return [each.limit(desire, 0.08) for each, desire in zip(both, desires, strict=True)]


numbers = st.floats(-1.0, 1.0)
way = st.tuples(*[st.floats(-0.06, 0.06)] * 3)
turn = st.tuples(*[st.floats(-0.2, 0.2)] * 3)
deltas = st.lists(st.tuples(way, turn, way, turn), min_size=1, max_size=40)


def desired(each, delta, rotation):
    pose = Pose(*each.target)
    turned = Pose.from_rotation_vector((0.0, 0.0, 0.0), rotation).compose(pose)
    return ToolTarget(tuple((pose.position + delta).tolist()), tuple(turned.quaternion.tolist()))


@settings(max_examples=60, deadline=None)
@given(deltas)
def test_hands_stay_apart_whatever_both_want(wanted):
    both = filters()
    for left_way, left_turn, right_way, right_turn in wanted:
        step(both, [desired(both[0], left_way, left_turn), desired(both[1], right_way, right_turn)])
        assert gap(both) >= DISTANCE - 1e-6


def test_two_that_go_for_each_other_stop_in_the_middle_and_say_why():
    both = filters()
    for _ in range(30):
        towards = [
            ToolTarget(tuple((each.position + np.array((0.0, sign * 0.045, 0.0))).tolist()), DOWN)
            for each, sign in zip(both, (-1.0, -1.0), strict=True)  # the second arm is turned by half a circle
        ]
        results = step(both, towards)
    left, right = (base.compose(Pose(*each.target)).position for base, each in zip(BASES, both, strict=True))
    assert left[1] == pytest.approx(0.5 * DISTANCE, abs=1e-6)
    assert right[1] == pytest.approx(-0.5 * DISTANCE, abs=1e-6)
    assert all("keep_apart" in result.limits for result in results)


def test_hands_that_are_too_near_come_no_nearer_and_may_part():
    near = (Pose((0.5, -0.27, 0.2), DOWN), Pose((0.5, -0.27, 0.2), DOWN))  # 6 cm from each other
    both = filters(near)
    before = gap(both)
    towards = [ToolTarget((0.5, each.position[1] - 0.04, 0.2), DOWN) for each in both]
    step(both, towards)
    assert gap(both) == pytest.approx(before, abs=1e-6)
    step(both, [ToolTarget((0.5, each.position[1] + 0.04, 0.2), DOWN) for each in both])
    assert gap(both) > before + 0.05


def test_an_arm_that_knows_nothing_of_the_other_one_stands_and_says_why():
    both = filters()
    before = both[0].target
    x, y, z = before.position
    limited = both[0].limit(ToolTarget((x + 0.02, y, z), before.quaternion), 0.08)
    assert limited.target == before
    assert limited.limits == ("keep_apart",)
    step(both, [each.target for each in both])
    both[0].keep_apart.forget()
    assert both[0].limit(ToolTarget((x + 0.02, y, z), before.quaternion), 0.08).limits == ("keep_apart",)


def test_limits_that_do_not_stop_a_tool_in_a_period_are_refused():
    slow = SafetyLimits(
        workspace_min=(0.2, -0.6, 0.0),
        workspace_max=(0.8, 0.6, 0.5),
        max_acceleration=1.0,
        min_gripper_width=0.0,
        max_gripper_width=0.08,
    )
    with pytest.raises(ValueError, match="expected limits that let a tool stop within one control period"):
        KeepApart(DISTANCE, *BASES, WRIST, slow, 0.05)


@given(st.lists(st.tuples(numbers, numbers, numbers), min_size=4, max_size=4))
def test_no_points_of_two_lines_are_nearer_than_the_nearest(ends):
    a, b, c, d = map(np.array, ends)
    near, far = nearest_points(a, b, c, d)
    shares = np.linspace(0.0, 1.0, 21)[:, None]
    sampled = np.linalg.norm((a + shares * (b - a))[:, None] - (c + shares * (d - c))[None], axis=2).min()
    found = float(np.linalg.norm(far - near))
    assert found <= sampled + 1e-9
    assert found >= sampled - 0.2  # and not nearer than the lines are: the samples are that close
