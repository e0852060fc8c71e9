# SPDX-License-Identifier: Apache-2.0
"""One graph with two arms, each behind an arm controller of its own, and one policy for both."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serl_launch.graph_session import GraphSession
from std_srvs.srv import SetBool, Trigger

try:
    from serl_ros.qos import LATCHED
    from serl_training.env.episode import EpisodeMode
    from serl_training.env.graph_env import GraphEnv

    import serl_sim
    from serl_interfaces.msg import SafetyStatus
except ImportError:
    pytest.skip("the workspace is not built", allow_module_level=True)

ARMS = ("left", "right")


def session(tmp_path: Path, **more: str) -> GraphSession:
    arguments = {"task": "lift_bar", "arms": "two", "learning_nodes": "false", **more}
    return GraphSession("sim.launch.xml", arguments, name="test", log_dir=tmp_path / "log")


def environment(graph: GraphSession, **options: Any) -> GraphEnv:
    client = graph.client
    return GraphEnv("lift_bar", node=client.node, executor=client.executor, reset_timeout=60.0, **options)


@pytest.fixture
def lockstep(ros_domain: int, tmp_path: Path) -> Iterator[GraphSession]:
    with session(tmp_path, teleop="scripted") as graph:
        yield graph


def test_two_controllers_and_one_process_are_the_same_pair_of_arms(lockstep: GraphSession) -> None:
    graph, direct = environment(lockstep), serl_sim.make("lift_bar")
    for seed in (5, 6):
        rng = np.random.default_rng(seed)
        here, _ = graph.reset(seed=seed)
        there, _ = direct.reset(seed=seed)
        np.testing.assert_allclose(here["state"], there["state"], atol=1e-6)
        acted = set()
        for step in range(24):
            # towards each other first, so that their hands have to be kept apart
            action = rng.uniform(-1.0, 1.0, 8).astype(np.float32)
            action[1], action[5] = (-1.0, 1.0) if step < 12 else action[[1, 5]]
            here, reward, terminated, truncated, ours = graph.step(action)
            there, *rest, theirs = direct.step(action)
            np.testing.assert_allclose(here["state"], there["state"], atol=1e-5)
            np.testing.assert_allclose(ours["executed_action"], theirs["executed_action"], atol=1e-6)
            assert [reward, terminated, truncated] == rest
            acted.update(ours["limits"])
        assert "keep_apart" in acted


def test_a_person_leads_both_and_a_stop_of_one_stops_the_other(lockstep: GraphSession) -> None:
    env, client = environment(lockstep), lockstep.client
    wins = 0
    for seed in range(3):
        env.reset(seed=seed, options={"mode": EpisodeMode.DEMONSTRATION, "human_expected": True})
        over = False
        while not over:
            *_, terminated, truncated, info = env.step(env.rest_action)
            over = terminated or truncated
        wins += info["success"]
    assert wins >= 2

    stopped: dict[str, bool] = {}
    for arm in ARMS:
        client.node.create_subscription(
            SafetyStatus, f"{arm}/arm/safety", lambda message, arm=arm: stopped.update({arm: message.estop}), LATCHED
        )
    assert client.spin_until(lambda: stopped == dict.fromkeys(ARMS, False), 10.0)
    stop = client.node.create_client(SetBool, "right/arm/estop")
    assert client.spin_until(stop.service_is_ready, 10.0)
    future = stop.call_async(SetBool.Request(data=True))
    assert client.spin_until(future.done, 10.0) and future.result().success
    assert client.spin_until(lambda: stopped == dict.fromkeys(ARMS, True), 10.0)
    assert env.estop
    for arm in ARMS:
        release = client.node.create_client(Trigger, f"{arm}/arm/reset_estop")
        assert client.spin_until(release.service_is_ready, 10.0)
        future = release.call_async(Trigger.Request())
        assert client.spin_until(future.done, 10.0) and future.result().success
    assert client.spin_until(lambda: stopped == dict.fromkeys(ARMS, False), 10.0)
    env.reset(seed=0)
    assert not env.step(env.rest_action)[4]["interrupted"]


def test_in_real_time_both_arms_follow_and_stand_where_the_policy_falls_silent(ros_domain: int, tmp_path: Path) -> None:
    with session(tmp_path, teleop="none", real_time_factor="1.0") as graph:
        env = environment(graph, lockstep=False)
        env.reset(seed=0)
        before = {arm: env.objects[f"{arm}/tcp"].position[0] for arm in ARMS}
        apart = env.rest_action
        apart[0], apart[4] = 0.5, -0.5
        for _ in range(8):
            *_, info = env.step(apart)
        assert info["executed_action"].shape == (8,)
        moved = {arm: env.objects[f"{arm}/tcp"].position[0] - before[arm] for arm in ARMS}
        assert moved["left"] > 0.03 and moved["right"] < -0.03
        client, safety = graph.client, {}
        for arm in ARMS:
            client.node.create_subscription(
                SafetyStatus, f"{arm}/arm/safety", lambda message, arm=arm: safety.update({arm: message.mode}), LATCHED
            )
        assert client.spin_until(lambda: safety == dict.fromkeys(ARMS, SafetyStatus.MODE_IDLE), 10.0)
