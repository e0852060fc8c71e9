# SPDX-License-Identifier: Apache-2.0
"""The packages that others wrote, in their own virtual environments, where ``./serl setup gym NAME`` has made them."""

import sys

import numpy as np
import pytest
from serl_launch.errors import CommandError
from serl_launch.worlds import gym_python

try:
    from serl_training.env.graph_env import GraphEnv
except ImportError:
    pytest.skip("the workspace is not built", allow_module_level=True)

from serl_tasks import get_task


@pytest.fixture
def graph(processes, request):
    """The graph of a task as an environment."""
    task = get_task(request.param)
    try:
        python = gym_python(task.environment.package)
    except CommandError as error:
        pytest.skip(str(error))
    for interpreter, module, arguments in (
        (str(python), "serl_sim.gym_bridge_node", ()),
        (sys.executable, "serl_robots.arm_controller_node", ("-p", "lockstep:=true")),
    ):
        command = [interpreter, "-c", f"from {module} import main; main()", "--ros-args", "-p", f"task:={task.name}"]
        processes.start(*command, *arguments)
    env = GraphEnv(task.name, reset_timeout=60.0)
    yield env
    env.close()


@pytest.mark.parametrize("graph", ["gym-hil-pick-cube"], indirect=True)
def test_the_block_of_gym_hil_is_lifted(graph):
    teacher = graph.task.make_expert(np.random.default_rng(0))
    graph.reset(seed=5)
    for _ in range(graph.task.horizon):
        _, reward, terminated, _, info = graph.step(teacher.act(*graph.known()))
        if terminated:
            break
    assert (reward, info["success"]) == (1.0, True)


@pytest.mark.parametrize("graph", ["metaworld-drawer-open-v3"], indirect=True)
def test_a_scene_of_metaworld_is_that_of_its_seed(graph):
    ways = []
    for seed in (3, 4, 3):
        observation, _ = graph.reset(seed=seed)
        states = [observation["state"]]
        for _ in range(4):
            observation, *_ = graph.step(np.array([0.2, 0.5, -0.5, -1.0], np.float32))
            states.append(observation["state"])
        ways.append(np.array(states))
    assert np.isfinite(ways).all()
    np.testing.assert_allclose(ways[0], ways[2], atol=1e-5)
    assert not np.allclose(ways[0], ways[1], atol=1e-3)
