# SPDX-License-Identifier: Apache-2.0
"""The graph does the same with rclpy's own executor, which is what an rclpy that we do not know leaves us."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from serl_launch.graph_session import GraphSession
from serl_ros.execution.executor import CHOICE
from serl_training.env.graph_env import GraphEnv


def test_a_graph_on_rclpys_own_executor_steps(ros_domain: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CHOICE, "rclpy")
    arguments = {"task": "pick_cube", "learning_nodes": "false"}
    with GraphSession("sim.launch.xml", arguments, name="test", log_dir=tmp_path / "log") as session:
        executor = session.client.executor
        assert not executor.is_fast
        env = GraphEnv("pick_cube", node=session.client.node, executor=executor, reset_timeout=60.0)
        for seed in range(2):
            env.reset(seed=seed, options={"human_expected": True})
            steps = [env.step(np.zeros(4, np.float32)) for _ in range(5)]
            assert all(np.isfinite(step[0]["state"]).all() for step in steps)
        session.check()
