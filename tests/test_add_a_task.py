# SPDX-License-Identifier: Apache-2.0
"""docs/add_a_task.md gives a task that works: its expert does it, its judge is no fool, and the graph runs it."""

import re
import sys

import pytest
from documented_pages import ROOT

PAGE = ROOT / "docs" / "add_a_task.md"


def test_the_expert_of_the_page_pushes_the_cube(checkout):
    """By the loop that the page shows; and what it says of the cube that is merely smaller."""
    output = checkout.follow(PAGE)
    assert int(re.search(r"^(\d+) of 100$", output, re.MULTILINE)[1]) >= 95, output
    small = checkout.python(
        "from serl_tasks import get_task\n"
        "small, cube = get_task('pick_small_cube').objects['cube'], get_task('pick_cube').objects['cube']\n"
        "print(small.size != cube.size, (small.lower, small.upper) == (cube.lower, cube.upper))"
    )
    assert small == "True True\n"


def test_the_door_of_the_page_hangs_on_its_post_and_turns(checkout):
    checkout.follow(PAGE)
    said = checkout.python(
        """
import numpy as np
from serl_sim.world import World
from serl_tasks import get_task

world = World(get_task("pick_beside_a_door"))
for seed in range(3):
    world.reset(seed)
    before = world.objects()
    assert np.allclose(before["door"].position - before["post"].position, (-0.02, 0.0, 0.0), atol=1e-9)
    world.data.qfrc_applied[world.model.joint("door").dofadr[0]] = 0.2
    world.advance(1500)
    turned = np.degrees(before["door"].rotation_vector_to(world.objects()["door"]))
    assert np.allclose(turned, (0.0, 0.0, 100.0), atol=1.0), turned
print("it turns")
"""
    )
    assert said == "it turns\n"


def test_the_task_of_the_page_is_a_proper_environment_with_a_judge_that_is_no_fool(checkout):
    checkout.follow(PAGE)
    checkout.python(
        """
import warnings
import numpy as np
from gymnasium.utils.env_checker import check_env
from serl_robots.model.pose import Pose
from serl_sim.envs import TaskEnv

warnings.simplefilter("ignore")
env = TaskEnv("push_cube", render_mode="rgb_array")
check_env(env)
goal = np.append(env.task.success.goal, 0.02)
tool = Pose((0.5, 0.0, 0.1), (1.0, 0.0, 0.0, 0.0))
def success(*offset):
    return env.task.judge({"cube": Pose(goal + offset), "tcp": tool}).success
assert success(0.0, 0.0, 0.0) and success(0.0, 0.019, 0.0)
assert not success(0.0, 0.0, 0.1), "held over the goal"
assert not success(0.015, 0.015, 0.0), "beside the goal"
"""
    )


@pytest.mark.graph
def test_the_task_of_the_page_is_demonstrated_in_the_graph(checkout, processes, tmp_path):
    checkout.follow(PAGE)
    file = tmp_path / "push.serl"
    command = [sys.executable, "-m", "serl_cli", "record", "push_cube", "--episodes", "2", "--out", str(file)]
    recording = processes.start(*command, env=checkout.environment)
    assert recording.wait(90.0) == 0, recording.output()
    assert "2 demonstrations" in recording.output()
    assert file.stat().st_size > 0
