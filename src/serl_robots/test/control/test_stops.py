# SPDX-License-Identifier: Apache-2.0
"""E-stop and fault: the arm brakes, stays where it is and says why, until somebody releases it."""

import numpy as np
import pytest
from controller_rig import BACK, FORWARD, PERIOD, SCALE, Rig
from serl_robots.control.move_to import MoveRejected
from serl_robots.model.pose import Pose
from serl_robots.safety.source import Source


def test_the_stop_holds_at_once_and_until_it_is_released(paced: Rig) -> None:
    paced.policy(1, 0, *FORWARD)
    target = paced.commands[-1].target
    paced.state()
    hold = paced.take(paced.controller.on_estop())
    assert hold is not None and hold.target == target and hold.executed is None
    assert paced.safety.estop and paced.safety.mode == Source.ESTOP
    paced.states(1.0)

    paced.blocked = True
    paced.tcp = Pose(target.position - [0.05, 0.0, 0.0], target.quaternion)  # pushed away by a person
    for k in range(1, 5):
        paced.teleop(*BACK)
        paced.policy(1, k, *FORWARD)
        paced.states(PERIOD)
    assert {command.source for command in paced.commands[1:]} == {Source.ESTOP}
    assert all(command.target == target for command in paced.commands[1:])
    answers = [command for command in paced.commands if command.limits == ("estop",)]
    assert len(answers) == 4
    assert all(command.executed is not None and not command.executed[:3].any() for command in answers)
    assert "e-stop" in paced.safety.reason

    paced.controller.reset_estop()
    assert not paced.safety.estop and paced.safety.reason == ""
    paced.now += 1.0  # the person's message is old by then
    paced.states(PERIOD)
    paced.policy(1, 5, *FORWARD)
    assert paced.x == pytest.approx(paced.tcp.position[0] + SCALE), "no jump back to the old target"


def test_a_stop_lets_go_of_what_the_tool_pushes_against(paced: Rig) -> None:
    paced.blocked = True
    for k in range(3):
        paced.policy(1, k, *FORWARD)
        paced.states(PERIOD)
    paced.take(paced.controller.on_estop())
    paced.states(2.0)
    assert paced.commands[-1].target.distance(paced.tcp) < 1e-9
    assert paced.states(1.0) == []


@pytest.mark.parametrize("is_lockstep", [True, False])
def test_a_stop_in_mid_motion_brakes_within_the_limits(is_lockstep: bool) -> None:
    rig = Rig(lockstep=is_lockstep, max_acceleration=0.5)
    for k in range(6):
        rig.policy(1, k, *FORWARD)
        rig.state() if is_lockstep else rig.states(PERIOD)
    speed = (rig.commands[-1].target.position[0] - rig.commands[-2].target.position[0]) / PERIOD
    assert speed > 0.1
    rig.take(rig.controller.on_estop())
    for k in range(6, 20):
        rig.policy(1, k, *FORWARD)
        rig.state() if is_lockstep else rig.states(PERIOD)
    x = np.array([command.target.position[0] for command in rig.commands])
    assert np.abs(np.diff(x, 2)).max() <= 0.5 * PERIOD**2 + 1e-9
    assert x[-1] == x[-2] and x[-1] > x[5] + 0.01, "it does not stand at once"


def test_a_fault_stops_as_the_e_stop_does_and_is_released_as_it(paced: Rig) -> None:
    paced.policy(1, 0, *FORWARD)
    hold = paced.take(paced.controller.on_fault("internal error (test)"))
    assert hold is not None and hold.target == paced.commands[0].target
    assert paced.safety.estop and paced.safety.key == "fault"
    assert paced.safety.reason.startswith("internal error (test)")
    assert paced.controller.on_estop() is None and paced.safety.key == "fault"
    paced.states(2 * PERIOD)
    assert paced.policy(1, 1, *FORWARD) is not None
    assert paced.commands[-1].limits == ("fault",)
    paced.controller.reset_estop()
    paced.states(2 * PERIOD)
    paced.policy(1, 2, *FORWARD)
    assert paced.commands[-1].source == Source.POLICY


def test_a_second_stop_changes_nothing(paced: Rig) -> None:
    paced.controller.on_estop()
    assert paced.controller.on_estop() is None
    assert paced.safety.counts["estop"] == 1


def test_stops_and_releases_by_the_hundred_keep_nobody_waiting_afterwards(paced: Rig) -> None:
    paced.policy(1, 0, *FORWARD)
    paced.states(PERIOD)
    for _ in range(300):
        paced.take(paced.controller.on_estop())
        paced.controller.reset_estop()
        paced.state()
    paced.policy(1, 1, *FORWARD)
    assert [command.source for command in paced.states(1.5 * PERIOD)] == [Source.POLICY]


def test_a_stop_before_anything_is_measured_holds_as_soon_as_it_is() -> None:
    rig = Rig(lockstep=False, start=False)
    assert rig.take(rig.controller.on_estop()) is None
    hold = rig.state()
    assert hold is not None and hold.target == rig.tcp
    assert rig.states(1.0) == []


def test_in_lockstep_a_stopped_arm_still_answers_steps_so_that_the_graph_goes_on(lockstep: Rig) -> None:
    lockstep.policy(1, 0, *FORWARD)
    lockstep.state()
    assert lockstep.take(lockstep.controller.on_estop()) is None, "the world stands still until a step is asked for"
    for k in range(1, 4):
        command = lockstep.policy(1, k, *FORWARD)
        assert command is not None and command.source == Source.ESTOP
        lockstep.state()


def test_a_stop_answers_the_step_that_waited_for_a_person(lockstep: Rig) -> None:
    lockstep.episode(1, human_expected=True)
    lockstep.policy(1, 0, *FORWARD)
    command = lockstep.controller.on_estop()
    assert command is not None
    assert (command.source, command.episode, command.step) == (Source.ESTOP, 1, 0)


def test_where_the_driver_moves_nothing_the_arm_is_held_and_nobody_leads_it(paced: Rig) -> None:
    for k in range(3):
        paced.policy(1, k, *FORWARD)
        paced.states(PERIOD)
    paced.take(paced.controller.on_driver("the driver, which moves nothing: fault: no cable", paced.now))
    paced.blocked = True
    before = len(paced.commands)
    paced.states(1.0)
    for k in range(3, 6):
        assert paced.policy(1, k, *FORWARD) is None
        assert paced.teleop(*BACK) is None
        paced.states(PERIOD)
    assert paced.safety.mode == Source.IDLE
    assert "fault: no cable" in paced.safety.reason and "policy/action refused" in paced.safety.reason
    assert all(command.source == Source.IDLE for command in paced.commands[before:])
    paced.teleop(*BACK, active=False)
    paced.states(PERIOD)
    with pytest.raises(MoveRejected, match="no cable"):
        paced.controller.move_to_pose(paced.tcp, 1.0, lambda _: None, paced.now)
    paced.take(paced.controller.on_estop())
    assert paced.safety.estop, "a stop is answered all the same"
    paced.controller.reset_estop()

    paced.controller.on_driver("", paced.now)
    paced.states(PERIOD)
    paced.policy(1, 6, *FORWARD)
    assert paced.x == pytest.approx(paced.tcp.position[0] + SCALE), "it goes on from where the arm is"
    assert paced.safety.reason == ""


def test_a_motion_ends_where_the_driver_moves_nothing(paced: Rig) -> None:
    x, y, z = paced.tcp.position.tolist()
    goal = Pose((x + 0.1, y, z), paced.tcp.quaternion)
    paced.take(paced.controller.move_to_pose(goal, 1.0, paced.outcomes.append, paced.now))
    paced.states(2 * PERIOD)
    paced.take(paced.controller.on_driver("the driver, which moves nothing: limp", paced.now))
    paced.states(1.0)
    assert [outcome.termination_reason for outcome in paced.outcomes] == ["timeout"]
    assert paced.commands[-1].source == Source.IDLE
