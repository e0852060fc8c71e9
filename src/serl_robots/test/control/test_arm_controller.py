# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
from controller_rig import BACK, FORWARD, PERIOD, SCALE, STILL, Rig
from serl_robots.model.pose import Pose
from serl_robots.safety.source import Source

# --- a policy in lockstep ------------------------------------------------------------------------


def test_a_policy_step_is_answered_with_a_target_and_the_executed_action(lockstep: Rig) -> None:
    start = lockstep.tcp
    command = lockstep.policy(3, 0, *FORWARD)
    assert command is not None
    assert (command.source, command.episode, command.step) == (Source.POLICY, 3, 0)
    assert (command.target.position - start.position).tolist() == pytest.approx([SCALE, 0.0, 0.0])
    assert command.executed is not None and command.executed.tolist() == list(FORWARD)
    assert command.stamp_ns == lockstep.stamp_ns
    assert lockstep.safety.mode == Source.POLICY


def test_later_steps_add_to_the_commanded_pose_not_to_the_measured_one(lockstep: Rig) -> None:
    lockstep.blocked = True
    start = lockstep.tcp.position[0]
    for k in range(3):
        lockstep.policy(1, k, *FORWARD)
        lockstep.state()
    assert lockstep.x == pytest.approx(start + 3 * SCALE)


def test_a_new_episode_starts_from_the_measured_pose_and_width(lockstep: Rig) -> None:
    lockstep.policy(1, 0, *FORWARD)
    lockstep.state()
    lockstep.tcp, lockstep.width = Pose((0.4, 0.1, 0.2), (1.0, 0.0, 0.0, 0.0)), 0.08
    lockstep.episode(2)
    lockstep.state()
    assert lockstep.controller.gripper_target == 0.08
    lockstep.policy(2, 0, 0.0, 1.0, 0.0, 1.0)
    assert lockstep.commands[-1].target.position == pytest.approx([0.4, 0.1 + SCALE, 0.2])


def test_a_step_waits_until_the_world_has_answered_the_one_before(lockstep: Rig) -> None:
    assert lockstep.policy(1, 0, *FORWARD) is not None
    assert lockstep.policy(1, 1, *FORWARD) is None
    answered = lockstep.state()
    assert answered is not None and answered.step == 1


@pytest.mark.parametrize(("episode", "step"), [(2, 5), (2, 4), (1, 9)])
def test_doubled_and_old_steps_are_dropped(lockstep: Rig, episode: int, step: int) -> None:
    lockstep.policy(2, 5)
    lockstep.state()
    assert lockstep.policy(episode, step, *FORWARD) is None
    assert lockstep.state() is None
    assert lockstep.controller.dropped == 1


def test_a_pause_in_lockstep_is_named_and_changes_nothing(lockstep: Rig) -> None:
    lockstep.blocked = True
    lockstep.policy(1, 0, *FORWARD)
    lockstep.state()
    before = lockstep.x
    assert lockstep.wait(2.0) == []
    assert lockstep.safety.mode == Source.IDLE
    assert lockstep.safety.key == "stale_command"
    assert lockstep.safety.counts["stale_command"] == 1
    lockstep.policy(1, 1, *FORWARD)
    assert lockstep.x == pytest.approx(before + SCALE)
    assert lockstep.safety.reason == ""


def test_a_slow_world_is_no_pause(lockstep: Rig) -> None:
    lockstep.policy(1, 0, *FORWARD)
    lockstep.wait(2.0)
    assert lockstep.safety.key == ""


def test_a_world_that_moved_by_itself_makes_the_next_step_start_from_the_measured_pose(lockstep: Rig) -> None:
    lockstep.policy(1, 0, *FORWARD)
    lockstep.state()
    lockstep.tcp = Pose((0.4, 0.1, 0.2), (1.0, 0.0, 0.0, 0.0))
    lockstep.state()
    lockstep.policy(1, 1, *FORWARD)
    assert lockstep.commands[-1].target.position == pytest.approx([0.4 + SCALE, 0.1, 0.2])


def test_a_world_that_begins_anew_in_time_is_followed(lockstep: Rig) -> None:
    lockstep.policy(1, 0, *FORWARD)
    lockstep.stamp_ns = 0
    lockstep.state()
    assert lockstep.policy(1, 1, *FORWARD) is not None


# --- a synchronous person ------------------------------------------------------------------------


def test_lockstep_waits_for_the_expected_person_and_takes_their_action(lockstep: Rig) -> None:
    lockstep.episode(1, human_expected=True)
    assert lockstep.policy(1, 0, *FORWARD) is None
    assert lockstep.wait(0.5) == []
    command = lockstep.answer(1, 0, *BACK)
    assert command is not None
    assert (command.source, command.step) == (Source.HUMAN, 0)
    assert command.executed is not None and command.executed[0] == -1.0


def test_the_person_may_answer_before_the_policy(lockstep: Rig) -> None:
    lockstep.episode(1, human_expected=True)
    assert lockstep.answer(1, 0, *BACK) is None
    command = lockstep.policy(1, 0, *FORWARD)
    assert command is not None and command.source == Source.HUMAN


def test_a_person_who_declines_leaves_the_step_to_the_policy(lockstep: Rig) -> None:
    lockstep.episode(1, human_expected=True)
    lockstep.policy(1, 0, *FORWARD)
    command = lockstep.answer(1, 0, active=False)
    assert command is not None and command.source == Source.POLICY


def test_an_answer_to_another_step_is_not_taken_for_this_one(lockstep: Rig) -> None:
    lockstep.episode(1, human_expected=True)
    lockstep.answer(1, 0, *BACK)
    lockstep.policy(1, 0, *FORWARD)
    lockstep.state()
    assert lockstep.policy(1, 1, *FORWARD) is None


def test_a_person_who_does_not_answer_is_waited_for_once_until_heard_again(lockstep: Rig) -> None:
    lockstep.episode(1, human_expected=True)
    lockstep.policy(1, 0, *FORWARD)
    commands = lockstep.wait(1.2)
    assert [command.source for command in commands] == [Source.POLICY]
    assert "no answer of the person" in lockstep.safety.reason
    lockstep.state()
    assert lockstep.policy(1, 1, *FORWARD) is not None, "gone on without the person"
    lockstep.answer(1, 1, *BACK)
    lockstep.state()
    assert lockstep.policy(1, 2, *FORWARD) is None, "waits again"
    command = lockstep.answer(1, 2, *BACK)
    assert command is not None and command.source == Source.HUMAN
    assert lockstep.safety.reason == ""


def test_nobody_is_waited_for_when_no_person_is_expected(lockstep: Rig) -> None:
    lockstep.episode(1, human_expected=False)
    assert lockstep.policy(1, 0, *FORWARD) is not None


def test_a_device_without_steps_takes_over_in_lockstep_too(lockstep: Rig) -> None:
    lockstep.episode(1)
    assert lockstep.teleop(*BACK) is None, "an episode's steps are the actor's"
    command = lockstep.policy(1, 0, *FORWARD)
    assert command is not None
    assert (command.source, command.episode, command.step) == (Source.HUMAN, 1, 0)


def test_in_lockstep_a_device_drives_alone_between_episodes_at_the_control_period(lockstep: Rig) -> None:
    commands = 0
    for _ in range(50):  # 1 s of a device at 50 Hz, a world that answers at once
        commands += lockstep.teleop(*FORWARD[:2], 0.0, 0.0) is not None
        lockstep.state()
        lockstep.now += 0.019
    assert 9 <= commands <= 11


# --- real time -----------------------------------------------------------------------------------


def test_a_person_takes_over_and_gives_back_within_the_policy_steps(paced: Rig) -> None:
    sources = []
    for k in range(6):
        if k in (2, 3):
            paced.teleop(*BACK)
        if k == 4:
            paced.teleop(active=False)
        command = paced.policy(1, k, *FORWARD)
        assert command is not None and command.step == k
        sources.append(command.source)
        paced.states(PERIOD)
    assert sources == [Source.POLICY] * 2 + [Source.HUMAN] * 2 + [Source.POLICY] * 2


@pytest.mark.parametrize("consent", ["let go", "taken and let go"])
def test_a_person_who_goes_silent_leaves_the_arm_held_until_somebody_agrees(paced: Rig, consent: str) -> None:
    for k in range(30):
        if k == 1:
            paced.teleop(*BACK, sender="page")
        paced.policy(1, k, *FORWARD)
        paced.states(PERIOD)
    assert [c.source for c in paced.commands] == [Source.POLICY] + [Source.HUMAN] * 29
    assert all(c.executed is not None and c.executed[0] == 0.0 for c in paced.commands[8:]), "it is held"
    assert paced.commands[-1].target == paced.commands[8].target
    assert paced.controller.leader.name == "", "nobody leads whom others would have to wait for"
    assert "fallen silent" in paced.controller.safety.reason
    if consent == "taken and let go":
        paced.teleop(*BACK, sender="another page")
        paced.policy(1, 30, *FORWARD)
        paced.states(PERIOD)
        assert paced.commands[-1].executed is not None and paced.commands[-1].executed[0] < 0.0
    paced.teleop(active=False, sender="another page")
    for k in range(31, 34):
        paced.policy(1, k, *FORWARD)
        paced.states(PERIOD)
    assert paced.commands[-1].source is Source.POLICY
    assert paced.controller.safety.reason == ""


def test_a_step_that_had_to_wait_for_its_turn_delays_later_ones_only_for_a_while(paced: Rig) -> None:
    paced.teleop(*BACK)  # drives at once, and the policy begins just then
    delays = []
    for k in range(40):
        asked = paced.stamp_ns
        paced.policy(1, k, *BACK)
        paced.states(PERIOD)
        delays.append(paced.commands[-1].stamp_ns - asked)
    assert delays[0] > 0
    assert delays[-1] == 0


def test_without_a_policy_the_person_drives_at_the_control_period(paced: Rig) -> None:
    start = paced.tcp.position[0]
    for _ in range(100):  # 1 s, a device at 100 Hz
        paced.teleop(0.5, 0.0, 0.0, 0.0)
        paced.state()
    assert [command.source for command in paced.commands] == [Source.HUMAN] * len(paced.commands)
    assert 9 <= len(paced.commands) <= 11
    assert paced.x == pytest.approx(start + len(paced.commands) * 0.5 * SCALE)


def test_a_living_policy_keeps_the_person_from_driving_twice(paced: Rig) -> None:
    for k in range(10):
        paced.policy(1, k, *FORWARD)
        for _ in range(10):
            paced.teleop(*BACK)
            paced.state()
    assert len(paced.commands) == 10


def test_a_policy_that_asks_too_often_is_held_to_the_control_period(paced: Rig) -> None:
    for k in range(100):
        paced.policy(1, k, *BACK)
        paced.state()
    assert 9 <= len(paced.commands) <= 12
    assert paced.safety.counts["rate"] > 50


def test_jitter_of_the_policy_costs_no_steps(paced: Rig) -> None:
    for k in range(20):
        paced.policy(1, k, *BACK)
        paced.states(PERIOD + (0.03 if k % 2 else -0.03))
    assert [command.step for command in paced.commands] == list(range(20))


def test_when_the_actor_dies_the_arm_is_held_and_a_tool_that_is_held_back_is_let_go(paced: Rig) -> None:
    paced.policy(1, 0, *FORWARD)
    target = paced.commands[-1].target
    paced.blocked = True
    paced.tcp = Pose(target.position - [0.007, 0.0, 0.0], target.quaternion)
    commands = paced.states(0.3)
    assert [command.target for command in commands] == [target], "once: it stands where it was commanded to"
    assert commands[0].executed is None
    assert paced.safety.mode == Source.IDLE
    assert paced.safety.key == "stale_command"
    commands = paced.states(1.0)
    assert commands[-1].target == paced.tcp
    assert paced.states(1.0) == []
    paced.policy(1, 1, *FORWARD)
    assert paced.x == pytest.approx(paced.tcp.position[0] + SCALE), "goes on from the measured pose"


def test_a_hold_keeps_the_grip(paced: Rig) -> None:
    paced.policy(1, 0, 0.0, 0.0, 0.0, -1.0)
    paced.width = 0.04  # an object is between the fingers
    paced.blocked = True
    holds = paced.states(1.0)
    assert holds and {hold.gripper_width for hold in holds} == {0.0}


def test_a_step_that_answers_an_old_state_is_refused(paced: Rig) -> None:
    old = paced.stamp_ns
    paced.states(0.4)
    assert paced.policy(1, 0, *FORWARD, stamp_ns=old) is None
    assert paced.safety.key == "stale_command"
    assert paced.policy(1, 1, *FORWARD, stamp_ns=paced.stamp_ns) is not None


def test_nothing_moves_before_the_first_joint_states() -> None:
    rig = Rig(lockstep=False, start=False)
    assert rig.policy(1, 0, *FORWARD) is None
    assert rig.teleop(*FORWARD) is None
    assert rig.wait(1.0) == []
    assert rig.safety.key == "joint_states"
    assert rig.controller.target is None


def test_nothing_moves_on_joint_states_that_stopped(paced: Rig) -> None:
    paced.policy(1, 0, *FORWARD)
    (hold,) = paced.wait(0.5)
    assert hold.target == paced.commands[0].target and hold.executed is None
    assert paced.policy(1, 1, *FORWARD) is None
    assert paced.teleop(*FORWARD) is None
    assert paced.safety.key == "joint_states"
    assert paced.safety.counts["joint_states"] == 2
    paced.tcp = Pose((0.4, 0.0, 0.2), (1.0, 0.0, 0.0, 0.0))
    paced.now += 1.0  # the person's message is old by then
    paced.states(2 * PERIOD)
    assert paced.safety.reason == ""
    paced.policy(1, 2, *FORWARD)
    paced.states(PERIOD)
    assert paced.x == pytest.approx(0.4 + SCALE)


def test_a_controller_that_stood_still_itself_reads_what_came_before_it_complains(paced: Rig) -> None:
    paced.policy(1, 0, *FORWARD)
    paced.wait(0.1)
    paced.now += 3.0  # the process was suspended; joint states are waiting to be read
    paced.take(paced.controller.on_timer(paced.now))
    assert paced.safety.reason == ""
    paced.wait(0.1)
    assert paced.safety.key == "joint_states", "but if there are none, it does"


def test_a_blocked_tool_gets_its_target_back_to_where_it_is_within_the_limits(paced: Rig) -> None:
    paced.blocked = True
    start = float(paced.tcp.position[0])
    targets, limits = [start], []
    for k in range(40):
        pushes = targets[-1] < start + 0.1 and not any("tracking_error" in names for names in limits)
        paced.policy(1, k, *(FORWARD if pushes else STILL))
        targets.append(paced.x)
        limits.append(paced.commands[-1].limits)
        paced.states(PERIOD)
    acted = [k for k, names in enumerate(limits) if "tracking_error" in names]
    assert len(acted) == 1
    assert targets[acted[0] + 6] == pytest.approx(start, abs=1e-9)
    assert np.abs(np.diff(targets)).max() <= paced.limits.max_step + 1e-9
    assert np.abs(np.diff(targets, 2)).max() <= paced.limits.max_acceleration * PERIOD**2 + 1e-9
    assert paced.safety.counts["tracking_error"] == 1


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("is_lockstep", [True, False])
@pytest.mark.parametrize("source", ["policy", "teleop"])
@pytest.mark.parametrize(
    ("action", "said"),
    [
        ((0.0, 0.0, 0.0), "expected 4 values"),
        ((0.0,) * 5, "expected 4 values"),
        ((math.nan, 0.0, 0.0, 0.0), "found nan"),
        ((0.0, math.inf, 0.0, 0.0), "found inf"),
        ((0.0, 0.0, -1.1, 0.0), "expected dz in"),
    ],
)
def test_a_bad_action_is_refused_with_its_reason(
    is_lockstep: bool, source: str, action: tuple[float, ...], said: str
) -> None:
    rig = Rig(lockstep=is_lockstep)
    command = rig.policy(1, 0, *action) if source == "policy" else rig.teleop(*action)
    assert command is None
    assert rig.safety.key == "action"
    assert rig.safety.reason.startswith(f"{source}/action refused")
    assert said in rig.safety.reason
    assert rig.safety.active == ("action",)
    assert rig.policy(1, 1, *FORWARD) is not None, "the next good one is executed"
    assert rig.safety.reason == ""


def test_a_device_that_rests_may_send_an_empty_action(paced: Rig) -> None:
    paced.teleop(active=False)
    assert paced.safety.reason == ""
