# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest
from serl_rl.config import Gripper
from serl_rl.policy.grasps import GripperPlace, locate_grippers
from serl_rl.spec import DataError, TransitionSpec

STATE = ["tcp_pose[0]", "gripper_target[0]", "left/gripper_target[0]"]


def spec(names: list[str] | None) -> TransitionSpec:
    meaning: dict[str, Any] = {"state": [{"name": name, "scale": 1.0} for name in names]} if names else {}
    return TransitionSpec({"state": ((3,), "float32")}, 4, meaning=meaning)


def test_a_gripper_is_found_by_the_name_of_its_command():
    grippers = (Gripper(), Gripper(action=0, term="left/gripper_target[0]"))
    assert locate_grippers(spec(STATE), grippers) == (GripperPlace(-1, "state", 1), GripperPlace(0, "state", 2))
    moved = [STATE[1], STATE[0], STATE[2]]
    assert locate_grippers(spec(moved), grippers)[0].index == 0


def test_a_place_that_is_given_needs_no_name():
    assert locate_grippers(spec(None), (Gripper(index=2),)) == (GripperPlace(-1, "state", 2),)
    assert locate_grippers(spec(STATE), (Gripper(index=2),))[0].index == 2


@pytest.mark.parametrize(
    ("names", "gripper", "message"),
    [
        (STATE, Gripper(term="width"), r"gripper term, in state: expected tcp_pose\[0\] or .*found 'width'"),
        (None, Gripper(), "gripper term, in state: expected an index instead, since nothing names the values"),
        (["gripper_target[0]"] * 3, Gripper(), "gripper term"),
        (STATE, Gripper(entry="camera", index=0), "gripper entry: expected state, found 'camera'"),
    ],
)
def test_a_command_that_is_not_there_or_not_clear_is_refused(names, gripper, message):
    with pytest.raises(DataError, match=message):
        locate_grippers(spec(names), (gripper,))
