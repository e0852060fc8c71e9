# SPDX-License-Identifier: Apache-2.0
"""Two arms and one learner, started as a person does: what dies comes back, and the others go on meanwhile."""

import csv
import json
import os
import signal
import sys
from pathlib import Path

import pytest
from running_training import chunks, online, pids, wait_for
from serl_rl.spec import TransitionSpec

from serl_tasks import get_task

pytestmark = pytest.mark.graph

TASK = get_task("pick_cube")
SPEC = TransitionSpec.from_spaces(TASK.observation_space, TASK.action_space)
GOAL = ("--goal", "0", "--confirm", "0", "--eval-every", "400", "--eval-episodes", "6")


@pytest.mark.timeout(300)  # as in test_whole_graph: on a busy machine it is starting, over and over
def test_two_arms_learn_together_whatever_of_them_is_killed(processes, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "fleet"
    words = ("train", TASK.name, "--actors", "2", "--name", "fleet", "--no-report", "--demos", "2", *GOAL)
    training = processes.start(
        "sh", "-c", f'cd "{tmp_path}" && exec "$@"', "sh", sys.executable, "-m", "serl_cli", *words
    )
    for number, node in enumerate(("actor", "mujoco_bridge", "learner", "fleet")):
        wait_for(lambda number=number: online(run, SPEC) > 80 * number, training)
        os.kill(pids(run, node)[0], signal.SIGKILL)
        wait_for(lambda node=node: len(pids(run, node)) > (node in ("actor", "mujoco_bridge")) + 1, training)
    assert training.wait(200.0) == 0, training.output()
    assert "Traceback" not in training.output()

    stored = chunks(run, SPEC)  # each acknowledged once
    assert {chunk.actor_id for chunk in stored} == {"arm_0", "arm_1"}
    assert len({(chunk.actor_id, chunk.episode) for chunk in stored if chunk.demonstration}) >= 2
    begins = [chunk.observation["state"][0].tobytes() for chunk in stored if chunk.first_step == 0]
    assert len(set(begins)) == len(begins), "no two episodes, of whichever arm, have the same start"

    result = json.loads((run / "result.json").read_text())
    assert result["termination_reason"] == "goal"
    # Of the fleet node that was killed an arm may have had an episode to end.
    assert 400 <= result["env_steps_to_goal"] <= online(run, SPEC) <= result["env_steps_to_goal"] + TASK.horizon
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["value"] for row in rows if row["name"] == "eval/episodes"] == ["6.0"], "the parts are joined"
    told = {row["node"] for row in rows if row["name"] == "train/success"}
    assert told == {"arm_0/actor", "arm_1/actor"}
