# SPDX-License-Identifier: Apache-2.0
"""The kind route_cable: what counts as clipped in, and what it refuses. And what a cable is made of."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serl_robots.model.pose import Pose, quaternion_exp
from serl_tasks.episode_errors import ErrorSettings
from serl_tasks.kinds.route_cable import CABLE, CLIP, RouteCable, RouteSuccess
from serl_tasks.objects.flexible import Flexible
from serl_tasks.objects.scene_object import SceneObject
from serl_tasks.observation import StateTerm

from serl_tasks import ArmSample, get_task

TASK = get_task("route_cable")
assert isinstance(TASK, RouteCable)
LINK, RIM, HALF_SLOT = 0.02, 0.045, 0.01  # [m], as the file says
HERE = Pose((0.5, 0.0, 0.0))
DOWN = (1.0, 0.0, 0.0, 0.0)


def world(near: tuple[float, float], far: tuple[float, float], clip: Pose = HERE) -> dict[str, Pose]:
    """A straight cable that passes the ends of the slot at (y, z), relative to the rim in the frame of the clip [m]."""
    points = [-0.05 + LINK * index for index in range(8)]
    poses = {"tcp": Pose(clip.transform((-0.04, 0.0, RIM)), DOWN), CLIP: clip}
    for name, x in zip((CABLE, *TASK.objects[CABLE].points(CABLE)), points, strict=True):
        share = (x + HALF_SLOT) / (2.0 * HALF_SLOT)
        y, z = ((1.0 - share) * a + share * b for a, b in zip(near, far, strict=True))
        poses[name] = Pose(clip.transform((x, y, RIM + z)))
    return poses


sides, heights = st.floats(-0.008, 0.008), st.floats(-0.02, 0.005)


@given(sides, heights, sides, heights, st.floats(-3.0, 3.0))
def test_it_is_clipped_in_where_it_is_deep_in_both_ends_of_the_slot(
    y0: float, z0: float, y1: float, z1: float, yaw: float
) -> None:
    clip = Pose((0.5, 0.1, 0.0), quaternion_exp((0.0, 0.0, yaw)))
    objects = world((y0, z0), (y1, z1), clip)
    assert TASK.places(objects) == pytest.approx(np.array([(-HALF_SLOT, y0, z0), (HALF_SLOT, y1, z1)]), abs=1e-9)
    margins = (0.005 - abs(y0), 0.005 - abs(y1), -0.012 - z0, -0.012 - z1)
    judgement = TASK.judge(objects)
    if min(map(abs, margins)) > 1e-9:
        assert judgement.success == (min(margins) > 0.0)
    assert judgement.reward == float(judgement.success) == float(judgement.terminated)
    outside = [np.hypot(max(abs(y) - 0.005, 0.0), max(z + 0.012, 0.0)) for y, z in ((y0, z0), (y1, z1))]
    assert TASK.distance_to_goal(objects) == pytest.approx(max(outside), abs=1e-9)


def test_a_cable_that_does_not_get_there_is_not_clipped_in() -> None:
    objects = world((0.0, -0.02), (0.0, -0.02))
    back = {
        name: Pose(pose.position - ((0.1, 0.0, 0.0) if name.startswith(CABLE) else (0.0, 0.0, 0.0)))
        for name, pose in objects.items()
    }
    assert TASK.judge(objects).success
    assert not TASK.judge(back).success
    assert TASK.distance_to_goal(back) == pytest.approx(0.04)


def test_the_expert_goes_above_the_slot_then_down_and_searches_where_the_cable_lies_on_the_clip() -> None:
    expert = TASK.make_expert(np.random.default_rng(0))

    def act(x: float, y: float, z: float, bend: float = 0.0) -> list[float]:
        tool = Pose((0.5 + x, y, RIM + z), DOWN)
        objects = {**world((y, z + bend), (y, z + bend)), "tcp": tool}
        return expert.act(ArmSample(tool, np.zeros(6), 0.008, 0.008), objects).tolist()

    assert act(-0.04, 0.03, 0.01) == pytest.approx([0.0, -1.0, 0.0], abs=1e-6), "first above the slot"
    assert act(-0.04, 0.05, -0.01) == pytest.approx([0.0, 0.0, 1.0], abs=1e-6), "up where the clip is in the way"
    assert act(-0.04, 0.0, 0.01) == pytest.approx([0.0, 0.0, -1.0], abs=1e-6), "then down"
    across = [act(-0.04, 0.0, -0.01, bend=0.01)[1] for _ in range(60)]
    assert np.diff(across[:15]) == pytest.approx(0.001 / 0.015, abs=1e-6)
    assert max(across) == pytest.approx(1.0)
    assert min(across) == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda objects: {CLIP: objects[CLIP]}, "one named 'cable' that is flexible, found none"),
        (lambda objects: objects | {CABLE: replace(objects[CABLE], flexible=None)}, "flexible, found one that is not"),
        (lambda objects: {CABLE: objects[CABLE]}, "'clip' whose mount is fixed, found none"),
        (
            lambda objects: objects | {CLIP: replace(objects[CLIP], mount="free", mass=1.0)},
            "'clip' whose mount is fixed, found one that is free",
        ),
        (lambda objects: objects | {"cable_3": objects[CLIP]}, "other names than those of a cable's points.*cable_3"),
    ],
)
def test_a_task_without_cable_or_clip_is_refused(change, message) -> None:
    plain = (StateTerm(name="time", shift=(0.0,), scale=(1.0,)),)
    start = replace(TASK.start, beside=None, tcp_position=(0.45, 0.0, 0.1))
    task = replace(TASK, state=plain, start=start, errors=type(TASK.errors)())
    with pytest.raises(ValueError, match=message):
        replace(task, objects=change(dict(task.objects)))


def test_what_bends_is_a_capsule_that_is_held() -> None:
    cable = TASK.objects[CABLE]
    for change in (
        {"shape": "box", "size": (0.01, 0.01, 0.1)},
        {"mount": "free", "in_tool": None, "lower": (0.4, 0.0), "upper": (0.5, 0.0)},
    ):
        with pytest.raises(ValueError, match="flexible: expected a capsule that is held, found a"):
            replace(cable, **change)
    for change in ({"links": 1}, {"links": 33}, {"stiffness": 0.0}, {"relaxation": 0.0}):
        with pytest.raises(ValueError, match=next(iter(change))):
            replace(cable.flexible, **change)


@given(st.integers(2, 32), st.floats(0.05, 0.5), st.floats(0.002, 0.02))
def test_a_cable_is_as_long_and_as_heavy_as_it_says(links: int, length: float, diameter: float) -> None:
    cable = SceneObject(
        mount="held", shape="capsule", size=(diameter, length), mass=0.1, colour=(1.0, 0.0, 0.0),
        in_tool=TASK.objects[CABLE].in_tool, flexible=Flexible(links=links, stiffness=0.01),
    )  # fmt: skip
    assert cable.points("a") == tuple(f"a_{index + 1}" for index in range(links))
    assert cable.frames("a") == ("a", *cable.points("a")[:-1])
    assert cable.link_length * links == pytest.approx(length)
    assert cable.volume == pytest.approx(sum(solid.volume for solid in cable.solids))
    for solid in cable.solids:
        assert solid.position[2] - solid.half_extents[2] == pytest.approx(-0.5 * diameter)
        assert solid.position[2] + solid.half_extents[2] == pytest.approx(cable.link_length + 0.5 * diameter)


def test_the_points_of_a_cable_are_terms_of_the_state() -> None:
    assert TASK.pose_names == (CABLE, *(f"cable_{index}" for index in range(1, 8)), CLIP)
    assert TASK.observed_objects == ("cable_4", "cable_7", CLIP)
    assert TASK.may_diverge
    assert not get_task("insert_peg").may_diverge


@pytest.mark.parametrize("errors", [{"objects": {CABLE: (0.001, 0.0, 0.0)}}, {"objects_yaw_deg": {CABLE: 3.0}}])
def test_an_error_of_a_cable_would_tear_it_apart(errors: dict) -> None:
    with pytest.raises(ValueError, match="errors: expected none of 'cable', which is flexible"):
        replace(TASK, errors=ErrorSettings(**errors))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"slot_length": 0.15}, "slot_length: expected at most the 140.0 mm of the cable, found 150.0 mm"),
        ({"success": RouteSuccess(depth=0.024, within=0.005)}, "success.depth: .* 24.0 mm below the rim"),
        ({"success": RouteSuccess(depth=0.5, within=0.005)}, "success.depth: .* 500.0 mm below the rim"),
        ({"rim": (0.0, 0.03, 0.045)}, "say where the slot is by 'rim'"),
        ({"objects": TASK.objects | {CABLE: replace(TASK.objects[CABLE], size=(0.0102, 0.14))}}, "a cable of 10.2 mm"),
    ],
)
def test_a_cable_that_does_not_fit_is_refused(changes: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(TASK, **changes)


def test_a_cable_that_just_fits_is_taken() -> None:
    thick = replace(TASK.objects[CABLE], size=(0.0098, 0.14))
    deep = RouteSuccess(depth=0.045 - 0.02 - 0.0049 - 1e-4, within=0.005)
    assert replace(TASK, objects=TASK.objects | {CABLE: thick}, success=deep).success == deep
