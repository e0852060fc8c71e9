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


def test_an_episode_in_the_graph_is_an_episode_in_the_environment(processes):
    for module, arguments in NODES.items():
        processes.start(sys.executable, "-c", f"from {module} import main; main()", "--ros-args", *arguments)
    graph, env = GraphEnv("pick_cube", reset_timeout=30.0), serl_sim.make("pick_cube")
    try:
        for seed, noise in ((0, 0.0), (1, 0.3), (2, 1.0)):
            expert = env.task.make_expert(np.random.default_rng(seed), noise=noise)
            ours, theirs = graph.reset(seed=seed)[0], env.reset(seed=seed)[0]
            done = False
            while not done:
                np.testing.assert_array_equal(ours["state"], theirs["state"])
                action = expert.act(env.world.arm_sample(), env.world.objects())
                ours, reward, terminated, truncated, info = graph.step(action)
                theirs, *expected, expected_info = env.step(action)
                assert [reward, terminated, truncated] == expected
                assert info["success"] == expected_info["success"]
                np.testing.assert_array_equal(info["executed_action"], expected_info["executed_action"])
                done = terminated or truncated
            np.testing.assert_array_equal(ours["state"], theirs["state"])
    finally:
        graph.close()
        env.close()
