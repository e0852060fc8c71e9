# SPDX-License-Identifier: Apache-2.0
"""Two arms and one learner, started as a person does: what dies comes back, others join, and all go on meanwhile."""

import csv
import json
import os
import re
import shlex
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
STEPS = 1500
GOAL = ("--goal", "0", "--confirm", "0", "--eval-every", str(STEPS), "--eval-episodes", "6")


@pytest.mark.timeout(300)  # as in test_whole_graph: on a busy machine it is starting, over and over
def test_arms_learn_together_whatever_is_killed_and_whoever_joins_meanwhile(processes, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "fleet"
    words = ("train", TASK.name, "--actors", "2", "--name", "fleet", "--no-report", "--demos", "2", *GOAL)
    training = processes.start(
        "sh", "-c", f'cd "{tmp_path}" && exec "$@"', "sh", sys.executable, "-m", "serl_cli", *words
    )

    def kill(node: str, returns: int) -> None:
        os.kill(pids(run, node)[-1], signal.SIGKILL)
        wait_for(lambda: len(pids(run, node)) >= returns, training)

    wait_for(lambda: online(run, SPEC) > 0, training)
    kill("actor", 3)
    wait_for(lambda: online(run, SPEC) > 80, training)
    kill("mujoco_bridge", 3)
    # A third arm joins by the command that the training names, while the others wait for the learner.
    os.kill(pids(run, "learner")[-1], signal.SIGSTOP)
    joining = re.search(r"another arm joins by ROS_DOMAIN_ID=(\d+) \./serl (launch .*)", training.output())
    assert joining, training.output()
    words = (sys.executable, "-m", "serl_cli", *shlex.split(joining[2]))
    late = processes.start(*words, env={"ROS_DOMAIN_ID": joining[1]})
    wait_for(lambda: "arm_2 has joined" in (run / "log" / "launch.log").read_text(), late)
    os.kill(pids(run, "learner")[-1], signal.SIGCONT)
    wait_for(lambda: any(chunk.actor_id == "arm_2" for chunk in chunks(run, SPEC)), training)
    kill("learner", 2)
    late.stop()  # and leaves again
    kill("fleet", 2)
    assert training.wait(200.0) == 0, training.output()
    assert "Traceback" not in training.output()

    stored = chunks(run, SPEC)  # each acknowledged once
    assert {chunk.actor_id for chunk in stored} == {"arm_0", "arm_1", "arm_2"}
    assert len({(chunk.actor_id, chunk.episode) for chunk in stored if chunk.demonstration}) >= 2
    begins = [chunk.observation["state"][0].tobytes() for chunk in stored if chunk.first_step == 0]
    assert len(set(begins)) == len(begins), "no two episodes, of whichever arm, have the same start"

    result = json.loads((run / "result.json").read_text())
    assert result["termination_reason"] == "goal"
    # Of the fleet node that was killed an arm may have had an episode to end.
    assert STEPS <= result["env_steps_to_goal"] <= online(run, SPEC) <= result["env_steps_to_goal"] + TASK.horizon
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["value"] for row in rows if row["name"] == "eval/episodes"] == ["6.0"], "the parts are joined"
    told = {row["node"] for row in rows if row["name"] == "train/success"}
    assert {"arm_0/actor", "arm_1/actor"} <= told <= {"arm_0/actor", "arm_1/actor", "arm_2/actor"}
    counted = [row["value"] for row in rows if row["name"] == "autonomy/episodes" and row["node"] == "fleet"]
    # An episode that ends with the training may be heard by one of the two alone.
    assert result["autonomy"]["episodes"] in [float(each) for each in counted[-3:]]
