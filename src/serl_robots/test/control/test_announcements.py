# SPDX-License-Identifier: Apache-2.0
"""What the announcement of an episode changes for its steps: before them, after them, or never."""

import numpy as np
import pytest
from controller_rig import BACK, FORWARD, PERIOD, SCALE, Rig
from serl_robots.safety.source import Source


def test_an_actor_that_starts_over_with_lower_numbers_is_heard_after_its_episode_message(lockstep: Rig) -> None:
    lockstep.policy(7, 5)
    lockstep.state()
    lockstep.episode(1)
    assert lockstep.policy(1, 0) is not None


def test_a_step_of_an_episode_that_was_not_announced_yet_waits_for_the_announcement(lockstep: Rig) -> None:
    lockstep.episode(1)
    lockstep.policy(1, 0)
    lockstep.state()
    assert lockstep.policy(2, 0, *FORWARD) is None
    command = lockstep.episode(2)
    assert command is not None and command.episode == 2


def test_where_episodes_are_announced_the_first_step_waits_for_its_own_and_so_for_its_person(lockstep: Rig) -> None:
    lockstep.controller.on_announcer()
    assert lockstep.policy(1, 0) is None
    assert lockstep.episode(1, human_expected=True) is None
    command = lockstep.answer(1, 0, *FORWARD)
    assert command is not None and command.source == Source.HUMAN


def test_an_announcer_who_says_nothing_keeps_the_first_step_waiting_no_longer_than_others(lockstep: Rig) -> None:
    lockstep.controller.on_announcer()
    assert lockstep.policy(1, 0) is None
    assert len(lockstep.wait(1.2)) == 1
    lockstep.state()
    assert lockstep.policy(1, 1) is not None


def test_an_announcement_that_comes_after_the_first_steps_of_its_episode_changes_nothing(lockstep: Rig) -> None:
    start = float(lockstep.tcp.position[0])
    lockstep.policy(1, 0, *FORWARD)
    lockstep.state()  # the tool has not followed yet: a new start would lose the first step
    lockstep.episode(1)
    assert lockstep.policy(1, 0, *FORWARD) is None, "dropped as before"
    lockstep.policy(1, 1, *FORWARD)
    assert lockstep.commands[-1].target.position[0] == pytest.approx(start + 2 * SCALE)
    lockstep.state()
    lockstep.episode(1)  # announced again: the same number is begun anew
    assert lockstep.policy(1, 0, *FORWARD) is not None


def test_an_episode_that_is_never_announced_is_played_after_a_wait_and_waits_only_once(lockstep: Rig) -> None:
    lockstep.episode(1)
    lockstep.policy(1, 0)
    lockstep.state()
    assert lockstep.policy(2, 0) is None
    assert len(lockstep.wait(1.2)) == 1
    lockstep.state()
    assert lockstep.policy(2, 1) is not None


@pytest.mark.parametrize("is_lockstep", [True, False])
def test_a_new_episode_in_mid_motion_takes_the_velocity_over(is_lockstep: bool) -> None:
    rig = Rig(lockstep=is_lockstep, max_acceleration=1.0)
    for episode in range(1, 20):
        rig.episode(episode)
        for k in range(4):
            rig.policy(episode, k, *(FORWARD if episode % 2 else BACK))
            rig.state() if is_lockstep else rig.states(PERIOD)
    x = np.array([command.target.position[0] for command in rig.commands])
    assert len(x) > 40
    assert np.abs(np.diff(x, 2)).max() <= 1.0 * PERIOD**2 + 1e-9
