# SPDX-License-Identifier: Apache-2.0
"""A world that goes along with an arm that is emulated elsewhere."""

import numpy as np
import pytest
from serl_sim.emulated.following_bench import FollowingBench
from serl_sim.world import World

from serl_tasks import get_task

PERIOD = 0.01


def test_its_arm_is_where_the_other_one_is_and_takes_the_cube_along() -> None:
    task = get_task("pick_cube_piper")
    other, seed = World(task), 3
    other.reset(seed)
    expert = task.make_expert(np.random.default_rng(0))
    limits = task.limits
    with FollowingBench(task, seed) as bench:
        now, target, lifted, furthest = 0.0, other.arm_sample().tcp, False, 0.0
        for _ in range(task.horizon):
            truth = bench._world.objects()
            action = expert.act(other.arm_sample(), truth)
            way = np.array(task.action.scale[:3]) * action[:3]
            target = type(target)(
                np.clip(target.position + way, limits.workspace_min, limits.workspace_max), target.quaternion
            )
            other.command_pose(target)
            other.command_gripper(0.5 * (action[3] + 1.0) * task.action.scale[3])
            for _ in range(round(task.control_period / PERIOD)):
                other.advance(round(PERIOD / other.model.opt.timestep))
                now += PERIOD
                bench.follow(other.joint_positions, other.joint_velocities, now)
            furthest = max(furthest, float(np.abs(bench._world.arm_positions - other.arm_positions).max()))
            lifted = lifted or task.judge(bench._world.objects()).success
        assert furthest < 0.05
        assert lifted


def test_what_is_no_state_of_the_arm_is_refused() -> None:
    with FollowingBench(get_task("pick_cube_piper"), 0) as bench:
        before = bench._world.joint_positions.copy()
        with pytest.raises(ValueError, match="expected 8 positions and velocities, found 7, 8"):
            bench.follow(np.zeros(7), np.zeros(8), 0.0)
        with pytest.raises(ValueError, match="finite"):
            bench.follow(np.full(8, np.nan), np.zeros(8), 0.0)
        assert (bench._world.joint_positions == before).all()
