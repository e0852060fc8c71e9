# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
from denavit_hartenberg import chain, craig
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.robot import load_robot

# Modified parameters of the manufacturer's SDK with the joints' offset of 2 degrees: a [m], d [m], alpha [rad].
PIPER = [
    (0.0, 0.123, 0.0),
    (0.0, 0.0, -math.pi / 2),
    (0.28503, 0.0, 0.0),
    (-0.02198, 0.25075, math.pi / 2),
    (0.0, 0.0, -math.pi / 2),
    (0.0, 0.091, math.pi / 2),
]
OFFSETS = np.radians([0.0, -172.22, -102.78, 0.0, 0.0, 0.0])
TOOL = 0.1358 - 0.010  # from the flange to 10 mm before the finger tips


@pytest.fixture(scope="module")
def kinematics() -> Kinematics:
    return Kinematics(load_robot("piper"))


@settings(max_examples=100, deadline=None)
@given(share=st.tuples(*[st.floats(0.0, 1.0)] * 6))
def test_the_tool_is_where_the_parameters_of_the_sdk_put_it(kinematics: Kinematics, share: tuple[float, ...]) -> None:
    q = kinematics.lower + np.array(share) * (kinematics.upper - kinematics.lower)
    expected = chain(PIPER, q + OFFSETS) @ craig(0.0, TOOL, 0.0, 0.0)
    assert np.allclose(kinematics.tcp(q).matrix(), expected, rtol=0.0, atol=1e-9)


def test_the_flange_is_where_the_manual_has_it_at_zero(kinematics: Kinematics) -> None:
    """56.128 mm before the base and 213.266 mm high, pointing 5 degrees up: the SDK's pose."""
    tcp = kinematics.tcp(np.zeros(6))
    flange = tcp.position - TOOL * tcp.rotation_matrix()[:, 2]
    assert flange == pytest.approx([0.056128, 0.0, 0.213266], abs=1e-5)
    assert tcp.rotation_matrix()[:, 2] == pytest.approx(
        [math.sin(math.radians(85)), 0.0, math.cos(math.radians(85))], abs=1e-6
    )


def test_limits_are_those_of_the_sdk(kinematics: Kinematics) -> None:
    assert np.rad2deg(kinematics.lower) == pytest.approx([-150, 0, -170, -100, -70, -120])
    assert np.rad2deg(kinematics.upper) == pytest.approx([150, 180, 0, 100, 70, 120])
