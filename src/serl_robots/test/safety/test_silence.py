# SPDX-License-Identifier: Apache-2.0
"""Who counts as alive, and what happens when nobody does."""

import math
from itertools import pairwise

import numpy as np
import pytest
from controller_rig import BACK, FORWARD, PERIOD, SCALE, STILL, Rig, panda
from serl_robots.control.arbitration import ActionInput
from serl_robots.control.control_step import Measured
from serl_robots.model.pose import Pose
from serl_robots.safety.source import Source


@pytest.fixture
def paced() -> Rig:
    return Rig(lockstep=False)


@pytest.mark.parametrize("bad", ["nan", "inactive", "replayed", "old", "future"])
def test_a_policy_whose_commands_are_refused_does_not_lock_the_person_out(paced: Rig, bad: str) -> None:
    paced.states(1.0)
    paced.policy(1, 0)
    paced.states(1.0)
    executed = 0
    for k in range(1, 33):
        action = (math.nan, 0.0, 0.0, 0.0) if bad == "nan" else STILL
        stamp = {"old": paced.stamp_ns - 10**9, "future": paced.stamp_ns + 10**12}.get(bad, 0)
        message = ActionInput(1, 0 if bad == "replayed" else k, action, stamp, bad != "inactive")
        paced.take(paced.controller.on_policy(message, paced.now))
        paced.teleop(*(BACK if k % 2 else FORWARD))
        executed += sum(command.source == Source.HUMAN for command in paced.states(PERIOD))
    assert executed >= 30


def test_a_policy_that_says_it_is_not_active_is_refused_with_a_reason(paced: Rig) -> None:
    assert paced.controller.on_policy(ActionInput(1, 0, (), active=False), paced.now) is None
    assert "expected active to be true" in paced.safety.reason


def test_a_refusal_does_not_hide_why_the_arm_is_held(paced: Rig) -> None:
    paced.policy(1, 0, *FORWARD)
    paced.states(0.5)
    paced.policy(1, 1, math.nan, 0.0, 0.0, 0.0)
    assert paced.safety.key == "stale_command"
    assert "no command for 0.2 s" in paced.safety.reason and "found nan" in paced.safety.reason


@pytest.mark.parametrize("stamps", ["frozen", "backwards"])
def test_a_device_that_repeats_itself_is_dead(paced: Rig, stamps: str) -> None:
    first = paced.stamp_ns
    for k in range(100):
        stamp = first if stamps == "frozen" else first - k
        message = ActionInput(0, 0, FORWARD, stamp)
        paced.take(paced.controller.on_teleop(message, paced.now))
        paced.state()
    led = [command for command in paced.commands if command.source == Source.HUMAN]
    assert led[-1].stamp_ns - first <= 0.3e9
    assert paced.safety.mode == Source.IDLE
    assert paced.take(paced.controller.on_teleop(ActionInput(0, 0, FORWARD, paced.stamp_ns), paced.now)) is not None


@pytest.mark.parametrize("source", ["policy", "teleop", "joint_states"])
@pytest.mark.parametrize("pace", [0.2, 1.0])
def test_a_source_that_dies_is_noticed_within_the_timeout_and_one_period(source: str, pace: float) -> None:
    rig = Rig(lockstep=False)
    for k in range(200):
        if source != "teleop":
            rig.policy(1, k // 10, *STILL, stamp_ns=rig.stamp_ns) if k % 10 == 0 else None
        else:
            rig.teleop(*(FORWARD if k % 20 < 10 else BACK))
        rig.now += 0.01 / pace - 0.01
        rig.state()
        rig.take(rig.controller.on_timer(rig.now))
    died, before = rig.now, len(rig.commands)
    while rig.safety.mode != Source.IDLE:
        assert rig.now - died < 2.0
        rig.now += 0.01
        if source != "joint_states":
            rig.now += 0.01 / pace - 0.02
            rig.state()
        rig.take(rig.controller.on_timer(rig.now))
    allowed = rig.limits.stale_timeout + PERIOD / (pace if source == "policy" else 1.0) + 0.01 / pace
    assert rig.now - died <= allowed
    holds = [command for command in rig.commands[before:] if command.executed is None]
    assert holds


def test_a_person_who_lets_go_is_held_at_once_with_what_they_grip(paced: Rig) -> None:
    paced.teleop(1.0, 0.0, 0.0, -1.0)
    paced.states(PERIOD)
    paced.teleop(active=False)
    paced.state()
    assert paced.safety.mode == Source.IDLE
    assert paced.commands[-1].executed is None
    assert paced.commands[-1].gripper_width == 0.0


def test_joint_states_whose_stamps_stand_still_are_none(paced: Rig) -> None:
    paced.policy(1, 0, *FORWARD)
    for _ in range(60):
        paced.now += 0.01
        paced.take(paced.controller.on_state(Measured(paced.stamp_ns, paced.tcp, paced.joints, paced.width, paced.now)))
        paced.take(paced.controller.on_timer(paced.now))
    assert paced.safety.key == "joint_states"
    assert "stood still" in paced.safety.reason
    assert paced.policy(1, 1, *FORWARD) is None
    paced.states(PERIOD)
    assert paced.safety.reason == ""


def test_stamps_that_jump_to_and_fro_give_no_command_too_early(paced: Rig) -> None:
    given = []
    for k in range(200):
        paced.policy(1, k, *(FORWARD if k % 2 else BACK))
        paced.stamp_ns += 10**13 if k % 2 else -(10**13)
        command = paced.state()
        if command is not None and command.executed is not None:
            given.append(paced.now)
    assert all(b - a >= 0.85 * PERIOD for a, b in pairwise(given))


@pytest.mark.parametrize("jump", [1000.0, -5.0])
def test_a_clock_that_jumps_makes_no_step_larger_and_the_arm_goes_on(paced: Rig, jump: float) -> None:
    steps = 12
    for k in range(steps):
        if k == steps // 2:
            paced.stamp_ns += round(jump * 1e9)
        paced.policy(1, k, *FORWARD)
        paced.states(PERIOD)
    ways = np.diff([command.target.position[0] for command in paced.commands])
    assert ways.min() >= 0.0 and ways.max() <= SCALE + 1e-9
    assert sum(command.executed is not None for command in paced.commands) >= steps - 2, "a step is lost at most"
    assert paced.commands[-1].executed is not None
    assert not paced.safety.estop and paced.safety.reason == ""


def test_one_garbled_pose_moves_nothing(paced: Rig) -> None:
    paced.policy(1, 0, *STILL)
    paced.states(1.0)
    place = paced.tcp
    paced.blocked = True
    paced.tcp = Pose((0.4, 0.2, 0.1), (1.0, 0.0, 0.0, 0.0))
    paced.policy(1, 1, *STILL)
    paced.take(paced.controller.on_state(Measured(paced.stamp_ns + 1, paced.tcp, paced.joints, 0.04, paced.now)))
    paced.tcp = place
    paced.states(PERIOD)
    assert max(command.target.distance(place) for command in paced.commands) < 1e-9


def test_who_answers_the_policy_leads_no_longer_than_the_policy_lives(paced: Rig) -> None:
    """A scripted person goes on answering the last state for ever, and would drive alone."""
    for k in range(10):
        paced.policy(1, k, *STILL)
        paced.answer(1, k, *(FORWARD if k % 2 else BACK))
        paced.states(PERIOD)
    assert paced.safety.mode == Source.HUMAN
    died, before = paced.now, len(paced.commands)
    while paced.safety.mode != Source.IDLE:
        assert paced.now - died <= paced.limits.stale_timeout + PERIOD
        paced.answer(1, 10, *FORWARD)
        paced.state()
    after = paced.commands[before:]
    assert after and all(command.executed is None for command in after)
    for _ in range(100):
        assert paced.answer(1, 11, *FORWARD) is None
        assert paced.state() is None or paced.commands[-1].executed is None
    paced.move_to_pose(paced.tcp.position)
    assert paced.safety.mode == Source.MOVE_TO, "nobody leads"
    assert paced.answer(1, 12, *FORWARD) is None
    assert paced.safety.mode == Source.MOVE_TO


def test_what_a_person_wanted_before_the_release_of_a_stop_moves_nothing(paced: Rig) -> None:
    paced.teleop(*FORWARD)
    paced.states(PERIOD)
    paced.take(paced.controller.on_estop())
    paced.teleop(*FORWARD)
    paced.state()
    paced.controller.reset_estop()
    assert all(command.executed is None for command in paced.states(0.2))
    assert paced.teleop(*FORWARD) is not None


@pytest.mark.parametrize("event", ["estop", "fault", "episode", "release", "move"])
def test_what_happens_at_a_garbled_pose_moves_nothing_there(paced: Rig, event: str) -> None:
    paced.policy(1, 0, *STILL)
    paced.states(1.0)
    controller, place = paced.controller, paced.tcp
    if event == "release":
        paced.take(controller.on_estop())
        paced.states(1.0)
        controller.reset_estop()
    paced.blocked = True
    paced.tcp = Pose((0.4, 0.2, 0.1), (1.0, 0.0, 0.0, 0.0))
    before = len(paced.commands)
    paced.state()
    match event:
        case "estop":
            assert paced.take(controller.on_estop()) is not None, "the arm is held all the same"
        case "fault":
            assert paced.take(controller.on_fault("internal error")) is not None
        case "episode":
            paced.episode(2)
            paced.policy(2, 0, *STILL)
        case "release":
            paced.policy(1, 1, *STILL)
        case "move":
            paced.move_to_joints(paced.joints)
    paced.take(controller.on_timer(paced.now))
    paced.tcp = place
    paced.states(1.0)
    assert len(paced.commands) > before
    assert max(command.target.distance(place) for command in paced.commands[before:]) < 1e-9


def test_a_policy_of_episodes_that_are_not_announced_keeps_nobody_waiting(paced: Rig) -> None:
    paced.episode(1)
    executed = 0
    for k in range(32):
        paced.policy(2 + k, k, *STILL)
        paced.teleop(*(BACK if k % 2 else FORWARD))
        executed += sum(command.source == Source.HUMAN for command in paced.states(PERIOD))
    assert executed >= 28


def test_an_episode_that_is_never_announced_is_played_after_a_wait_however_often_it_is_asked_for(paced: Rig) -> None:
    paced.episode(1)
    for k in range(20):
        paced.policy(2, k, *FORWARD)
        paced.states(PERIOD)
    assert sum(command.source == Source.POLICY for command in paced.commands) >= 8


def test_a_moving_arm_is_braked_while_an_announcement_is_waited_for(paced: Rig) -> None:
    paced.episode(1)
    for _ in range(4):
        paced.teleop(*FORWARD)
        paced.states(PERIOD)
    for k in range(4):  # the person's device has died
        paced.policy(2, k, *FORWARD)
        paced.states(PERIOD)
    assert paced.controller._integrator.filter.at_rest
    assert paced.commands[-1].executed is None


@pytest.mark.parametrize("kind", ["policy", "pose", "joints"])
def test_a_controller_that_was_stopped_for_a_while_goes_on_from_rest(kind: str) -> None:
    """The arm came to rest at the last command: to go on, or to brake, with the old velocity would be a jerk."""
    rig = Rig(lockstep=False, max_acceleration=0.5)
    if kind == "pose":
        rig.move_to_pose(rig.tcp.position + np.array([0.15, 0.0, 0.0]))
    elif kind == "joints":
        rig.move_to_joints(np.array(panda()[0].configuration("home")) + 0.1)
    for k in range(6):
        if kind == "policy":
            rig.policy(1, k, *FORWARD)
        for _ in range(10):
            rig.state()
            rig.take(rig.controller.on_timer(rig.now))
    last = rig.commands[-1].target
    assert last.distance(rig.commands[-2].target) > 0.7 * 0.5 * PERIOD**2, "it moves"
    rig.now += 5.0
    rig.stamp_ns += 5 * 10**9
    before = len(rig.commands)
    rig.take(rig.controller.on_timer(rig.now))
    rig.states(2 * PERIOD)
    first = rig.commands[before]
    assert first.target.distance(last) <= 0.5 * PERIOD**2 + 1e-9


def test_joint_states_that_were_overtaken_are_not_a_new_time(paced: Rig) -> None:
    for k in range(20):
        paced.policy(1, k, *STILL)
        for _ in range(10):
            paced.state()
            late = Measured(paced.stamp_ns - 1, paced.tcp, paced.joints, paced.width, paced.now)
            assert paced.controller.on_state(late) is None
    assert len([command for command in paced.commands if command.executed is not None]) >= 19


def test_a_motion_that_ends_before_it_begins_leaves_no_arm_moving() -> None:
    rig = Rig(lockstep=False, max_acceleration=0.5)
    for k in range(4):
        rig.policy(1, k, *FORWARD)
        rig.states(PERIOD)
    rig.move_to_joints(np.array(panda()[0].configuration("home")))
    rig.teleop(*FORWARD)
    assert [outcome.termination_reason for outcome in rig.outcomes] == ["preempted"]
    rig.teleop(active=False)
    rig.states(2.0)
    x = np.array([command.target.position[0] for command in rig.commands])
    assert np.abs(np.diff(x, 2)).max() <= 0.5 * PERIOD**2 + 1e-9
    assert x[-1] == x[-2] and x[-1] > x[3]
