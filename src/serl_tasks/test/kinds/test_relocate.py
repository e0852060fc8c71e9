# SPDX-License-Identifier: Apache-2.0
"""The kind relocate: when the cube has been brought, and how the two tasks of a pair take turns."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serl_robots.model.pose import Pose
from serl_tasks.kinds.relocate import Relocate
from serl_tasks.pair import PairError, check_pair, farther, out_of_reach

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


@pytest.mark.parametrize("variant", ["", "_vision"])
def test_the_bins_are_a_pair_in_either_order(variant: str) -> None:
    one, other = (get_task(f"relocate_{way}{variant}") for way in ("forward", "backward"))
    check_pair(one, other)
    check_pair(other, one)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": "relocate_forward"}, "does not undo itself"),
        ({"kind": "gym"}, "cannot begin where another one has ended"),
        ({"control_period": 0.05}, r"expected the same control_period, found 0\.1 and 0\.05"),
        ({"learning": "bc"}, "expected the same learning, found rlpd_state and bc"),
    ],
)
def test_what_cannot_take_turns_is_refused_with_the_reason(change: dict[str, object], reason: str) -> None:
    forward, backward = relocate("relocate_forward"), relocate("relocate_backward")
    with pytest.raises(PairError, match=reason):
        check_pair(forward, dataclasses.replace(backward, **change))  # type: ignore[arg-type]


def test_objects_may_start_elsewhere_and_be_nothing_else(task: Relocate) -> None:
    backward = relocate("relocate_backward")
    heavy = dataclasses.replace(backward.objects["cube"], mass=0.2)
    with pytest.raises(PairError, match="expected the same objects, found others: cube"):
        check_pair(task, dataclasses.replace(backward, objects={**backward.objects, "cube": heavy}))
    with pytest.raises(PairError, match="found others: bins"):
        objects = {"cube": backward.objects["cube"]}
        check_pair(task, dataclasses.replace(backward, objects=objects))


def test_a_start_beside_an_object_is_refused(task: Relocate) -> None:
    start = dataclasses.replace(task.start, beside="cube")
    one, other = (dataclasses.replace(each, start=start) for each in (task, relocate("relocate_backward")))
    with pytest.raises(PairError, match=r"start\.beside: expected none, found 'cube'"):
        check_pair(one, other)


in_a_bin = st.tuples(st.floats(0.42, 0.58), st.floats(0.03, 0.17))


@given(place=in_a_bin)
def test_after_a_success_it_is_the_others_turn(place: tuple[float, float]) -> None:
    tasks = forward, backward = relocate("relocate_forward"), relocate("relocate_backward")
    x, y = place
    for task, other, side in ((forward, backward, 1.0), (backward, forward, -1.0)):
        objects = scene((x, side * y, 0.02), (0.5, 0.0, 0.15))
        if task.judge(objects).success:
            assert farther(tasks, objects) is other
            assert farther(tasks[::-1], objects) is other


@given(place=in_a_bin)
def test_a_cube_in_a_bin_is_brought_to_the_other_bin(place: tuple[float, float]) -> None:
    tasks = forward, backward = relocate("relocate_forward"), relocate("relocate_backward")
    x, y = place
    assert farther(tasks, scene((x, -y, 0.02))) is forward
    assert farther(tasks, scene((x, y, 0.02))) is backward


@pytest.mark.parametrize(
    ("cube", "lost"),
    [
        ((0.5, 0.1, 0.02), False),
        ((0.5, 0.1, 0.2), False),  # in the hand
        ((0.58, -0.175, 0.02), False),  # in a corner
        ((0.64, 0.1, 0.02), True),  # beyond the rim
        ((0.5, -0.22, 0.02), True),
        ((0.5, 0.1, -0.3), True),  # below the table
    ],
)
def test_what_the_tool_cannot_get_above_is_out_of_reach(
    task: Relocate, cube: tuple[float, float, float], lost: bool
) -> None:
    reason = out_of_reach(task, scene(cube))
    assert bool(reason) is lost
    assert not lost or reason.startswith("cube is out of reach, at (")
