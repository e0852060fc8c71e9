# SPDX-License-Identifier: Apache-2.0
"""The lockstep graph and the environment in one process are the same task, bit for bit."""

import sys

import numpy as np
import pytest

try:
    from serl_training.graph_env import GraphEnv

    import serl_interfaces.msg  # noqa: F401 - built by colcon
    import serl_sim
except ImportError:
    pytest.skip("the workspace is not built", allow_module_level=True)

NODES = {
    "serl_sim.mujoco_bridge_node": (),
    "serl_robots.arm_controller_node": ("-p", "lockstep:=true"),
    "serl_training.reward_node": (),
}


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


@pytest.mark.parametrize(("task", "seeds"), [("pick_cube", 3), ("pick_cube_vision", 1)])
def test_an_episode_in_the_graph_is_an_episode_in_the_environment(processes, task, seeds):
    for module, arguments in NODES.items():
        command = [sys.executable, "-c", f"from {module} import main; main()", "--ros-args", "-p", f"task:={task}"]
        processes.start(*command, *arguments)
    graph, env = GraphEnv(task, reset_timeout=30.0), serl_sim.make(task)
    try:
        for seed, noise in ((0, 0.0), (1, 0.3), (2, 1.0))[:seeds]:
            expert = env.task.make_expert(np.random.default_rng(seed), noise=noise)
            ours, theirs = graph.reset(seed=seed)[0], env.reset(seed=seed)[0]
            done = False
            while not done:
                assert_same(ours, theirs)
                action = expert.act(env.world.arm_sample(), env.world.objects())
                ours, reward, terminated, truncated, info = graph.step(action)
                theirs, *expected, expected_info = env.step(action)
                assert [reward, terminated, truncated] == expected
                assert info["success"] == expected_info["success"]
                np.testing.assert_array_equal(info["executed_action"], expected_info["executed_action"])
                done = terminated or truncated
            assert_same(ours, theirs)
    finally:
        graph.close()
        env.close()
