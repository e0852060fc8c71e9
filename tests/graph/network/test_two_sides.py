# SPDX-License-Identifier: Apache-2.0
"""The whole graph on two hosts, by the launch files' `side`: an arm holds while it hears nothing of its learner."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running_training import online, wait_for
from serl_bench.network.wide_area import WideArea, why_not
from serl_training.link.contract import load_learning, transition_spec

from serl_tasks import get_task

pytestmark = pytest.mark.graph

TASK = get_task("pick_cube")
SPEC = transition_spec(TASK, load_learning("", TASK), None)
STEPS = 300
GOAL = {"demonstrations": 2, "max_env_steps": STEPS, "eval_every": 100_000, "eval_episodes": 1, "success_goal": 1.0}


@pytest.fixture
def network(ros_domain: int, tmp_path: Path) -> Iterator[WideArea]:
    if reason := why_not():
        pytest.skip(reason)
    with WideArea(["robot", "learner"], tmp_path) as made:
        yield made


def silent(line: dict[str, Any]) -> int:
    """Seconds that the learner has been silent, where the actor waits for it."""
    found = re.search(r"the learner: waiting for learner/insert, silent for (\d+) s .*hold", line["waiting"])
    return int(found[1]) if found else 0


@pytest.mark.timeout(300)
def test_an_arm_holds_while_its_learner_is_away_and_goes_on_with_it(
    network: WideArea, processes: Any, tmp_path: Path
) -> None:
    network.worsen(delay=0.02, loss=0.01)
    launch = (sys.executable, "-m", "serl_cli", "launch", "sim.launch.xml", "task:=pick_cube", "real_time_factor:=4")
    hold = ("learner_away:=hold", "learner_timeout:=4")
    run, heard = tmp_path / "run", tmp_path / "heard"
    heard.touch()
    learner = processes.start(*network.command("learner", [*launch, "side:=learner", f"run_dir:={run}"]))
    robot = processes.start(*network.command("robot", [*launch, "side:=robot", *hold]))
    script = Path(__file__).with_name("train_goal.py")
    client = processes.start(*network.command("robot", [sys.executable, script, heard, json.dumps(GOAL)]))

    def told() -> list[dict[str, Any]]:
        return [json.loads(line) for line in heard.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def steps() -> int:
        return max((line["env_steps"] for line in told() if line["stage"] == "training"), default=0)

    wait_for(lambda: steps() > 20, robot)
    with network.cut("learner"):
        wait_for(lambda: silent(told()[-1]) >= 4, robot)
        held = steps()
        wait_for(lambda: silent(told()[-1]) >= 8, robot)  # 160 env steps of an arm that does not hold
        assert steps() == held < STEPS
    assert client.wait(120.0) == 0, client.output()
    assert told()[-1]["stage"] == "max_env_steps", told()[-1]
    assert not told()[-2]["waiting"]
    wait_for(lambda: online(run, SPEC) >= STEPS, learner)
    assert online(run, SPEC) == told()[-1]["env_steps"]  # each transition once
