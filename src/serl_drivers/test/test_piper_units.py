# SPDX-License-Identifier: Apache-2.0
"""Counts of the Piper's bus, and back."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serl_drivers.piper import frames, units

ANGLES = st.floats(-math.pi, math.pi)
COUNTS = st.integers(-(2**31), 2**31 - 1)
WHATEVER = st.sampled_from([math.nan, math.inf, -math.inf])


@given(st.lists(ANGLES, min_size=6, max_size=6))
def test_an_angle_comes_back_within_half_a_count(angles):
    counts = units.angle_counts(angles)
    assert counts == pytest.approx([1000.0 * math.degrees(angle) for angle in angles], abs=0.5 + 1e-6)
    assert units.angles(counts) == pytest.approx(angles, abs=math.radians(0.0005) + 1e-12)


@given(st.lists(st.integers(-180_000, 180_000), min_size=1, max_size=6))
def test_a_count_of_an_angle_comes_back_exactly(counts):
    assert units.angle_counts(units.angles(counts)) == counts


@given(st.floats(0.0, 0.1))
def test_an_opening_comes_back_within_half_a_thousandth_of_a_millimetre(width):
    count = units.length_count(width)
    assert count == pytest.approx(1e6 * width, abs=0.5 + 1e-6)
    assert count * units.LENGTH == pytest.approx(width, abs=0.5e-6 + 1e-12)


@given(WHATEVER)
def test_what_is_no_number_never_becomes_a_count(value):
    for convert in (units.length_count, units.torque_count, lambda each: units.angle_counts([0.0, each])):
        with pytest.raises(ValueError, match="finite"):
            convert(value)


def test_known_numbers():
    assert units.angle_counts([math.pi, -math.pi / 2, 0.0]) == [180_000, -90_000, 0]
    assert units.length_count(0.07) == 70_000
    assert units.torque_count(1.0) == 1000


@given(COUNTS, COUNTS)
def test_a_pair_of_counts_is_eight_bytes_with_the_highest_first(first, second):
    data = frames.pair(first, second)
    assert data == first.to_bytes(4, "big", signed=True) + second.to_bytes(4, "big", signed=True)
    assert frames.unpack_pair(data) == (first, second)


@given(st.integers(0, 255))
def test_every_flag_of_a_motor_is_told_by_its_name(value):
    flags = frames.MotorFlags(value)
    assert flags.enabled == bool(value & 64)
    assert len(flags.faults) == (value & ~64).bit_count()
