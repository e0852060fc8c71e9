# SPDX-License-Identifier: Apache-2.0
"""The kind open_drawer: what it takes for open, and what it refuses."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serl_config.schema import build
from serl_robots.model.pose import Pose, quaternion_exp
from serl_tasks.kinds.open_drawer import OpenDrawer
from serl_tasks.objects.scene_object import SceneObject, SlideMount

from serl_tasks import get_task

SLIDE = {"base": "cabinet", "position": [0.0, 0.0, 0.1], "axis": [-1.0, 0.0, 0.0], "reach": 0.1}
ITEM = {"mount": "sliding", "mass": 0.3, "colour": [0.5, 0.5, 0.5], "size": [0.1, 0.1, 0.1]}


@pytest.fixture(scope="module")
def task() -> OpenDrawer:
    found = get_task("open_drawer")
    assert isinstance(found, OpenDrawer)
    return found


def scene(task: OpenDrawer, cabinet: Pose, way: float, tool: tuple[float, float, float]) -> dict[str, Pose]:
    """Poses of cabinet, of its drawer that far open, and of the tool, by rotation matrices."""
    local = np.array(task.slide.position) + way * np.array(task.slide.axis)
    drawer = cabinet.position + cabinet.rotation_matrix() @ local
    return {"cabinet": cabinet, "drawer": Pose(drawer, cabinet.quaternion), "tcp": Pose(tool)}


@given(x=st.floats(0.4, 0.7), y=st.floats(-0.3, 0.3), yaw=st.floats(-math.pi, math.pi), way=st.floats(0.0, 0.13))
def test_how_far_it_is_open_does_not_depend_on_where_the_cabinet_stands(
    x: float, y: float, yaw: float, way: float
) -> None:
    task = get_task("open_drawer")
    assert isinstance(task, OpenDrawer)
    cabinet = Pose((x, y, 0.0), quaternion_exp((0.0, 0.0, yaw)))
    objects = scene(task, cabinet, way, (0.4, 0.0, 0.2))
    assert task.opening(objects) == pytest.approx(way, abs=1e-9)
    if abs(way - task.success.opening) > 1e-6:
        assert task.judge(objects).success is (way > task.success.opening)
    assert task.slide.pose(cabinet, way).position == pytest.approx(objects["drawer"].position)


def test_the_way_to_the_goal_is_to_the_gap_and_then_to_the_open_drawer(task: OpenDrawer) -> None:
    cabinet = Pose((0.6, 0.0, 0.0))
    gap = cabinet.position + np.array(task.slide.position) + np.array(task.gap)
    above = (float(gap[0]), float(gap[1]), float(gap[2]) + 0.1)
    assert task.distance_to_goal(scene(task, cabinet, 0.0, above)) == pytest.approx(0.1 + 0.1)
    opened = scene(task, cabinet, 0.1, tuple((gap + 0.1 * np.array(task.slide.axis)).tolist()))
    assert task.distance_to_goal(opened) == pytest.approx(0.0, abs=1e-9)


def test_the_camera_task_knows_neither_cabinet_nor_drawer() -> None:
    vision = get_task("open_drawer_vision")
    assert vision.observed_objects == ()
    assert set(vision.cameras) == {"front", "wrist"}
    assert get_task("open_drawer").observed_objects == ("cabinet", "drawer")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objects": {}}, "expected one named 'drawer' whose mount is sliding, found none"),
        ({"gap_half_size": (0.02, 0.0, 0.01)}, "gap_half_size: expected positive"),
    ],
)
def test_what_is_no_drawer_is_refused(task: OpenDrawer, change: dict[str, object], message: str) -> None:
    changed = {"errors": type(task.errors)(), "state": task.state[2:], **change}
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(task, **changed)  # type: ignore[arg-type]


def test_a_drawer_must_be_able_to_open_as_far_as_is_asked_for(task: OpenDrawer) -> None:
    far = dataclasses.replace(task.success, opening=0.2)
    with pytest.raises(ValueError, match=r"at most the reach of the drawer, 0\.13 m"):
        dataclasses.replace(task, success=far)


def test_a_base_must_be_there_and_fixed(task: OpenDrawer) -> None:
    drawer = task.objects["drawer"]
    with pytest.raises(ValueError, match=r"drawer\.slide\.base: expected a fixed object 'cabinet', found none"):
        dataclasses.replace(task, objects={"drawer": drawer}, state=task.state[2:])
    loose = dataclasses.replace(task.objects["cabinet"], mount="free", mass=1.0)
    with pytest.raises(ValueError, match=r"expected a fixed object 'cabinet', found one that is free"):
        dataclasses.replace(task, objects={"drawer": drawer, "cabinet": loose})


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (ITEM, "slide: expected on what it slides"),
        ({**ITEM, "mount": "free", "slide": SLIDE}, "slide: expected on what it slides if mount is sliding"),
        ({**ITEM, "slide": {**SLIDE, "axis": [1.0, 1.0, 0.0]}}, "axis: expected a vector of length 1"),
        ({**ITEM, "slide": SLIDE, "lower": [0.0, 0.0]}, "expected slide alone of an object that is sliding"),
        ({**{k: v for k, v in ITEM.items() if k != "mass"}, "slide": SLIDE}, "mass: expected one"),
    ],
)
def test_a_sliding_object_says_all_of_itself_and_no_more(item: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(SceneObject, item, "here")


def test_what_slides_has_no_start_of_its_own() -> None:
    item = build(SceneObject, {**ITEM, "slide": SLIDE}, "here")
    assert isinstance(item.slide, SlideMount)
    assert not item.has_place
    with pytest.raises(ValueError, match="an object that is sliding starts where its base does"):
        item.sample(np.random.default_rng(0))
