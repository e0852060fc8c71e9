# SPDX-License-Identifier: Apache-2.0
"""The lockstep graph and the environment in one process are the same task, bit for bit."""

import os
import sys
from pathlib import Path

import any_action
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo

try:
    from serl_training.env.graph_connection import GraphError
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


def start_nodes(processes, task, kind="sys"):
    """Start the nodes, each of which imports the module of the task's kind first."""
    paths = os.pathsep.join([str(Path(any_action.__file__).parent), os.environ.get("PYTHONPATH", "")])
    for module, arguments in NODES.items():
        program = f"import {kind}; from {module} import main; main()"
        command = [sys.executable, "-c", program, "--ros-args", "-p", f"task:={task}"]
        processes.start(*command, *arguments, env={**os.environ, "PYTHONPATH": paths})


def write_task(monkeypatch, folder, name, text):
    """A task of the test's own, for the nodes, too."""
    (folder / "config/tasks").mkdir(parents=True)
    (folder / f"config/tasks/{name}.yaml").write_text(f"name: {name}\nextends: pick_cube\n{text}")
    monkeypatch.setenv("SERL_SHARE", str(folder))


@pytest.mark.parametrize(
    "cameras",
    [
        "{front: {size: [160, 120]}, wrist: {size: [64, 64]}}",
        "{front: {size: [64, 48], crop: [0.3, 0.2, 0.5, 0.4]}, wrist: {size: [256, 256]}}",
    ],
)
def test_pictures_of_any_size_are_those_of_the_environment(processes, ros, monkeypatch, tmp_path, cameras):
    task = f"sizes_{cameras.count('crop')}"
    write_task(monkeypatch, tmp_path, task, f"cameras: {cameras}\n")
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
OF_THE_TEST = {"pick_uncertain_cube": UNCERTAIN, "pick_in_the_frame_of_the_tool": "frame: tool" + UNCERTAIN}


@pytest.mark.parametrize(
    ("task", "seeds"),
    [
        ("pick_cube", 3),
        ("pick_cube_vision", 1),
        ("insert_peg", 2),
        ("insert_peg_vision", 1),
        ("open_drawer", 2),
        ("route_cable", 2),
        *((task, 2) for task in OF_THE_TEST),
    ],
)
def test_an_episode_in_the_graph_is_an_episode_in_the_environment(processes, monkeypatch, tmp_path, task, seeds):
    if task in OF_THE_TEST:
        write_task(monkeypatch, tmp_path, task, OF_THE_TEST[task])
    start_nodes(processes, task)
    graph, env = GraphEnv(task, reset_timeout=30.0), serl_sim.make(task)
    # A pose that goes through a message is normalized again: the last bit of that is 1e-13 m of a cable.
    rounding = 1e-11 if task == "route_cable" else 0.0
    try:
        for seed, noise in ((0, 0.0), (1, 0.3), (2, 1.0))[:seeds]:
            expert = env.task.make_expert(np.random.default_rng(seed), noise=noise)
            ours, theirs = graph.reset(seed=seed)[0], env.reset(seed=seed)[0]
            done = False
            while not done:
                assert_same(ours, theirs)
                known, objects = env.known()
                for name, pose in graph.known()[1].items():
                    np.testing.assert_allclose(pose.position, objects[name].position, 0.0, rounding, err_msg=name)
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


WITHOUT_JUDGE = """
state:
  - {name: tcp_position, shift: [0.5, 0.0, 0.15], scale: [0.15, 0.15, 0.15]}
  - {name: tcp_linear_velocity, shift: [0.0, 0.0, 0.0], scale: [0.4, 0.4, 0.4]}
  - {name: tcp_angular_velocity, shift: [0.0, 0.0, 0.0], scale: [1.0, 1.0, 1.0]}
  - {name: tcp_rotation_from_start, shift: [0.0, 0.0, 0.0], scale: [1.0, 1.0, 1.0]}
  - {name: tcp_tracking_error, shift: [0.0, 0.0, 0.0], scale: [0.01, 0.01, 0.01]}
  - {name: tcp_force, shift: [0.0, 0.0, 0.0], scale: [100.0, 100.0, 100.0]}
  - {name: tcp_torque, shift: [0.0, 0.0, 0.0], scale: [10.0, 10.0, 10.0]}
  - {name: joint_positions, shift: [0, 0, 0, 0, 0, 0, 0], scale: [3, 3, 3, 3, 3, 3, 3]}
  - {name: joint_velocities, shift: [0, 0, 0, 0, 0, 0, 0], scale: [3, 3, 3, 3, 3, 3, 3]}
  - {name: cube_rotation_from_tcp, shift: [0, 0, 0, 0, 0, 0], scale: [1, 1, 1, 1, 1, 1]}
"""
ACTIONS = {
    "joints": "action: {names: [j1, j2, j3, j4, j5, j6, j7], scale: [0.03, 0.03, 0.03, 0.03, 0.03, 0.03, 0.03]}",
    "some_joints": "action: {names: [gripper, j4, panda_joint1], scale: [0.08, 0.05, 0.05], joints: [panda_joint1]}",
    "six": "action: {names: [dx, dy, dz, rx, ry, rz], scale: [0.02, 0.02, 0.02, 0.1, 0.1, 0.1]}\nframe: tool",
    "some": "action: {names: [rz, dx, gripper], scale: [0.1, 0.02, 0.08]}\nframe: tool",
}


@pytest.mark.parametrize("task", ACTIONS)
def test_actions_of_any_kind_do_in_the_graph_what_they_do_in_the_environment(processes, monkeypatch, tmp_path, task):
    """Pushed against the limits of joints, box and cone, too: actions are extreme, and go one way for some time."""
    write_task(monkeypatch, tmp_path, task, f"kind: any_action\nhorizon: 40\n{ACTIONS[task]}\n{WITHOUT_JUDGE}")
    start_nodes(processes, task, any_action.__name__)
    graph, env = GraphEnv(task, reset_timeout=30.0), serl_sim.make(task)
    rng, size = np.random.default_rng(0), len(env.task.action)
    limits = set()

    def assert_close(ours, theirs):
        """Orientations are normalized where they arrive, so they may differ in the last bit."""
        np.testing.assert_allclose(ours["state"], theirs["state"], rtol=0.0, atol=1e-6)

    try:
        for seed in (0, 1):
            assert_close(graph.reset(seed=seed)[0], env.reset(seed=seed)[0])
            for step in range(env.task.horizon):
                if step % 10 == 0:
                    action = rng.choice([-1.0, 0.3, 1.0], size).astype(np.float32)
                ours, *_, info = graph.step(action)
                theirs, *_, expected = env.step(action)
                assert_close(ours, theirs)
                np.testing.assert_allclose(info["executed_action"], expected["executed_action"], atol=1e-6)
                assert info["limits"] == expected["limits"]
                limits |= set(info["limits"])
        assert limits & {"workspace", "orientation", "joint_limits"}, "it went to the limits"
    finally:
        graph.close()
        env.close()


def test_a_wrench_that_nobody_measures_is_named(processes, monkeypatch, tmp_path):
    write_task(monkeypatch, tmp_path, "feel", "state: [{name: tcp_force, shift: [0, 0, 0], scale: [9, 9, 9]}]")
    start_nodes(processes, "pick_cube")
    graph = GraphEnv("feel", reset_timeout=10.0)
    try:
        with pytest.raises(GraphError, match=r"the state after the reset: wrench \(mujoco_bridge, or the driver"):
            graph.reset(seed=0)
    finally:
        graph.close()
