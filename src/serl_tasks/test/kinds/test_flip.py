# SPDX-License-Identifier: Apache-2.0
"""The kind flip: what it takes for flipped, and what it refuses."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serl_robots.model.pose import Pose, quaternion_exp
from serl_tasks.kinds.flip import Flip

from serl_tasks import get_task


@pytest.fixture(scope="module")
def task() -> Flip:
    found = get_task("flip_object")
    assert isinstance(found, Flip)
    return found


@given(angle=st.floats(0.0, math.pi), towards=st.floats(-math.pi, math.pi))
def test_it_is_flipped_by_the_angle_of_its_axis_whatever_the_side(angle: float, towards: float) -> None:
    task = get_task("flip_object")
    assert isinstance(task, Flip)
    turn = quaternion_exp((angle * math.cos(towards), angle * math.sin(towards), 0.0))
    objects = {"slab": Pose((0.5, 0.0, 0.07), turn), "tcp": Pose((0.4, 0.0, 0.1))}
    assert task.turned(objects) == pytest.approx(angle, abs=1e-6)
    if abs(angle - math.radians(75.0)) > 1e-6:
        assert task.judge(objects).success is (angle > math.radians(75.0))


def test_the_way_to_the_goal_is_to_the_edge_and_then_along_its_arc(task: Flip) -> None:
    hit = (0.5 - 0.03, 0.0, 0.07 + 0.055)
    standing = {"slab": Pose((0.5, 0.0, 0.07)), "tcp": Pose((hit[0] - 0.1, 0.0, hit[2]))}
    arc = math.radians(75.0) * math.hypot(0.03, 0.055)
    assert task.distance_to_goal(standing) == pytest.approx(0.1 + arc)


def test_a_slab_that_cannot_move_is_refused(task: Flip) -> None:
    fixed = dataclasses.replace(task.objects["slab"], mount="fixed")
    with pytest.raises(ValueError, match="one named 'slab' whose mount is free, found fixed"):
        dataclasses.replace(task, objects={"slab": fixed})


def test_the_camera_task_does_not_know_the_slab() -> None:
    assert get_task("flip_object_vision").observed_objects == ()
    assert get_task("flip_object").observed_objects == ("slab",)
