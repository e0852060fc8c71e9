# SPDX-License-Identifier: Apache-2.0
"""The graph of real.launch.xml with two arms: a driver and an arm controller in the namespace of each."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from serl_launch.graph_session import GraphSession
from std_srvs.srv import SetBool

try:
    from serl_ros.qos import LATCHED
    from serl_training.env.graph_env import GraphEnv
    from serl_training.env.graph_reset import MotionReset

    from serl_interfaces.msg import SafetyStatus
except ImportError:
    pytest.skip("the workspace is not built", allow_module_level=True)

pytestmark = pytest.mark.graph

ARMS = ("left", "right")
PATIENCE = 60.0  # [s]
EMULATED = {
    "task": "lift_bar",
    "arms": "two",
    "hardware": "emulated",
    "driver": "mock",
    "teleop": "none",
    "learning_nodes": "false",
    "console": "false",
}


@pytest.fixture
def graph(ros_domain: int, tmp_path: Path) -> Iterator[GraphSession]:
    arguments = EMULATED | {"run_dir": str(tmp_path / "run")}
    with GraphSession("real.launch.xml", arguments, name="test", log_dir=tmp_path / "log") as session:
        yield session


@pytest.mark.timeout(240)
def test_each_driver_moves_its_arm_and_a_stop_of_one_arm_stops_both(graph: GraphSession) -> None:
    client = graph.client
    drivers: dict[str, str] = {}
    stopped: dict[str, bool] = {}
    for arm in ARMS:
        client.node.create_subscription(
            DiagnosticStatus,
            f"{arm}/driver/status",
            lambda message, arm=arm: drivers.update({arm: message.values[0].value}),
            LATCHED,
        )
        client.node.create_subscription(
            SafetyStatus, f"{arm}/arm/safety", lambda message, arm=arm: stopped.update({arm: message.estop}), LATCHED
        )
    env = GraphEnv(
        "lift_bar",
        node=client.node,
        executor=client.executor,
        lockstep=False,
        reset=lambda graph, timeout: MotionReset(graph, timeout, PATIENCE),
        reset_timeout=PATIENCE,
        step_timeout=20.0,
    )
    env.reset(seed=0)
    task = env.task
    for arm in ARMS:  # where the tool is in the world that goes along with both drivers
        start = task.base(arm).transform(task.start.tcp_position)
        assert env.objects[f"{arm}/tcp"].position == pytest.approx(start, abs=0.03)
    assert set(drivers) == set(ARMS) and set(drivers.values()) <= {"holding", "active"}

    before = {arm: env.objects[f"{arm}/tcp"].position[0] for arm in ARMS}
    action = env.rest_action
    action[0], action[4] = 0.5, -0.5
    for _ in range(8):
        *_, info = env.step(action)
    assert info["executed_action"].shape == (8,)
    moved = {arm: env.objects[f"{arm}/tcp"].position[0] - before[arm] for arm in ARMS}
    assert moved["left"] > 0.03 and moved["right"] < -0.03

    assert client.spin_until(lambda: stopped == dict.fromkeys(ARMS, False), 10.0)
    stop = client.node.create_client(SetBool, "left/arm/estop")
    assert client.spin_until(stop.service_is_ready, 10.0)
    future = stop.call_async(SetBool.Request(data=True))
    assert client.spin_until(future.done, 10.0) and future.result().success
    assert client.spin_until(lambda: stopped == dict.fromkeys(ARMS, True), 10.0)
