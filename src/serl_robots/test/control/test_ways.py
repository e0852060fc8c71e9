# SPDX-License-Identifier: Apache-2.0
"""Motions along ways that somebody else plans: what is commanded stays on the way, whatever slows or stops it."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from controller_rig import PERIOD, Rig
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_robots.control.move_to import MoveRejected
from serl_robots.control.ways.way_move import AwaitedWay
from serl_robots.safety.source import Source

TURNS = ((0.25, 0.0), (0.25, 0.15), (-0.1, 0.15))  # [rad] of joints 1 and 6, at which the way has its corners


@pytest.fixture(params=["lockstep", "paced"])
def rig(request: pytest.FixtureRequest) -> Rig:
    return Rig(lockstep=request.param == "lockstep")


def smooth(start: Any, end: Any, speed: float) -> Any:
    """Points of a straight part with the speed of a cosine, at rest at both ends; `speed` [rad/s] at its middle."""
    count = max(2, int(np.ceil(0.5 * np.pi * np.abs(end - start).max() / (speed * PERIOD))))
    share = 0.5 - 0.5 * np.cos(np.linspace(0.0, np.pi, count + 1))
    return start + share[1:, None] * (end - start)


def way_from(start: Any, speed: float) -> Any:
    """A way (t, n) [rad] with two corners."""
    corners = [start]
    for first, sixth in TURNS:
        corners.append(start + np.array([first, 0, 0, 0, 0, sixth, 0]))
    return np.vstack([start[None], *(smooth(a, b, speed) for a, b in pairwise(corners))])


def ask(rig: Rig, speed: float | None = 0.3) -> AwaitedWay:
    """A goal whose way is answered at once, or (`speed` None) not yet."""
    asked: list[Any] = []

    def on_ask(start: Any) -> None:
        asked.append(start)
        if speed is not None:
            way.answer(way_from(start, speed))

    way = AwaitedWay(on_ask)
    rig.take(rig.controller.move_along_way(way, lambda _: 0.5, rig.outcomes.append, rig.now))
    return way


def step(rig: Rig) -> None:
    """A control period."""
    if rig.lockstep:
        rig.state()
    else:
        rig.states(PERIOD)


def commanded(rig: Rig) -> Any:
    """Joint positions that were commanded, (t, n) [rad]."""
    return np.array([command.joint_positions for command in rig.commands if command.joint_positions is not None])


def finish(rig: Rig, seconds: float = 60.0) -> str:
    for _ in range(round(seconds / PERIOD)):
        if rig.outcomes:
            break
        step(rig)
    assert len(rig.outcomes) == 1, "every motion ends, once"
    return rig.outcomes[0].termination_reason


def off_way(points: Any, start: Any) -> float:
    """Largest distance [rad] of points from the straight parts of the way."""
    corners = [start, *(start + np.array([first, 0, 0, 0, 0, sixth, 0]) for first, sixth in TURNS)]
    gaps = []
    for a, b in pairwise(corners):
        share = np.clip((points - a) @ (b - a) / ((b - a) @ (b - a)), 0.0, 1.0)
        gaps.append(np.abs(a + share[:, None] * (b - a) - points).max(axis=1))
    return float(np.min(gaps, axis=0).max())


def assert_within_limits(rig: Rig, start: Any, points: Any) -> None:
    """Limits of joints and tool from rest at the start, by differences and forward kinematics."""
    points = np.vstack([start, start, points])
    velocity = np.diff(points, axis=0) / PERIOD
    assert (np.abs(velocity) <= rig.limits.joint_velocity_scaling * rig.kinematics.velocity + 1e-9).all()
    assert np.abs(np.diff(velocity, axis=0)).max() <= rig.limits.joint_acceleration * PERIOD + 1e-9
    tools = np.array([rig.kinematics.tcp(point).position for point in points])
    speed = np.diff(tools, axis=0) / PERIOD
    assert np.linalg.norm(speed, axis=1).max() <= min(rig.limits.max_velocity, rig.limits.max_step / PERIOD) + 1e-9
    assert np.linalg.norm(np.diff(speed, axis=0), axis=1).max() <= rig.limits.max_acceleration * PERIOD + 1e-9


def test_a_way_is_followed_point_for_point_and_reached(rig: Rig) -> None:
    start = rig.joints
    ask(rig)
    assert finish(rig) == "reached" and rig.outcomes[0].success
    way = way_from(start, 0.3)
    np.testing.assert_allclose(commanded(rig)[: len(way) - 1], way[1:], atol=1e-12)
    assert rig.safety.mode == Source.IDLE


@given(speed=st.floats(0.5, 6.0), acceleration=st.floats(0.3, 2.5), pause=st.integers(1, 9), lockstep=st.booleans())
@settings(deadline=None, max_examples=12)
def test_a_way_that_is_too_fast_is_slowed_along_itself_and_stays_within_the_limits(
    speed: float, acceleration: float, pause: int, lockstep: bool
) -> None:
    rig = Rig(lockstep=lockstep, joint_acceleration=acceleration)
    start = rig.joints
    ask(rig, speed)
    for _ in range(pause):
        step(rig)
    rig.controller._motions.stand()  # states that were missing for a while: the arm has come to rest meanwhile
    rested = len(commanded(rig))
    assert finish(rig) == "reached"
    points = commanded(rig)
    assert off_way(points, start) < 1e-9
    assert_within_limits(rig, start, points[:rested])
    assert_within_limits(rig, points[rested - 1], points[rested:])
    np.testing.assert_allclose(rig.joints, way_from(start, speed)[-1], atol=1e-12)


@pytest.mark.parametrize(("how", "reason"), [("cancel", "canceled"), ("estop", "estop"), ("person", "preempted")])
@given(when=st.integers(1, 20))
@settings(deadline=None, max_examples=6)
def test_a_way_that_is_broken_off_brakes_on_the_way_within_the_limits(how: str, reason: str, when: int) -> None:
    rig = Rig(lockstep=False)
    start = rig.joints
    ask(rig, 0.25)
    for _ in range(when):
        step(rig)
    if how == "cancel":
        rig.controller.cancel_move()
    elif how == "estop":
        rig.take(rig.controller.on_estop())
    else:
        rig.teleop(0.0, 0.0, 0.0, 0.0)
    assert finish(rig) == reason and not rig.outcomes[0].success
    rig.states(2.0)
    points = commanded(rig)
    assert off_way(points, start) < 1e-9
    assert_within_limits(rig, start, points)
    np.testing.assert_allclose(points[-1], rig.joints, atol=1e-12)
    assert np.abs(points[-1] - way_from(start, 0.25)[-1]).max() > 0.01, "it did not go on to the goal"


def test_the_arm_stands_while_its_way_is_planned_and_a_refusal_ends_the_motion(rig: Rig) -> None:
    way, start = ask(rig, None), rig.joints
    for _ in range(5):
        step(rig)
    np.testing.assert_allclose(rig.joints, start)
    assert not rig.outcomes
    way.answer(MoveRejected("no way round the obstacles"))
    rig.take(rig.controller.on_way(rig.now))
    assert finish(rig) == "rejected"
    assert rig.outcomes[0].message == "no way round the obstacles"


def test_a_goal_may_be_canceled_while_its_way_is_planned(rig: Rig) -> None:
    ask(rig, None)
    step(rig)
    rig.controller.cancel_move()
    rig.take(rig.controller.on_way(rig.now))
    assert finish(rig) == "canceled"


def test_in_lockstep_a_world_that_waits_for_a_way_has_not_ended() -> None:
    rig = Rig(lockstep=True)
    way = ask(rig, None)
    for _ in range(3):
        rig.state()
    rig.wait(7.0)
    assert not rig.outcomes
    way.answer(way_from(rig.joints, 0.3))
    rig.take(rig.controller.on_way(rig.now))
    assert finish(rig) == "reached"


def test_a_way_that_begins_elsewhere_is_refused(rig: Rig) -> None:
    way = ask(rig, None)
    step(rig)
    way.answer(way_from(rig.joints + 0.05, 0.3))
    rig.take(rig.controller.on_way(rig.now))
    assert finish(rig) == "rejected"
    assert "the arm has moved while its way was planned, a joint by 0.050 rad" in rig.outcomes[0].message


def test_a_way_that_leaves_the_box_of_the_tool_is_refused() -> None:
    rig = Rig(lockstep=True)
    way = ask(rig, None)
    rig.state()
    way.answer(np.vstack([rig.joints, smooth(rig.joints, rig.joints + np.array([1.2, 0, 0, 0, 0, 0, 0]), 0.2)]))
    rig.take(rig.controller.on_way(rig.now))
    assert finish(rig) == "rejected"
    assert "outside the workspace box" in rig.outcomes[0].message


def test_an_arm_that_does_not_follow_ends_the_motion_with_the_reason() -> None:
    rig = Rig(lockstep=False)
    ask(rig, 0.5)
    rig.states(0.5)
    rig.blocked = True
    assert finish(rig) == "tracking"
    assert "look what holds the arm back" in rig.outcomes[0].message


def test_a_goal_where_the_arm_stands_already_is_reached_at_once(rig: Rig) -> None:
    way = AwaitedWay(lambda start: way.answer(start[None]))  # as the planner answers: one point
    rig.take(rig.controller.move_along_way(way, lambda _: 0.0, rig.outcomes.append, rig.now))
    assert finish(rig) == "reached"
