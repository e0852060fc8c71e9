# SPDX-License-Identifier: Apache-2.0
"""Every arm picks the cube by the script of its task, through the safety filter and the simulated controller."""

import pytest
from led_episode import lead
from serl_sim.envs import TaskEnv

ARMS = ["fr3", "so101", "piper", "trossen"]


@pytest.mark.parametrize("arm", ARMS)
def test_the_expert_picks_the_cube(arm: str) -> None:
    env = TaskEnv(f"pick_cube_{arm}")
    assert env.world.robot.name == arm
    ends = [lead(env, seed)[0] for seed in range(6)]
    assert all(ends), ends


@pytest.mark.parametrize("arm", ARMS)
def test_an_unsteady_expert_picks_it_as_well(arm: str) -> None:
    env = TaskEnv(f"pick_cube_{arm}")
    ends = [lead(env, seed, noise=0.3)[0] for seed in range(6)]
    assert sum(ends) >= 5, ends
