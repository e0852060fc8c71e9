# SPDX-License-Identifier: Apache-2.0
"""A peg that does not fit its hole is refused when the task is made; one that fits never is."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_config.schema import ConfigError
from serl_robots.model.pose import Pose, quaternion_exp
from serl_tasks.kinds.insert import PEG, SOCKET, Insert
from serl_tasks.objects.fitting import fits, free_width, inside, places_around, points_of
from serl_tasks.objects.solid import Solid

from serl_config import resources
from serl_tasks import get_task

TASK = get_task("insert_peg")
CONNECTOR = get_task("insert_connector")
HOLE = 0.025  # [m], as the file says


def with_peg(task: Insert, **changes: object) -> Insert:
    return replace(task, objects={**task.objects, PEG: replace(task.objects[PEG], **changes)})


@given(st.floats(0.005, 0.06), st.floats(0.005, 0.06))
@settings(max_examples=30)
def test_a_square_peg_fits_where_it_is_thinner_than_its_hole(x: float, y: float) -> None:
    room = HOLE - max(x, y)
    if room > 1e-4:
        assert with_peg(TASK, size=(x, y, 0.06)).objects[PEG].size == (x, y, 0.06)
    elif room < -1e-4:
        with pytest.raises(ValueError, match=rf"{1e3 * x:.1f} x {1e3 * y:.1f} x 60.0 mm for a hole of 25.0 x 25.0 mm"):
            with_peg(TASK, size=(x, y, 0.06))


@pytest.mark.parametrize(("diameter", "does_fit"), [(0.0248, True), (0.0255, False)])
@pytest.mark.parametrize("shape", ["cylinder", "capsule"])
def test_a_round_peg_fits_as_well(shape: str, diameter: float, does_fit: bool) -> None:
    if does_fit:
        with_peg(TASK, shape=shape, size=(diameter, 0.06))
    else:
        with pytest.raises(ValueError, match="expected a peg that fits the hole"):
            with_peg(TASK, shape=shape, size=(diameter, 0.06))


def test_a_peg_that_can_be_turned_may_fit_when_it_is() -> None:
    x, y, z = CONNECTOR.objects[PEG].size
    with_peg(CONNECTOR, size=(y, x, z))
    with pytest.raises(ValueError, match="expected a peg that fits the hole"):
        with_peg(CONNECTOR, size=(x, x, z))


def test_a_peg_that_has_to_go_deeper_than_its_hole_is_refused() -> None:
    parts = (*TASK.objects[SOCKET].parts, Solid(size=(0.1, 0.1, 0.014), position=(0.0, 0.0, 0.007)))
    with pytest.raises(ValueError, match=r"success\.depth less"):
        replace(TASK, objects={**TASK.objects, SOCKET: replace(TASK.objects[SOCKET], parts=parts)})


def test_the_error_names_the_file_and_what_to_do(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "config" / "tasks"
    folder.mkdir(parents=True)
    text = resources.find("config/tasks/insert_peg.yaml").read_text()
    thick = text.replace("name: insert_peg", "name: thick_peg").replace("[0.024, 0.024, 0.06]", "[0.03, 0.024, 0.06]")
    (folder / "thick_peg.yaml").write_text(thick)
    monkeypatch.setenv("SERL_SHARE", str(tmp_path))
    with pytest.raises(ConfigError) as raised:
        get_task("thick_peg")
    said = str(raised.value)
    assert "\n" not in said
    for part in (
        "thick_peg.yaml",
        "found one of 30.0 x 24.0 x 60.0 mm for a hole of 25.0 x 25.0 mm",
        "make objects.peg",
    ):
        assert part in said


SOLIDS = [
    Solid(size=(0.04, 0.03, 0.05), position=(0.01, 0.0, 0.02), rotation_deg=(20.0, 0.0, 70.0)),
    Solid(shape="cylinder", size=(0.04, 0.05), rotation_deg=(0.0, 50.0, 0.0)),
    Solid(shape="capsule", size=(0.03, 0.06), position=(0.0, -0.02, 0.0)),
    Solid(shape="sphere", size=(0.04,), position=(0.0, 0.0, 0.1)),
]


@pytest.mark.parametrize("solid", SOLIDS, ids=lambda solid: solid.shape)
def test_points_of_a_surface_are_where_the_inside_begins(solid: Solid) -> None:
    points, centre = points_of([solid]), np.array(solid.position)
    inwards, outwards = centre + 0.99 * (points - centre), centre + 1.01 * (points - centre)
    assert inside([solid], inwards).all()
    assert not inside([solid], points).any()
    assert not inside([solid], outwards).any()


def test_a_slot_is_as_wide_as_it_is() -> None:
    walls = [Solid(size=(0.1, 0.02, 0.03), position=(0.0, y, 0.0)) for y in (-0.02, 0.025)]
    assert free_width(walls, np.zeros(3), 1) == pytest.approx(0.025, abs=1e-4)
    assert free_width(walls, np.zeros(3), 0) == pytest.approx(1.0)
    thin, turned = Solid(size=(0.2, 0.024, 0.01)), Pose((0.0, 0.0, 0.0), quaternion_exp((0.0, 0.0, math.pi / 2)))
    assert not fits([thin], walls, [Pose.identity()])
    assert fits([thin], walls, places_around(Pose.identity(), 0.005, [0.0])), "the middle of the slot is beside"
    assert not fits([thin], walls, [turned])
