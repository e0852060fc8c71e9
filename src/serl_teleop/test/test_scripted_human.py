# SPDX-License-Identifier: Apache-2.0
"""The person made of code, on states that are made up."""

import numpy as np
from serl_robots.model.pose import Pose
from serl_teleop.scripted.human import ScriptedHuman

from serl_tasks import ArmSample, get_task

TASK = get_task("pick_cube")
DOWN = np.array([1.0, 0.0, 0.0, 0.0])


def arm_at(x: float, y: float, z: float) -> ArmSample:
    return ArmSample(Pose(np.array([x, y, z]), DOWN), np.zeros(6), gripper_width=0.08, gripper_target=0.08)


def world(arm: ArmSample) -> dict[str, Pose]:
    return {"tcp": arm.tcp, "cube": Pose(np.array([0.5, 0.0, 0.02]), np.array([0.0, 0.0, 0.0, 1.0]))}


def leads(human: ScriptedHuman, steps: int, approach: float = 0.0) -> list[bool]:
    """Whether the person leads in each step while the tool comes nearer by `approach` [m] a step."""
    result = []
    for step in range(steps):
        arm = arm_at(0.5, 0.0, 0.4 - approach * step)
        result.append(human.act(arm, world(arm)) is not None)
    return result


def test_a_demonstrator_leads_in_every_step_with_actions_in_range() -> None:
    human = ScriptedHuman(TASK, seed=0)
    human.begin(1, 0, demonstrating=True)
    arm = arm_at(0.45, 0.1, 0.3)
    for _ in range(30):
        action = human.act(arm, world(arm))
        assert action is not None
        assert action.shape == (4,)
        assert action.dtype == np.float32
        assert np.abs(action).max() <= 1.0


def test_a_policy_that_makes_progress_is_left_alone() -> None:
    human = ScriptedHuman(TASK, seed=0)
    human.begin(1, 0, demonstrating=False)
    assert not any(leads(human, 15, approach=0.02))


def test_a_policy_that_stalls_is_helped_for_a_while_and_then_left_to_try_again() -> None:
    human = ScriptedHuman(TASK, seed=0)
    human.begin(1, 0, demonstrating=False)
    led = leads(human, 24)
    assert not any(led[:6]), "patience"
    assert any(led)
    first = led.index(True)
    assert False in led[first:], "gives back"


def test_interventions_can_be_switched_off() -> None:
    human = ScriptedHuman(TASK, seed=0, interventions=False)
    human.begin(1, 0, demonstrating=False)
    assert not any(leads(human, 50))


def test_the_same_seed_and_episode_give_the_same_person() -> None:
    def behaviour(seed: int, episode: int) -> list[bool]:
        human = ScriptedHuman(TASK, seed)
        human.begin(episode, 0, demonstrating=False)
        return leads(human, 50)

    assert behaviour(3, 7) == behaviour(3, 7)
    assert len({tuple(behaviour(3, episode)) for episode in range(10)}) > 1
