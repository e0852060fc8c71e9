# SPDX-License-Identifier: Apache-2.0
"""The kind relocate: when the cube has been brought, and that the two tasks of a pair undo each other."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serl_robots.model.pose import Pose
from serl_tasks.kinds.relocate import Relocate

from serl_tasks import get_task

FAR = (0.5, 0.0, 0.2)


def relocate(name: str) -> Relocate:
    found = get_task(name)
    assert isinstance(found, Relocate)
    return found


@pytest.fixture(scope="module")
def task() -> Relocate:
    return relocate("relocate_forward")


def scene(cube: tuple[float, float, float], tool: tuple[float, float, float] = FAR) -> dict[str, Pose]:
    return {"cube": Pose(cube), "tcp": Pose(tool), "bins": Pose((0.5, 0.0, 0.0))}


@pytest.mark.parametrize(
    ("cube", "tool", "success"),
    [
        ((0.5, 0.10, 0.02), FAR, True),
        ((0.5, 0.10, 0.02), (0.5, 0.10, 0.089), False),  # 69 mm above it: not released
        ((0.5, 0.10, 0.02), (0.5, 0.10, 0.091), True),
        ((0.5, 0.10, 0.03), FAR, False),  # in the air
        ((0.5, 0.06, 0.02), FAR, False),  # before it
        ((0.55, 0.10, 0.02), FAR, False),
        ((0.5, -0.10, 0.02), FAR, False),  # the other bin
    ],
)
def test_it_is_brought_when_it_stands_there_and_the_tool_has_left(
    task: Relocate, cube: tuple[float, float, float], tool: tuple[float, float, float], success: bool
) -> None:
    judgement = task.judge(scene(cube, tool))
    assert (judgement.success, judgement.terminated, judgement.reward) == (success, success, float(success))


def test_the_distance_falls_along_the_way_that_an_expert_takes(task: Relocate) -> None:
    """To the cube, up with it, over, down, and away from it."""
    apart = [(0.5, -0.10, z) for z in (0.15, 0.10, 0.06, 0.03)]
    way = [scene((0.5, -0.10, 0.02), tool) for tool in apart]
    way += [scene(place, place) for place in [(0.5, -0.10, z) for z in (0.03, 0.05, 0.08)]]
    way += [scene(place, place) for place in [(0.5, y, 0.08) for y in (-0.05, 0.0, 0.05, 0.09, 0.10)]]
    way += [scene(place, place) for place in [(0.5, 0.10, z) for z in (0.06, 0.04, 0.03)]]
    way += [scene((0.5, 0.10, 0.02), (0.5, 0.10, z)) for z in (0.02, 0.04, 0.08)]
    distances = [task.distance_to_goal(objects) for objects in way]
    assert distances == sorted(distances, reverse=True)
    assert len(set(distances)) == len(distances)
    assert task.distance_to_goal(scene((0.5, 0.10, 0.02))) == 0.0


@given(seed=st.integers(0, 10_000))
def test_where_one_ends_the_other_may_begin(seed: int) -> None:
    forward, backward = relocate("relocate_forward"), relocate("relocate_backward")
    for one, other in ((forward, backward), (backward, forward)):
        start = one.sample_objects(np.random.default_rng(seed))["cube"]
        assert other.is_there(start), "every start of one is an end of the other"
        assert not one.is_there(start)
    (x, y), (a, b) = forward.success.centre, forward.success.half_size
    assert (x, -y) == pytest.approx(backward.success.centre)
    assert (a, b) == backward.success.half_size


def test_the_pair_differs_in_nothing_that_a_policy_sees() -> None:
    forward, backward = relocate("relocate_forward"), relocate("relocate_backward")
    assert forward.state == backward.state
    assert forward.action == backward.action
    assert forward.start == backward.start


def test_what_is_no_cube_to_carry_is_refused(task: Relocate) -> None:
    with pytest.raises(ValueError, match="expected a free box named 'cube', found bins"):
        dataclasses.replace(task, objects={"bins": task.objects["bins"]}, state=task.state[:4])
    ball = dataclasses.replace(task.objects["cube"], shape="sphere", size=(0.04,))
    with pytest.raises(ValueError, match="found free, sphere"):
        dataclasses.replace(task, objects={"cube": ball})
    with pytest.raises(ValueError, match="half_size: expected positive"):
        dataclasses.replace(task, success=dataclasses.replace(task.success, half_size=(0.0, 0.1)))
