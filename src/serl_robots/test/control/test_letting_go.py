# SPDX-License-Identifier: Apache-2.0
"""A person lets go in a demonstration: nobody leads then but what rests, and arm and gripper stay where they are."""

import numpy as np
import pytest
from controller_rig import ACTION, SCALE, Rig
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_robots.control.action import ActionSpec
from serl_robots.control.control_step import Command

JOINTS = ActionSpec(names=(*(f"j{k}" for k in range(1, 8)), "gripper"), scale=(0.2 * SCALE,) * 7 + (0.08,))
WIDTH = 0.03  # of what lies between the fingers [m]


class Demonstration(Rig):
    """A demonstration in lockstep in which an actor rests; fingers that close stop at what lies between them."""

    def __init__(self, action: ActionSpec) -> None:
        self.action, self.steps = action, 0
        super().__init__(lockstep=True, action=action)
        self.episode(1, human_expected=True)

    def take(self, command: Command | None) -> Command | None:
        super().take(command)
        self.width = max(self.width, WIDTH)
        if self.action.joint_block:
            self.tcp = self.kinematics.tcp(self.joints)
        return command

    def step(self, *person: float) -> Command:
        """One control step; without numbers the person does not lead."""
        self.policy(1, self.steps, *self.action.rest(self.controller.gripper_target).tolist())
        self.answer(1, self.steps, *person, active=bool(person))
        self.state()
        self.steps += 1
        return self.commands[-1]


@pytest.mark.parametrize("action", [ACTION, JOINTS], ids=["tool", "joints"])
@given(data=st.data(), idle=st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_arm_and_gripper_stay_where_they_were_commanded(action: ActionSpec, data: st.DataObject, idle: int) -> None:
    rig = Demonstration(action)
    values = st.floats(-1.0, 1.0, width=32)
    led = data.draw(st.lists(st.lists(values, min_size=len(action), max_size=len(action)), min_size=1, max_size=6))
    for person in led:
        last = rig.step(*person)
    resting = [rig.step() for _ in range(idle)]
    assert last.gripper_width == pytest.approx(0.04 * (led[-1][-1] + 1.0), abs=1e-8), "what the person asked for last"
    for command in resting:
        assert command.gripper_width == pytest.approx(last.gripper_width, abs=1e-8)
        assert command.target.distance(last.target) < 1e-9
        if action.joint_block:
            np.testing.assert_allclose(command.joint_positions, last.joint_positions, atol=1e-9)
    again = rig.step(*led[-1])  # taken again: on from there
    assert again.gripper_width == pytest.approx(last.gripper_width, abs=1e-8)


@pytest.mark.parametrize("action", [ACTION, JOINTS], ids=["tool", "joints"])
def test_what_was_gripped_stays_gripped(action: ActionSpec) -> None:
    """Fingers are where the object is, and are commanded to be closed: the command stays, not the place."""
    rig = Demonstration(action)
    for _ in range(3):
        rig.step(*(0.0,) * (len(action) - 1), -1.0)
    assert rig.width == WIDTH
    assert [rig.step().gripper_width for _ in range(30)] == [0.0] * 30
