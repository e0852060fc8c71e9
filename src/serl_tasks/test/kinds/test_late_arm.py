# SPDX-License-Identifier: Apache-2.0
"""The scripted person with an arm that follows later than the simulated one, as one behind a vendor's client."""

import numpy as np
import pytest
from serl_robots.model.pose import Pose
from serl_tasks.arm_sample import ArmSample
from serl_tasks.kinds.pick_cube import CUBE, PickCube, PickExpert

from serl_tasks import get_task

LATE = 2  # control steps by which the tool follows its command


@pytest.mark.parametrize("robot", ["fr3", "piper", "trossen"])
def test_the_tool_does_not_swing_past_the_cube_and_the_fingers_close_at_it(robot: str) -> None:
    task = get_task(f"pick_cube_{robot}")
    assert isinstance(task, PickCube)
    cube = np.array([*task.objects[CUBE].lower, task.objects[CUBE].rest_height])
    down, commanded = np.array(task.limits.reference_orientation), [np.array(task.start.tcp_position)] * (LATE + 2)
    towards = (cube - commanded[0])[:2] / np.linalg.norm((cube - commanded[0])[:2])
    expert, past, opening = task.make_expert(np.random.default_rng(0)), [], task.open_width
    for _ in range(task.horizon):
        tool, before = commanded[-1 - LATE], commanded[-2 - LATE]
        speed = np.append((tool - before) / task.control_period, np.zeros(3))
        arm = ArmSample(Pose(tool, down), speed, opening, opening, Pose(commanded[-1], down))
        action = expert.act(arm, {CUBE: Pose(cube, down)})
        past.append(float(towards @ (tool - cube)[:2]))
        if action[3] < 0.0:
            break
        commanded.append(commanded[-1] + np.array(task.action.scale[:3]) * action[:3])
    assert max(past) < PickExpert.ALIGNED
    assert action[3] == -1.0 and np.linalg.norm(tool - cube) < PickExpert.ALIGNED + PickExpert.LEVEL
