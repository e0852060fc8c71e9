# SPDX-License-Identifier: Apache-2.0
"""The graph of `trainer:=agentlace://...`: a trainer server in the test's process is its learner."""

from __future__ import annotations

import json
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running_training import wait_for
from serl_rl.spec import TransitionSpec

from serl_tasks import get_task

pytest.importorskip("zmq", reason="./serl setup agentlace")
pytest.importorskip("lz4.frame", reason="./serl setup agentlace")
from serl_agentlace import QueuedDataStore, TrainerConfig, TrainerServer

pytestmark = pytest.mark.graph

TASK = get_task("pick_cube")
SPEC = TransitionSpec.from_spaces(TASK.observation_space, TASK.action_space)
GOAL = {"demonstrations": 0, "max_env_steps": 600, "eval_every": 100_000, "eval_episodes": 1, "success_goal": 1.0}


def always(value: float) -> dict[str, Any]:
    """Parameters as SERL's agent has them, of a policy whose actions are `value` in every component."""
    (state,), actions = SPEC.observation["state"].shape, SPEC.action_dim
    layer = {"kernel": np.zeros((state, 4), np.float32), "bias": np.zeros(4, np.float32)}
    norm = {"scale": np.ones(4, np.float32), "bias": np.zeros(4, np.float32)}
    mean, deviation = (
        {"kernel": np.zeros((4, actions), np.float32), "bias": np.full(actions, each, np.float32)}
        for each in (np.arctanh(value), -20.0)
    )
    network = {"Dense_0": layer, "LayerNorm_0": norm}
    return {"modules_actor": {"network": network, "Dense_0": mean, "Dense_1": deviation}}


@pytest.mark.timeout(240)
def test_a_trainer_server_gets_what_the_arm_does_and_no_learner_of_ours_runs(processes: Any, tmp_path: Path) -> None:
    with ExitStack() as stack:
        free = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        port, broadcast = (each.getsockname()[1] for each in free)
    server = TrainerServer(
        TrainerConfig(port, broadcast, request_types=["send-stats"]), request_callback=lambda _kind, _payload: {}
    )
    own, led = QueuedDataStore(10_000), QueuedDataStore(10_000)
    server.register_data_store("actor_env", own)
    server.register_data_store("actor_env_intvn", led)
    server.start(threaded=True)
    server.publish_network(always(0.25))
    try:
        launch = [sys.executable, "-m", "serl_cli", "launch", "sim.launch.xml", "task:=pick_cube"]
        graph = processes.start(*launch, f"trainer:=agentlace://127.0.0.1:{port}")
        script = Path(__file__).parents[1] / "network" / "train_goal.py"
        heard = tmp_path / "heard"
        client = processes.start(sys.executable, str(script), str(heard), json.dumps(GOAL))
        wait_for(lambda: own.latest_data_id() >= 599, graph, 150.0)
        assert client.wait(60.0) == 0, client.output() + graph.output()
        assert json.loads(heard.read_text().splitlines()[-1])["stage"] == "max_env_steps"
        assert "[actor-" in graph.output() and "[learner-" not in graph.output()
    finally:
        server.stop()
    items = own.get_latest_data(-1)
    assert len(items) >= 600
    size = SPEC.observation["state"].shape
    assert all(item["observations"].shape == size == item["next_observations"].shape for item in items)
    assert all(item["actions"].shape == (SPEC.action_dim,) and np.isfinite(item["actions"]).all() for item in items)
    followed = [item for item in items if np.allclose(item["actions"], 0.25, atol=1e-3)]
    assert len(followed) >= 5, [item["actions"] for item in items[-3:]]
