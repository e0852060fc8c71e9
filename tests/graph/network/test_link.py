# SPDX-License-Identifier: Apache-2.0
"""Two machines with a link with keys alone: they train, a cut loses nothing, and a stranger gets nothing."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("zenoh", reason="./serl setup link")
pytest.importorskip("cryptography", reason="./serl setup link")
from running_training import online, wait_for
from serl_bench.network.wan import run_over_network
from serl_bench.network.wide_area import WideArea, why_not
from serl_launch.language.packages import find_executable
from serl_link.keys import make_keys
from serl_rl.spec import TransitionSpec

from serl_tasks import get_task

pytestmark = pytest.mark.graph

ROBOT, LEARNER, STRANGER = "10.77.0.1", "10.77.0.2", "10.77.0.3"
UNSET = dict.fromkeys(
    (
        *("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"),
        *("ROS_STATIC_PEERS", "ROS_AUTOMATIC_DISCOVERY_RANGE"),
    ),
    "",
)  # as ./serl finds it where nobody has opened the network
TRAIN = """
from rclpy.action import ActionClient
from serl_launch.clients.client_node import Client
from serl_interfaces.action import Train

goal = Train.Goal(demonstrations=1, max_env_steps=40, eval_every=40, eval_episodes=1, success_goal=0.99)
with Client() as client:
    train = ActionClient(client.node, Train, "train")
    client.spin_until(train.server_is_ready, 60.0)
    sent = train.send_goal_async(goal)
    client.spin_until(sent.done, 10.0)
    result = sent.result().get_result_async()
    client.spin_until(result.done, float("inf"))
    print("TRAINED", result.result().result.termination_reason, result.result().result.env_steps)
"""
LOOK = """
import time, rclpy
from serl_interfaces.msg import PolicyParameters
rclpy.init()
node, found, end = rclpy.create_node("stranger"), set(), time.monotonic() + 5.0
node.create_subscription(PolicyParameters, "learner/policy", lambda _: print("READ", flush=True), 1)
while time.monotonic() < end:
    rclpy.spin_once(node, timeout_sec=0.1)
print("FOUND", sorted(set(node.get_node_names()) - {"stranger"}))
"""


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    if reason := why_not():
        pytest.skip(reason)
    for name in ("keys", "others"):
        make_keys(tmp_path / name, [LEARNER])
    return tmp_path / "keys"


@pytest.fixture
def network(keys: Path, tmp_path: Path) -> Iterator[WideArea]:
    del keys
    with WideArea(["robot", "learner", "stranger"], tmp_path) as area:
        yield area


@pytest.mark.usefixtures("ros_domain")
def test_a_cut_of_the_link_loses_nothing_acknowledged(keys: Path, tmp_path: Path) -> None:
    folder = tmp_path / "wan"
    folder.mkdir()
    run = run_over_network(folder, cuts=1, cut_seconds=10.0, between=5.0, keys=keys)
    assert run.lost == 0
    assert run.acknowledged == run.steps // 8 * 8  # all that was handed over, in the end
    assert run.longest_backlog >= 64  # it was cut: there were 100 steps
    assert run.policies > 1


def test_two_sides_train_over_it_and_a_stranger_reads_and_moves_nothing(network, processes, keys, tmp_path) -> None:
    def side(name: str, folder: Path, *more: str) -> list[str]:
        link = (f"link:={LEARNER}:7447", f"link_keys:={folder}")
        words = ["./serl", "launch", "sim.launch.xml", "task:=pick_cube", f"side:={name}", *link, *more]
        return network.command(name, words, UNSET)

    run = tmp_path / "run"
    learner = processes.start(*side("learner", keys / "learner", f"run_dir:={run}"))
    robot = processes.start(*side("robot", keys / "robot"))
    wait_for(lambda: "joined: learner at" in robot.output(), robot)
    train = processes.start(*network.command("robot", ["./serl", "shell", "python", "-c", TRAIN], UNSET))
    wait_for(lambda: (run / "journal").is_dir(), learner)

    # Somebody else in the network: by ROS 2, and by a link with keys of another run.
    spy = processes.start(*network.command("stranger", [sys.executable, "-c", LOOK]))
    wait_for(lambda: "FOUND" in spy.output() or spy.poll() is not None, learner)
    assert "FOUND []" in spy.output(), spy.output()
    assert "READ" not in spy.output()
    link = [str(find_executable("serl_link", "link", os.environ)), "--ros-args", "-p", "side:=robot"]
    link += ["-p", f"at:={LEARNER}:7447", "-p", f"keys:={tmp_path / 'others/robot'}"]
    foreign = processes.start(*network.command("stranger", link))
    wait_for(lambda: "its certificate is refused" in foreign.output(), foreign)
    seen = rf"refused a stranger, seen at port 7447: {STRANGER}: its certificate is by another authority"
    wait_for(lambda: re.search(seen, learner.output()), learner)

    wait_for(lambda: "TRAINED" in train.output() or train.poll() is not None, robot)
    trained = re.search(r"TRAINED max_env_steps (\d+)", train.output())
    assert trained, train.output() + robot.output()
    task = get_task("pick_cube")
    stored = online(run, TransitionSpec.from_spaces(task.observation_space, task.action_space))
    assert stored == int(trained[1]) >= 40
    assert f"joined: robot at {ROBOT}" in learner.output()
