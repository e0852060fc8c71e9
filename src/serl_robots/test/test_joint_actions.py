# SPDX-License-Identifier: Apache-2.0
"""Policies and persons that move joints: led, limited, held and handed over as those that move the tool are."""

from itertools import pairwise

import numpy as np
import pytest
from controller_rig import LIMITS, PERIOD, Rig, panda
from serl_robots.benchmarks.storm import solve_joints
from serl_robots.control.action import ActionSpec
from serl_robots.control.arm_controller import ArmController
from serl_robots.control.arm_task import ArmTask
from serl_robots.control.control_step import Command
from serl_robots.safety.limits import SafetyLimits
from serl_robots.safety.source import Source

SCALE = 0.02
NAMES = tuple(f"j{k}" for k in range(1, 8))
ACTION = ActionSpec(names=(*NAMES, "gripper"), scale=(SCALE,) * 7 + (0.08,))
TURN = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


class JointRig(Rig):
    """An arm whose tool is where its joints lead it."""

    def __init__(self, *, lockstep: bool, **limits: float) -> None:
        super().__init__(lockstep=lockstep, action=ACTION, **limits)

    def state(self, seconds: float | None = None) -> Command | None:
        if self.commands and self.commands[-1].joint_positions is None:
            self.joints = solve_joints(self.kinematics, self.joints, self.tcp)
        self.tcp = self.kinematics.tcp(self.joints)
        return super().state(seconds)

    def led(self) -> np.ndarray:
        """Joint positions of every command, float64 (k, 7); each command has some."""
        assert all(command.joint_positions is not None for command in self.commands)
        return np.array([command.joint_positions for command in self.commands])


@pytest.fixture(params=["lockstep", "paced"])
def rig(request: pytest.FixtureRequest) -> JointRig:
    return JointRig(lockstep=request.param == "lockstep")


def test_a_policy_leads_the_joints_and_is_told_what_was_executed(rig: JointRig) -> None:
    start = rig.joints
    for k in range(5):
        command = rig.policy(1, k, *TURN)
        assert command is not None and command.source == Source.POLICY
        assert command.executed is not None and np.array_equal(command.executed, np.array(TURN, np.float32))
        assert command.limits == ()
        assert command.target.distance(rig.kinematics.tcp(command.joint_positions)) < 1e-12
        rig.state(PERIOD)
    assert rig.led()[:, 0] == pytest.approx(start[0] + SCALE * np.arange(1, 6))
    assert np.array_equal(rig.led()[:, 1:], np.tile(start[1:], (5, 1)))


def test_deltas_add_up_on_the_command_and_not_on_what_lags_behind(rig: JointRig) -> None:
    start = rig.joints
    rig.policy(1, 0, *TURN)
    rig.blocked = True
    for k in range(1, 4):
        rig.state(PERIOD)
        rig.policy(1, k, *TURN)
    assert rig.led()[-1][0] == pytest.approx(start[0] + 4 * SCALE)


def test_a_silent_policy_leaves_joints_that_brake_within_their_limits() -> None:
    rig = JointRig(lockstep=False, joint_acceleration=0.5)
    for k in range(6):
        rig.policy(1, k, *TURN)
        rig.states(PERIOD)
    rig.states(2.0)
    assert rig.commands[-1].source == Source.IDLE
    positions = rig.led()
    assert np.abs(np.diff(positions, 2, axis=0)).max() <= 0.5 * PERIOD**2 + 1e-9
    assert np.array_equal(positions[-1], positions[-2])


def test_the_stop_brakes_joint_actions_and_nothing_moves_until_its_release(rig: JointRig) -> None:
    for k in range(4):
        rig.policy(1, k, *TURN)
        rig.state(PERIOD)
    rig.take(rig.controller.on_estop())
    for k in range(4, 14):
        rig.policy(1, k, *TURN)
        rig.state(PERIOD)
    held = rig.led()[-1]
    assert rig.commands[-1].source == Source.ESTOP
    assert np.array_equal(rig.joints, held)
    rig.controller.reset_estop()
    for k in range(14, 17):
        rig.policy(1, k, *TURN)
        rig.state(PERIOD)
    assert rig.led()[-1][0] == pytest.approx(held[0] + 3 * SCALE, abs=1e-6)


def test_a_person_takes_joints_over_without_a_jump(rig: JointRig) -> None:
    for k in range(3):
        rig.policy(1, k, *TURN)
        rig.state(PERIOD)
    for k in range(3, 6):
        rig.teleop(-1.0, *TURN[1:])
        rig.policy(1, k, *TURN)
        rig.state(PERIOD)
    assert rig.commands[-1].source == Source.HUMAN
    first = rig.led()[:, 0]
    assert np.abs(np.diff(first, 2)).max() <= rig.limits.joint_acceleration * PERIOD**2 + 1e-9
    assert first[-1] < first[2]


def test_after_a_hold_the_sum_starts_where_the_joints_are_measured(rig: JointRig) -> None:
    for k in range(3):
        rig.policy(1, k, *TURN)
        rig.state(PERIOD)
    rig.take(rig.controller.on_estop())
    for _ in range(10):
        rig.state(PERIOD)
    rig.controller.reset_estop()
    rig.joints = rig.joints + np.array([0.0, 0.01, 0.0, 0.0, 0.0, 0.0, 0.0])  # it sags
    rig.state(PERIOD)
    before = rig.joints
    for k in range(3, 8):
        rig.policy(1, k)
        rig.state(PERIOD)
    assert rig.led()[-1] == pytest.approx(before, abs=1e-6)


def test_a_motion_of_the_tool_ends_before_joints_lead_again(rig: JointRig) -> None:
    rig.policy(1, 0, *TURN)
    rig.state(PERIOD)
    rig.move_to_pose(rig.tcp.position + np.array([0.0, 0.01, 0.0]), orientation=rig.tcp.quaternion)
    for _ in range(100):
        if rig.outcomes:
            break
        rig.state(PERIOD)
    assert any(command.joint_positions is None for command in rig.commands), "the tool led"
    for k in range(1, 6):
        rig.policy(1, k, *TURN)
        rig.state(PERIOD)
    assert rig.commands[-1].source == Source.POLICY
    assert rig.commands[-1].joint_positions is not None


def test_named_goals_and_joint_actions_follow_each_other(rig: JointRig) -> None:
    for k in range(3):
        rig.policy(1, k, *TURN)
        rig.state(PERIOD)
    rig.move_to_joints(rig.joints + 0.05)
    goal = rig.joints + 0.05
    for _ in range(200):
        if rig.outcomes:
            break
        rig.state(PERIOD)
    assert rig.outcomes[0].termination_reason == "reached"
    assert rig.joints == pytest.approx(goal, abs=1e-3)
    rig.policy(1, 3, *TURN)
    rig.state(PERIOD)
    positions = rig.led()
    assert max(np.abs(b - a).max() for a, b in pairwise(positions)) <= rig.limits.max_joint_step
    assert np.abs(np.diff(positions, 2, axis=0)).max() <= rig.limits.joint_acceleration * PERIOD**2 + 1e-9
    assert rig.commands[-1].source == Source.POLICY


def test_a_push_against_a_limit_is_named_and_reported_as_executed() -> None:
    rig = JointRig(lockstep=True, workspace_max=(0.7, 0.02, 0.6))
    for k in range(10):
        command = rig.policy(1, k, *TURN)
        rig.state()
    assert command is not None and command.executed is not None
    assert "workspace" in command.limits
    assert abs(command.executed[0]) < 0.2
    assert rig.commands[-1].target.position[1] <= 0.02 + 1e-9


def test_a_controller_is_given_the_action_of_one_arm() -> None:
    robot, kinematics = panda()
    action = ActionSpec(names=("left/j1", "right/j1"), scale=(0.1, 0.1))
    task = ArmTask(name="two", robot="panda", control_period=0.1, action=action, limits=SafetyLimits(**LIMITS))
    with pytest.raises(ValueError, match="each arm has a controller of its own"):
        ArmController(task, robot, kinematics, lockstep=True)


def test_a_stop_before_anything_was_commanded_is_answered_where_the_clock_began_anew(rig: JointRig) -> None:
    rig.stamp_ns = 0
    rig.state(0.01)
    rig.state(0.01)
    rig.controller.on_estop()
    assert rig.controller.safety.estop
    rig.states(2 * PERIOD)
    assert all(np.array_equal(command.joint_positions, rig.joints) for command in rig.commands)
