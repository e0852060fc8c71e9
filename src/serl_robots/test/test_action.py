# SPDX-License-Identifier: Apache-2.0
"""What an action consists of: blocks, arms, units."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serl_robots.control.action import ActionError, ActionSpec, BlockKind

TWO_ARMS = ActionSpec(
    names=("left/dx", "left/dy", "left/dz", "left/gripper", "right/j1", "right/wrist", "right/gripper"),
    scale=(0.02, 0.02, 0.02, 0.08, 0.1, 0.2, 0.05),
    joints=("wrist",),
)


def test_blocks_say_kind_components_scale_and_unit() -> None:
    spec = ActionSpec(names=("gripper", "dz", "dx", "dy"), scale=(0.08, 0.03, 0.01, 0.02))
    translation, gripper = spec.blocks
    assert (translation.kind, translation.names) == (BlockKind.TRANSLATION, ("dx", "dy", "dz"))
    assert translation.scaled == spec.translation == ((2, 0.01), (3, 0.02), (1, 0.03))
    assert gripper.scaled == (spec.gripper,) == ((0, 0.08),)
    assert spec.units == ("m", "m", "m", "m")
    assert spec.arms == ("",)
    low, high = spec.bounds
    assert low.tolist() == [-1.0] * 4 and high.tolist() == [1.0] * 4


def test_joints_are_named_by_number_or_as_the_robot_names_them() -> None:
    spec = ActionSpec(names=("j2", "elbow", "gripper"), scale=(0.1, 0.2, 0.08), joints=("elbow",))
    block = spec.joint_block
    assert block is not None
    assert (block.names, block.indices, block.scale) == (("j2", "elbow"), (0, 1), (0.1, 0.2))
    assert spec.units == ("rad", "rad", "m")
    assert not spec.translation and not spec.rotation


def test_two_arms_are_two_sets_of_blocks_side_by_side() -> None:
    assert TWO_ARMS.arms == ("left", "right")
    assert [(block.arm, block.kind.value) for block in TWO_ARMS.blocks] == [
        ("left", "translation"),
        ("left", "gripper"),
        ("right", "joints"),
        ("right", "gripper"),
    ]
    left, right = TWO_ARMS.of_arm("left"), TWO_ARMS.of_arm("right")
    assert left == ActionSpec(names=("dx", "dy", "dz", "gripper"), scale=(0.02, 0.02, 0.02, 0.08))
    assert right == ActionSpec(names=("j1", "wrist", "gripper"), scale=(0.1, 0.2, 0.05), joints=("wrist",))
    with pytest.raises(KeyError, match="'left', 'right', found 'middle'"):
        TWO_ARMS.of_arm("middle")


@given(st.lists(st.floats(-1.0, 1.0, width=32), min_size=7, max_size=7))
def test_an_action_of_two_arms_is_split_and_joined_without_loss(values: list[float]) -> None:
    action = np.array(values, np.float32)
    parts = TWO_ARMS.split(action)
    assert {arm: len(part) for arm, part in parts.items()} == {"left": 4, "right": 3}
    for arm, part in parts.items():
        TWO_ARMS.of_arm(arm).check(part)
    assert np.array_equal(TWO_ARMS.join(parts), action)


def test_rest_keeps_each_grip() -> None:
    rest = TWO_ARMS.rest({"left": 0.08, "right": 0.0})
    assert rest.tolist() == [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, -1.0]


@pytest.mark.parametrize(
    ("names", "joints", "said"),
    [
        (("dx", "dy", "dz", "j1"), (), "a tool pose or joints of an arm, not both"),
        (("elbow",), (), "found 'elbow'"),
        (("j1",), ("elbow",), "joints: expected some of the names j1, found 'elbow'"),
        (("j0",), (), "found 'j0'"),
        (("j1", "j1"), (), "each once"),
    ],
)
def test_blocks_that_make_no_sense_are_refused(names: tuple[str, ...], joints: tuple[str, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ActionSpec(names=names, scale=(0.1,) * len(names), joints=joints)


def test_a_value_that_is_no_action_is_named_with_its_arm() -> None:
    with pytest.raises(ActionError, match=r"expected right/wrist in \[-1, 1\], found 2"):
        TWO_ARMS.check([0, 0, 0, 0, 0, 2, 0])
