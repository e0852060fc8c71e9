# SPDX-License-Identifier: Apache-2.0
"""What objects consist of and where they may be. Geometry is checked against points that are drawn from the solids."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from serl_config.schema import ConfigError, build
from serl_robots.model.pose import Pose
from serl_tasks.objects.scene_object import SceneObject
from serl_tasks.objects.solid import Solid

lengths = st.floats(0.01, 0.2)
places = st.tuples(*[st.floats(-0.2, 0.2)] * 3)
turns = st.tuples(*[st.floats(-180.0, 180.0)] * 3)


@st.composite
def solids(draw: Any) -> Solid:
    shape = draw(st.sampled_from(["box", "cylinder", "capsule", "sphere"]))
    size = {
        "box": st.tuples(lengths, lengths, lengths),
        "sphere": st.tuples(lengths),
    }.get(shape, st.tuples(lengths, lengths))
    values = draw(size)
    if shape == "capsule":
        values = (min(values), max(values))
    return Solid(shape=shape, size=values, position=draw(places), rotation_deg=draw(turns))


def inside(solid: Solid, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of the points (n, 3), in the solid's own axes, lie in it: by its definition, not by its extents."""
    x, y, z = np.abs(points).T
    if solid.shape == "box":
        a, b, c = solid.size
        return (2 * x <= a) & (2 * y <= b) & (2 * z <= c)
    radius = 0.5 * solid.size[0]
    if solid.shape == "sphere":
        return np.hypot(np.hypot(x, y), z) <= radius
    if solid.shape == "cylinder":
        return (np.hypot(x, y) <= radius) & (2 * z <= solid.size[1])
    beyond = np.maximum(z - (0.5 * solid.size[1] - radius), 0.0)
    return np.hypot(np.hypot(x, y), beyond) <= radius


def drawn(solid: Solid, count: int) -> tuple[NDArray[np.float64], float]:
    """Points of the solid in its own axes, and the volume that their share of a box around them tells."""
    rng = np.random.default_rng(0)
    half = 0.5 * max(solid.size)
    points = rng.uniform(-half, half, (count, 3))
    found = points[inside(solid, points)]
    return found, (2 * half) ** 3 * len(found) / count


@given(solids())
def test_no_point_of_a_solid_is_lower_than_the_lowest_and_one_is_nearly_there(solid: Solid) -> None:
    found, _ = drawn(solid, 20_000)
    heights = found @ solid.pose.rotation_matrix()[2] + solid.position[2]
    assert heights.min(initial=np.inf) >= solid.lowest - 1e-9
    # The hull of what was drawn misses little, though a thin solid has few points in its box.
    if len(found) > 1000:
        assert heights.min() <= solid.lowest + 0.3 * max(solid.size)
    lower, upper = -np.array(solid.half_extents), np.array(solid.half_extents)
    assert (found >= lower - 1e-9).all()
    assert (found <= upper + 1e-9).all()


@pytest.mark.parametrize(
    ("solid", "lowest"),
    [
        (Solid(size=(0.1, 0.2, 0.3), position=(0, 0, 1)), 0.85),
        (Solid(size=(0.1, 0.2, 0.3), rotation_deg=(90, 0, 0)), -0.1),
        (Solid(size=(0.2, 0.2, 0.2), rotation_deg=(45, 0, 0)), -0.1 * np.sqrt(2)),
        (Solid(shape="cylinder", size=(0.1, 0.4), rotation_deg=(90, 0, 0)), -0.05),
        (Solid(shape="cylinder", size=(0.2, 0.2), rotation_deg=(0, 45, 0)), -0.1 * np.sqrt(2)),
        (Solid(shape="capsule", size=(0.1, 0.4)), -0.2),
        (Solid(shape="capsule", size=(0.1, 0.4), rotation_deg=(0, 90, 0)), -0.05),
        (Solid(shape="sphere", size=(0.1,), rotation_deg=(10, 20, 30)), -0.05),
    ],
)
def test_the_lowest_points_of_plain_cases(solid: Solid, lowest: float) -> None:
    assert solid.lowest == pytest.approx(lowest)


@pytest.mark.parametrize("shape", ["box", "cylinder", "capsule", "sphere"])
def test_a_volume_is_the_share_of_points_that_fall_into_it(shape: Any) -> None:
    size = {"box": (0.1, 0.2, 0.3), "sphere": (0.2,)}.get(shape, (0.1, 0.25))
    solid = Solid(shape=shape, size=size)
    assert solid.volume == pytest.approx(drawn(solid, 400_000)[1], rel=0.03)


FREE = {"size": [0.04, 0.04, 0.04], "mass": 0.1, "colour": [1, 0, 0], "lower": [0.4, -0.1], "upper": [0.6, 0.1]}
HELD = {
    "size": [0.02, 0.02, 0.1],
    "mass": 0.1,
    "colour": [1, 0, 0],
    "mount": "held",
    "in_tool": {"position": [0, 0, 0]},
}


def made(base: dict[str, Any], **changes: Any) -> SceneObject:
    return build(SceneObject, {key: value for key, value in (base | changes).items() if value != "gone"}, "a.yaml")


@given(st.integers(0, 2**32), st.sampled_from(["free", "fixed"]), st.floats(0.0, 180.0))
def test_an_object_starts_upright_in_its_rectangle_on_the_table(seed: int, mount: str, yaw: float) -> None:
    item = made(FREE, mount=mount, yaw_deg=yaw)
    pose = item.sample(np.random.default_rng(seed))
    x, y, z = pose.position
    assert 0.4 <= x <= 0.6
    assert -0.1 <= y <= 0.1
    assert z == 0.02
    assert pose.rotation_matrix()[2, 2] == pytest.approx(1.0)
    assert pose.angle(Pose.identity()) <= np.deg2rad(yaw) + 1e-9
    assert item.middle == pytest.approx((0.5, 0.0, 0.02))


def test_joined_solids_stand_on_the_lowest_of_them_and_share_the_mass() -> None:
    top = {"size": [0.1, 0.1, 0.02], "position": [0, 0, 0.05]}
    leg = {"shape": "cylinder", "size": [0.02, 0.06], "position": [0, 0, 0.01]}
    table = made(FREE, size="gone", parts=[top, leg])
    assert table.rest_height == pytest.approx(0.02)
    assert table.volume == pytest.approx(0.1 * 0.1 * 0.02 + np.pi * 0.01**2 * 0.06)
    assert not table.is_box
    assert made(FREE, height=0.3).sample(np.random.default_rng(0)).position[2] == 0.3


@pytest.mark.parametrize(
    ("base", "changes", "said"),
    [
        (FREE, {"size": [0.1, 0.1]}, r"size: expected 3 positive lengths \(x, y, z\) of a box, found \[0.1, 0.1\]"),
        (FREE, {"shape": "sphere", "size": [0.1, 0.2]}, "size: expected 1 positive lengths"),
        (FREE, {"shape": "capsule", "size": [0.2, 0.1]}, "expected a capsule at least as high as thick"),
        (FREE, {"shape": "cone"}, "expected 'box', 'cylinder', 'capsule' or 'sphere', found str 'cone'"),
        (FREE, {"mount": "glued"}, "expected 'free', 'fixed', 'held', 'sliding' or 'hinged', found str 'glued'"),
        (FREE, {"size": "gone"}, "expected either size or parts, found none"),
        (FREE, {"parts": [{"size": [1, 1, 1]}]}, "expected either size or parts, found both"),
        (FREE, {"mass": "gone"}, "mass: expected one, because the object is free"),
        (FREE, {"lower": "gone"}, "expected lower and upper, because the object is free"),
        (FREE, {"lower": [0.7, 0.0]}, "expected lower <= upper"),
        (FREE, {"colour": [2, 0, 0]}, r"colour: expected three numbers in \[0, 1\]"),
        (FREE, {"in_tool": {"position": [0, 0, 0]}}, "in_tool: expected where the object is held if mount is held"),
        (HELD, {"in_tool": "gone"}, "in_tool: expected where the object is held"),
        (HELD, {"height": 0.1}, "expected in_tool alone of an object that is held"),
    ],
)
def test_what_is_no_object_is_refused(base: dict[str, Any], changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        made(base, **changes)


def test_what_is_held_starts_nowhere() -> None:
    with pytest.raises(ValueError, match="starts where the tool does"):
        made(HELD).sample(np.random.default_rng(0))
