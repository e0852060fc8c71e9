# SPDX-License-Identifier: Apache-2.0
"""Two tasks by turns in the whole graph: nobody resets what lies within reach."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serl_launch.graph_session import GraphSession
from serl_training.env.graph_env import GraphEnv
from serl_training.env.graph_reset import SimulatorReset
from serl_training.env.graph_turns import TurnReset

from serl_tasks import get_task

pytestmark = pytest.mark.graph

NAMES = ("relocate_forward", "relocate_backward")
TASKS = {name: get_task(name) for name in NAMES}


@pytest.fixture
def world(ros_domain: int, tmp_path: Path) -> Iterator[GraphSession]:
    arguments = {"task": NAMES[0], "partner": NAMES[1], "teleop": "none", "learning_nodes": "false"}
    with GraphSession("sim.launch.xml", arguments, name="test", log_dir=tmp_path / "log") as session:
        yield session


def test_where_one_has_ended_the_other_begins_and_what_fell_out_of_reach_is_reset(world: GraphSession) -> None:
    def reset(graph: Any, timeout: float) -> TurnReset:
        return TurnReset(graph, timeout, SimulatorReset(graph, timeout), truth=True, patience=5.0)

    node, executor = world.client.node, world.client.executor
    env = GraphEnv(
        TASKS[NAMES[0]], partner=TASKS[NAMES[1]], node=node, executor=executor, reset=reset, reset_timeout=60.0
    )
    turns = env._reset
    assert isinstance(turns, TurnReset)
    rng = np.random.default_rng(0)
    name, done, cube = turns.first(), [], None
    for episode in range(6):
        env.reset(seed=episode, options={"task": name})
        if cube is not None:
            np.testing.assert_allclose(env.objects["cube"].position, cube, atol=0.01)
        start = env.task.start
        assert (abs(env.arm_sample.tcp.position - start.tcp_position) < np.array(start.spread) + 0.02).all()
        expert, over, info = env.task.make_expert(rng), False, {}
        while not over:
            *_, terminated, truncated, info = env.step(expert.act(*env.known()))
            over = terminated or truncated
        done.append((name, info["success"]))
        name, cube = turns.after(name, info["success"]), env.objects["cube"].position
    assert done == [(NAMES[episode % 2], True) for episode in range(6)]
    assert turns.resets == 0

    # Gripped and let go of beyond the rim.
    env.reset(seed=6, options={"task": name})
    expert = env.task.make_expert(rng)
    while env.objects["cube"].position[2] < 0.1:
        action = expert.act(*env.known())
        held = abs(env.objects["cube"].position - env.arm_sample.tcp.position).max() < 0.02
        env.step(np.array([0.0, 0.0, 1.0, -1.0], np.float32) if held and action[3] < 0.0 else action)
    for action in (*[(1.0, 0.0, 0.0, -1.0)] * 8, *[(1.0, 0.0, 0.0, 1.0)] * 8):
        env.step(np.array(action, np.float32))
    turns.after(name, success=False)
    assert env.objects["cube"].position[0] > 0.62, "it lies out of reach"
    for name in reversed(NAMES):
        env.reset(seed=7, options={"task": name})
        assert turns.resets == 1
        if name == NAMES[1]:
            expected = TASKS[name].sample_objects(np.random.default_rng(7))["cube"].position
            np.testing.assert_allclose(env.objects["cube"].position[:2], expected[:2], atol=0.005)
