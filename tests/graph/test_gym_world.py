# SPDX-License-Identifier: Apache-2.0
"""A Gymnasium environment that knows nothing of us is a world of the graph like any other."""

import itertools
import os
import sys
from pathlib import Path

import numpy as np
import point_environment
import pytest
from std_srvs.srv import SetBool, Trigger

try:
    from serl_training.env.episode import WorldBroken
    from serl_training.env.graph_env import GraphEnv

    from serl_interfaces.msg import ExecutedAction
except ImportError:
    pytest.skip("the workspace is not built", allow_module_level=True)

from serl_tasks import get_task

NAMES = (f"point_{number}" for number in itertools.count())  # a task is read once in a process


@pytest.fixture
def start(processes, monkeypatch, tmp_path):
    """Starts bridge and arm controller on a task whose environment is one of `point_environment`."""

    def begin(environment="point_environment:PointReach-v0", extra=""):
        name = next(NAMES)
        (tmp_path / "config/tasks").mkdir(parents=True)
        text = point_environment.task(name, environment) + extra
        (tmp_path / f"config/tasks/{name}.yaml").write_text(text)
        monkeypatch.setenv("SERL_SHARE", str(tmp_path))
        path = os.pathsep.join([str(Path(point_environment.__file__).parent), os.environ.get("PYTHONPATH", "")])
        bridge = None
        for module, arguments in (
            ("serl_sim.gym_bridge_node", ()),
            ("serl_robots.arm_controller_node", ("-p", "lockstep:=true")),
        ):
            command = [sys.executable, "-c", f"from {module} import main; main()", "--ros-args", "-p", f"task:={name}"]
            process = processes.start(*command, *arguments, env={**os.environ, "PYTHONPATH": path})
            bridge = bridge or process
        return name, bridge

    return begin


@pytest.fixture
def graph(start, request):
    """The graph as an environment."""
    name, _ = start(**getattr(request, "param", {}))
    env = GraphEnv(name, reset_timeout=30.0)
    yield env
    env.close()


CAMERA = {"extra": "cameras: {front: {size: [64, 48]}}\n"}


@pytest.mark.parametrize("graph", [CAMERA], indirect=True)
def test_an_episode_of_the_graph_is_one_of_the_environment(graph):
    """What the safety filter lets through is what the environment does, twice the same, pictures included."""
    task, theirs = graph.task, point_environment.PointReach()
    teacher = task.make_expert(np.random.default_rng(0))
    for seed in (3, 4, 3):
        observation, _ = graph.reset(seed=seed)
        expected = theirs.reset(seed=seed)[0]
        done = False
        while not done:
            np.testing.assert_allclose(graph.objects["mark"].position, theirs.mark, atol=1e-12)
            np.testing.assert_allclose(graph.arm_sample.tcp.position, expected["hand"]["position"], atol=1e-6)
            np.testing.assert_allclose(graph.arm_sample.gripper_width, 0.1 * expected["hand"]["opening"][0], atol=1e-9)
            np.testing.assert_array_equal(observation["front"], theirs.render())
            action = teacher.act(*graph.known())
            observation, reward, terminated, truncated, info = graph.step(action)
            executed = info["executed_action"]
            # The way of one control step, in two of its own; the gripper's component comes first, and closes at 1.
            way = np.append(-executed[3], executed[:3] * 0.04 / (2 * point_environment.STEP))
            for _ in range(2):
                expected, *_, told = theirs.step(np.clip(way, -1.0, 1.0).astype(np.float32))
                if told["is_success"]:
                    break
            assert (reward, terminated, info["success"]) == (float(told["is_success"]),) + 2 * (told["is_success"],)
            done = terminated or truncated
        assert terminated, "its teacher does it"


def test_the_limits_hold_in_this_world_too(graph):
    graph.reset(seed=0)
    for _ in range(12):
        _, *_, info = graph.step(np.array([1.0, 0.0, 0.0, 1.0], np.float32))
    assert "workspace" in info["limits"]
    assert graph.arm_sample.tcp.position[0] <= 0.3 + 1e-9


def test_the_e_stop_holds_the_hand(graph, ros):
    graph.reset(seed=0)
    node = ros.node()
    stop, release = node.create_client(SetBool, "arm/estop"), node.create_client(Trigger, "arm/reset_estop")
    ros.spin_until(lambda: stop.service_is_ready() and release.service_is_ready())
    graph.step(np.array([1.0, 0.0, 0.0, 1.0], np.float32))
    future = stop.call_async(SetBool.Request(data=True))
    ros.spin_until(future.done)
    assert future.result().success
    where = []
    for _ in range(4):
        _, *_, info = graph.step(np.array([1.0, 1.0, 1.0, -1.0], np.float32))
        where.append(graph.arm_sample.tcp.position)
        assert info["source"] == ExecutedAction.SOURCE_ESTOP
    assert graph.estop
    np.testing.assert_allclose(where[-1], where[1], atol=1e-6)
    future = release.call_async(Trigger.Request())
    ros.spin_until(future.done)
    for _ in range(2):
        _, *_, info = graph.step(np.array([-1.0, 0.0, 0.0, 1.0], np.float32))
    assert info["source"] == ExecutedAction.SOURCE_POLICY
    assert graph.arm_sample.tcp.position[0] < where[-1][0]


@pytest.mark.parametrize("graph", [{"environment": "point_environment:PointBreaks-v0"}], indirect=True)
def test_an_environment_that_fails_loses_its_episode_and_no_more(graph):
    graph.reset(seed=0)
    rest = graph.rest_action
    for _ in range(2):
        graph.step(rest)
    with pytest.raises(WorldBroken, match=r"ArithmeticError: the point is.* lost; waits for sim/reset"):
        graph.step(rest)
    graph.reset(seed=1)
    graph.step(rest)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ("point_environment:PointKeys-v0", "expected actions of real numbers, a Box of shape (n,), found Discrete(4)"),
        ("point_environment:PointWhat-v0", "expected the id of an environment, found: "),
    ],
)
def test_what_does_not_fit_is_refused(start, environment, words):
    _, bridge = start(environment)
    assert bridge.wait(30.0) != 0
    assert words in bridge.output()


def test_a_missing_package_is_named(start):
    _, bridge = start("not_installed:Thing-v0")
    assert bridge.wait(30.0) != 0
    assert "No module named 'not_installed'; expected a package that is installed beside this node" in bridge.output()


def test_the_environment_alone_judges(start):
    with pytest.raises(RuntimeError, match="only its environment knows whether it is done"):
        get_task(start()[0]).judge({})
