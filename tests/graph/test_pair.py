# SPDX-License-Identifier: Apache-2.0
"""Two tasks learned by turns through the whole graph, as a person starts it: nobody resets, and nothing gets lost."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running_training import chunks, online, pids, wait_for
from serl_launch.graph_session import GraphSession
from serl_rl.spec import TransitionSpec
from serl_training.env.graph_env import GraphEnv
from serl_training.env.graph_reset import SimulatorReset
from serl_training.env.graph_turns import TurnReset
from serl_training.link.contract import load_learning, transition_spec

from serl_tasks import get_task

pytestmark = pytest.mark.graph

SERL = (sys.executable, "-m", "serl_cli")
NAMES = ("relocate_forward", "relocate_backward")
TASKS = {name: get_task(name) for name in NAMES}
SPECS: dict[str, TransitionSpec] = {
    name: transition_spec(task, load_learning("", task), None) for name, task in TASKS.items()
}


def both_online(run: Path) -> int:
    """Online transitions of both."""
    return sum(online(run / name, SPECS[name]) for name in NAMES)


@pytest.mark.timeout(480)  # as the waits below: on a busy machine it is starting, over and over
def test_two_tasks_are_learned_by_turns_and_survive_kills(processes: Any, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "pair"
    inside = ("sh", "-c", f'cd "{tmp_path}" && exec "$@"', "sh", *SERL)
    options = ("--eval-episodes", "4", "--eval-every", "100000", "--demos", "2", "--no-report", "--interventions")
    training = processes.start(
        *inside, "train", NAMES[0], "--with", NAMES[1], "--name", "pair", "--max-steps", "600", *options
    )
    for node in ("actor", "learner", "reward"):  # of the latter two there are two each
        for which in range(1 if node == "actor" else 2):
            before = wait_for(lambda: both_online(run), training)
            wait_for(lambda before=before: both_online(run) > before + 20, training)
            os.kill(wait_for(lambda node=node: pids(run, node), training)[which], signal.SIGKILL)
    assert training.wait(240.0) == 1, training.output()  # the goal was not reached: no evaluation was due
    assert "Traceback" not in training.output()
    result = json.loads((run / "result.json").read_text())
    assert result["termination_reason"] == "max_env_steps"
    assert (result["task"], result["partner"]) == NAMES
    assert 600 <= both_online(run) <= 600 + TASKS[NAMES[0]].horizon
    assert set(result["autonomy"]) == set(NAMES)
    assert any(autonomy["episodes"] >= 1 for autonomy in result["autonomy"].values() if autonomy)
    numbers: set[int] = set()
    for name in NAMES:
        stored = chunks(run / name, SPECS[name])
        assert sum(chunk.last for chunk in stored if chunk.demonstration) >= 2
        assert any(not chunk.demonstration for chunk in stored)
        assert not numbers & {chunk.episode for chunk in stored}, "an episode is of one task"
        numbers |= {chunk.episode for chunk in stored}

    resumed = processes.start(*inside, "train", "--resume", "pair", "--max-steps", "650", "--no-report")
    assert resumed.wait(120.0) == 1, resumed.output()
    assert both_online(run) >= 650

    evaluation = processes.start(*inside, "eval", "pair", "--episodes", "3", "--json")
    assert evaluation.wait(90.0) == 0, evaluation.output()
    output = evaluation.output()
    found = json.loads(output[output.index("{") : output.rindex("}") + 1])
    assert sum(each["episodes"] for each in found["tasks"].values()) == found["episodes"] == 3
    assert "resets" in found


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
