# SPDX-License-Identifier: Apache-2.0
"""Something else than a command moves the arm: a reset of the world that nobody announced, in every state."""

import numpy as np
import pytest
from controller_rig import FORWARD, PERIOD, Rig, panda
from serl_robots.model.pose import Pose
from serl_robots.safety.source import Source

ELSEWHERE = Pose((0.4, 0.25, 0.4), (1.0, 0.0, 0.0, 0.0))


def put(rig: Rig, place: Pose) -> None:
    """The simulator puts the arm somewhere, a control period later."""
    rig.tcp = place
    for _ in range(1 if rig.lockstep else 3):
        rig.state()


@pytest.mark.parametrize("is_lockstep", [True, False])
@pytest.mark.parametrize("kind", ["pose", "joints"])
def test_a_motion_ends_where_the_world_is_reset_without_an_episode(is_lockstep: bool, kind: str) -> None:
    rig = Rig(lockstep=is_lockstep)
    start = rig.tcp.position
    if kind == "pose":
        rig.move_to_pose(start + np.array([0.1, 0.0, -0.1]), 0.3)
    else:
        rig.move_to_joints(np.array(panda()[0].configuration("home")) + 0.1, 0.2)
    for _ in range(5 if is_lockstep else 50):
        rig.state()
    assert rig.safety.mode == Source.MOVE_TO
    put(rig, ELSEWHERE)
    assert [outcome.termination_reason for outcome in rig.outcomes] == ["preempted"]
    assert "reset" in rig.outcomes[0].message
    before = len(rig.commands)
    for _ in range(20 if is_lockstep else 200):
        rig.state()
    assert all(command.executed is None for command in rig.commands[before:])
    rig.policy(1, 0, *FORWARD)
    assert rig.commands[-1].target.distance(ELSEWHERE) < 0.05, "goes on from where the arm is"


def test_a_short_way_that_no_command_leads_ends_a_motion_in_lockstep_too() -> None:
    rig = Rig(lockstep=True, max_velocity=0.1)
    rig.move_to_pose(rig.tcp.position + np.array([0.1, 0.0, 0.0]), 0.5)
    for _ in range(5):
        rig.state()
    put(rig, Pose(rig.tcp.position + np.array([0.0, 0.08, 0.0]), rig.tcp.quaternion))
    assert [outcome.termination_reason for outcome in rig.outcomes] == ["preempted"]


@pytest.mark.parametrize("is_lockstep", [True, False])
def test_a_policy_goes_on_from_where_the_world_was_put(is_lockstep: bool) -> None:
    rig = Rig(lockstep=is_lockstep)
    rig.policy(1, 0, *FORWARD)
    rig.state() if is_lockstep else rig.states(PERIOD)
    put(rig, ELSEWHERE)
    rig.policy(1, 1, *FORWARD)
    if not is_lockstep:
        rig.states(PERIOD)
    assert rig.commands[-1].target.distance(ELSEWHERE) < 0.05


def test_a_stop_of_a_motion_in_joint_space_brakes_before_the_period_is_over(paced: Rig) -> None:
    paced.move_to_joints(np.array(panda()[0].configuration("home")) + 0.1, 0.3)
    paced.states(0.5)
    while paced.state() is None:
        pass
    last = paced.commands[-1]
    paced.state()
    assert paced.take(paced.controller.on_estop()) is None, "a moving arm brakes with the next period"
    while paced.state() is None:
        pass
    assert 0.86 * PERIOD <= (paced.commands[-1].stamp_ns - last.stamp_ns) * 1e-9 <= 0.91 * PERIOD
