# SPDX-License-Identifier: Apache-2.0
"""The lockstep graph and the environment in one process are the same task, bit for bit."""

import sys

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo

try:
    from serl_training.env.graph_env import GraphEnv

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


def start_nodes(processes, task):
    for module, arguments in NODES.items():
        command = [sys.executable, "-c", f"from {module} import main; main()", "--ros-args", "-p", f"task:={task}"]
        processes.start(*command, *arguments)


@pytest.mark.parametrize(
    "cameras",
    [
        "{front: {size: [160, 120]}, wrist: {size: [64, 64]}}",
        "{front: {size: [64, 48], crop: [0.3, 0.2, 0.5, 0.4]}, wrist: {size: [256, 256]}}",
    ],
)
def test_pictures_of_any_size_are_those_of_the_environment(processes, ros, monkeypatch, tmp_path, cameras):
    task = f"sizes_{cameras.count('crop')}"
    (tmp_path / "config/tasks").mkdir(parents=True)
    (tmp_path / f"config/tasks/{task}.yaml").write_text(f"name: {task}\nextends: pick_cube\ncameras: {cameras}\n")
    monkeypatch.setenv("SERL_SHARE", str(tmp_path))
    start_nodes(processes, task)
    infos = []
    ros.node().create_subscription(CameraInfo, "wrist/color/camera_info", infos.append, 1)
    graph, env = GraphEnv(task, reset_timeout=30.0), serl_sim.make(task)
    try:
        assert_same(graph.reset(seed=1)[0], env.reset(seed=1)[0])
        for _ in range(3):
            action = env.action_space.sample()
            assert_same(graph.step(action)[0], env.step(action)[0])
        ros.spin_until(lambda: infos)
        assert (infos[0].width, infos[0].height) == env.task.cameras["wrist"].size
    finally:
        graph.close()
        env.close()


UNCERTAIN = """
errors:
  tool_position: [0.002, 0.002, 0.001]
  objects: {cube: [0.004, 0.004, 0.0]}
  objects_yaw_deg: {cube: 5.0}
  observation_noise: 0.01
state:
  - {name: tcp_position, shift: [0.5, 0.0, 0.15], scale: [0.15, 0.15, 0.15]}
  - {name: tcp_tracking_error, shift: [0.0, 0.0, 0.0], scale: [0.01, 0.01, 0.01]}
  - {name: tcp_position_from_start, shift: [0.0, 0.0, 0.0], scale: [0.15, 0.15, 0.15]}
  - {name: tcp_rotation_from_start, shift: [0.0, 0.0, 0.0], scale: [0.1, 0.1, 0.1]}
  - {name: cube_from_tcp, shift: [0.0, 0.0, 0.0], scale: [0.1, 0.1, 0.1]}
  - {name: cube_from_tcp, shift: [0.0, 0.0, 0.0], scale: [0.01, 0.01, 0.01], clip: 2.0}
  - {name: last_action, shift: [0.0, 0.0, 0.0, 0.0], scale: [1.0, 1.0, 1.0, 1.0]}
  - {name: time, shift: [0.5], scale: [0.5]}
"""
OF_THE_TEST = {"pick_uncertain_cube": UNCERTAIN}


@pytest.mark.parametrize(
    ("task", "seeds"), [("pick_cube", 3), ("pick_cube_vision", 1), *((task, 2) for task in OF_THE_TEST)]
)
def test_an_episode_in_the_graph_is_an_episode_in_the_environment(processes, monkeypatch, tmp_path, task, seeds):
    if task in OF_THE_TEST:
        (tmp_path / "config/tasks").mkdir(parents=True)
        (tmp_path / f"config/tasks/{task}.yaml").write_text(f"name: {task}\nextends: pick_cube\n{OF_THE_TEST[task]}")
        monkeypatch.setenv("SERL_SHARE", str(tmp_path))
    start_nodes(processes, task)
    graph, env = GraphEnv(task, reset_timeout=30.0), serl_sim.make(task)
    try:
        for seed, noise in ((0, 0.0), (1, 0.3), (2, 1.0))[:seeds]:
            expert = env.task.make_expert(np.random.default_rng(seed), noise=noise)
            ours, theirs = graph.reset(seed=seed)[0], env.reset(seed=seed)[0]
            done = False
            while not done:
                assert_same(ours, theirs)
                known, objects = env.known()
                for name, pose in graph.known()[1].items():
                    np.testing.assert_array_equal(pose.position, objects[name].position)
                action = expert.act(known, objects)
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
