# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from denavit_hartenberg import franka_tool
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.robot import load_robot


@pytest.fixture(scope="module")
def kinematics() -> Kinematics:
    return Kinematics(load_robot("fr3"))


@settings(max_examples=200, deadline=None)
@given(share=st.tuples(*[st.floats(0.0, 1.0)] * 7))
def test_the_tool_is_where_the_parameters_of_the_data_sheet_put_it(
    kinematics: Kinematics, share: tuple[float, ...]
) -> None:
    q = kinematics.lower + np.array(share) * (kinematics.upper - kinematics.lower)
    assert np.allclose(kinematics.tcp(q).matrix(), franka_tool(q), rtol=0.0, atol=1e-9)


def test_limits_are_those_of_the_research_3_and_not_of_the_panda(kinematics: Kinematics) -> None:
    lower = [-157.2, -102.2, -166.2, -174.3, -160.8, 31.2, -172.8]  # of the data sheet [deg]
    upper = [157.2, 102.2, 166.2, -8.7, 160.8, 258.8, 172.8]
    assert np.rad2deg(kinematics.lower) == pytest.approx(lower, abs=0.1)
    assert np.rad2deg(kinematics.upper) == pytest.approx(upper, abs=0.1)
    assert kinematics.velocity == pytest.approx([2.62] * 4 + [5.26, 4.18, 5.26])
