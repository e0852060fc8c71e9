# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serl_config.schema import ConfigError, build
from serl_robots.model.gripper import Gripper, JawMap

steps = st.lists(st.floats(1e-3, 0.5), min_size=1, max_size=8)


@st.composite
def jaws(draw: st.DrawFn) -> JawMap:
    """Any monotone map: angles from anywhere, widths that grow or fall."""
    angle_steps = draw(steps)
    width_steps = draw(st.lists(st.floats(1e-3, 0.05), min_size=len(angle_steps), max_size=len(angle_steps)))
    angles = draw(st.floats(-2.0, 1.0)) + np.cumsum([0.0, *angle_steps])
    widths = np.cumsum([0.0, *width_steps])
    if draw(st.booleans()):
        widths = widths[::-1]
    return JawMap(angles=tuple(angles.tolist()), widths=tuple(widths.tolist()))


@given(jaw=jaws(), share=st.floats(0.0, 1.0))
def test_a_width_has_one_angle_and_the_angle_this_width(jaw: JawMap, share: float) -> None:
    width = min(jaw.widths) + share * (max(jaw.widths) - min(jaw.widths))
    angle = jaw.angle(width)
    assert jaw.angles[0] - 1e-9 <= angle <= jaw.angles[-1] + 1e-9
    assert jaw.width(angle) == pytest.approx(width, abs=1e-9)


@given(jaw=jaws(), share=st.floats(0.0, 1.0))
def test_widths_lie_on_straight_lines_between_the_points(jaw: JawMap, share: float) -> None:
    angle = jaw.angles[0] + share * (jaw.angles[-1] - jaw.angles[0])
    assert jaw.width(angle) == pytest.approx(float(np.interp(angle, jaw.angles, jaw.widths)), abs=1e-9)
    for point, width in zip(jaw.angles, jaw.widths, strict=True):
        assert jaw.width(point) == pytest.approx(width, abs=1e-12)


@given(jaw=jaws(), share=st.floats(-0.5, 1.5), speed=st.floats(-2.0, 2.0))
def test_the_speed_of_a_jaw_is_the_change_of_its_width(jaw: JawMap, share: float, speed: float) -> None:
    gripper = Gripper(joints=("jaw",), min_width=0.0, max_width=max(jaw.widths), jaw=jaw)
    angle = jaw.angles[0] + share * (jaw.angles[-1] - jaw.angles[0])
    if min(abs(angle - point) for point in jaw.angles) < 1e-5:
        return  # at a point the line changes
    step = 1e-6
    change = (jaw.width(angle + step) - jaw.width(angle - step)) / (2 * step)
    assert gripper.finger_speed([angle], [speed]) == pytest.approx(abs(change * speed), rel=1e-4, abs=1e-7)


def test_a_jaw_past_its_stop_has_a_width_on_the_last_line() -> None:
    jaw = JawMap(angles=(0.0, 0.5, 1.0), widths=(0.05, 0.02, 0.0))
    assert jaw.width(1.1) == pytest.approx(-0.004)
    assert jaw.width(-0.1) == pytest.approx(0.056)


@given(positions=st.lists(st.floats(0.0, 0.1), min_size=1, max_size=4))
def test_the_width_of_parallel_fingers_is_the_sum_of_their_positions(positions: list[float]) -> None:
    gripper = Gripper(joints=tuple(f"f{i}" for i in range(len(positions))), min_width=0.0, max_width=0.4)
    width = gripper.width(positions)
    assert width == pytest.approx(math.fsum(positions))
    assert gripper.position(width) == pytest.approx(float(np.mean(positions)))
    assert gripper.finger_speed(positions, [-value for value in positions]) == max(positions)


def test_a_width_that_cannot_be_becomes_the_nearest_that_can() -> None:
    gripper = Gripper(joints=("a", "b"), min_width=0.01, max_width=0.05)
    assert [gripper.within(width) for width in (-1.0, 0.01, 0.03, 0.2)] == [0.01, 0.01, 0.03, 0.05]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"joints": []}, "'joints'"),
        ({"min_width": 0.06}, "min_width below max_width"),
        ({"max_width": -0.1}, "'max_width'"),
        ({"max_widht": 0.1}, "unknown key 'max_widht'; did you mean 'max_width'"),
        ({"jaw": {"angles": [0.0, 1.0], "widths": [0.0, 0.06]}}, "expected one hinge beside 'jaw', found a, b"),
        ({"joints": ["a"], "jaw": {"angles": [0.0, 1.0], "widths": [0.0, 0.04]}}, "0.0 to 0.04 m that 'jaw' tells"),
        ({"joints": ["a"], "jaw": {"angles": [1.0, 0.0], "widths": [0.0, 0.06]}}, "angles: expected growing values"),
        ({"joints": ["a"], "jaw": {"angles": [0.0, 1.0], "widths": [0.06]}}, "one for each of 2 angles, found 1"),
        (
            {"joints": ["a"], "jaw": {"angles": [0.0, 1.0, 2.0], "widths": [0.0, 0.06, 0.05]}},
            "grow, or that fall, all the way",
        ),
        ({"joints": ["a"], "jaw": {"angles": [0.0, 1.0], "widths": [0.06, 0.06]}}, "all the way"),
    ],
)
def test_a_gripper_that_is_none_is_refused(changed: dict[str, object], said: str) -> None:
    right = {"joints": ["a", "b"], "min_width": 0.0, "max_width": 0.05}
    with pytest.raises(ConfigError, match=said):
        build(Gripper, right | changed, "gripper.yaml")
