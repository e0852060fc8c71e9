# SPDX-License-Identifier: Apache-2.0
"""Positions of grippers, as the robot servers of SERL and HIL-SERL mean them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serl_drivers.serl_server.gripper import GripperDialect

WIDTHS = st.floats(0.0, 0.085)


def serl_robotiq_state(command):
    """`gripper_pos = msg.gPO`, and the gripper goes to `rPR`."""
    return command


def hil_serl_robotiq_state(command):
    """`gripper_pos = 1 - msg.gPO / 255`."""
    return 1 - command / 255


@given(WIDTHS)
@pytest.mark.parametrize(("server", "state_of"), [("serl", serl_robotiq_state), ("hil_serl", hil_serl_robotiq_state)])
def test_a_robotiq_that_went_where_it_was_told_says_the_width_that_was_asked_for(server, state_of, width):
    dialect = GripperDialect(server, "robotiq", 0.085)
    command = dialect.command(width)
    assert command.path == "/move_gripper" and command.values is not None
    assert dialect.width(state_of(command.values["gripper_pos"])) == pytest.approx(width, abs=0.085 / 255 / 2 + 1e-9)


@given(st.floats(-1.0, 1.0))
def test_a_width_beyond_the_ends_is_one_of_the_ends(width):
    values = GripperDialect("serl", "robotiq", 0.085).command(width).values
    assert values is not None and 0 <= values["gripper_pos"] <= 255


@pytest.mark.parametrize(("server", "said"), [("serl", 0.08), ("hil_serl", 1.0)])
def test_a_franka_hand_says_its_opening_in_metres_or_in_parts_of_eight_centimetres(server, said):
    dialect = GripperDialect(server, "franka", 0.08)
    assert dialect.width(said) == pytest.approx(0.08)
    assert dialect.width(0.0) == 0.0


@given(WIDTHS)
def test_a_franka_hand_grasps_below_the_middle_and_opens_above(width):
    command = GripperDialect("hil_serl", "franka", 0.08).command(width)
    assert command.path == ("/open_gripper" if width >= 0.04 else "/close_gripper")
    assert command.values is None
