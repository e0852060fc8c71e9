# SPDX-License-Identifier: Apache-2.0
"""A recording replayed by ``serl replay --arm`` in a graph that runs in real time, and what ends that."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serl_recording.episode import Episode, RecordingSpec
from serl_recording.registry import create_recording
from serl_rl.spec import TransitionSpec
from serl_ros.qos import LATCHED, LOOP_1, LOOP_10
from serl_training.env.episode import episode_seed
from serl_training.link.contract import meaning_of
from std_srvs.srv import SetBool, Trigger

import serl_sim
from serl_interfaces.msg import ArmState, ExecutedAction, SafetyStatus
from serl_tasks import get_task

pytestmark = [pytest.mark.graph, pytest.mark.timeout(400)]

SERL = (sys.executable, "-m", "serl_cli")
PATIENCE = 90.0  # [s]; a busy machine starts nodes slowly
TASK = get_task("pick_cube")
STEPS = 48  # of the recording, with less than the horizon: time enough to stop it
SEED = 3


def swaying() -> Episode:
    """A tool that goes round above the cube, from where the first demonstration of a run with this seed starts."""
    env = serl_sim.make(TASK.name)
    observation, _ = env.reset(seed=episode_seed(SEED, "demonstration", 0))
    states, actions = [observation["state"]], []
    for angle in np.linspace(0.0, 4.0 * np.pi, STEPS):
        action = np.array([0.3 * np.cos(angle), 0.3 * np.sin(angle), 0.0, 1.0], np.float32)
        observation, _, terminated, truncated, info = env.step(action)
        assert not terminated and not truncated
        states.append(observation["state"])
        actions.append(info["executed_action"])
    env.close()
    return Episode(
        observation={"state": np.array(states)},
        action=np.array(actions),
        reward=np.zeros(STEPS, np.float32),
        intervention=np.ones(STEPS, np.bool_),
        policy_version=np.zeros(STEPS, np.uint64),
        stamp=np.arange(STEPS + 1) * round(1e9 * TASK.control_period),
        stamped=True,
        terminated=False,
        truncated=True,
        success=False,
        demonstration=True,
        actor="actor",
        number=0,
    )


def written(path: Path, episode: Episode) -> Path:
    """A demonstration file of one episode."""
    found = TransitionSpec.from_spaces(TASK.observation_space, TASK.action_space)
    transitions = TransitionSpec(found.observation, found.action_dim, meaning=meaning_of(TASK))
    with create_recording(path, "serl", RecordingSpec(transitions, 1.0 / TASK.control_period, TASK.name)) as writer:
        writer.append(episode)
    return path


def test_the_arm_replays_at_the_recorded_pace_until_somebody_stops_it_or_it_is_elsewhere(
    ros: Any, processes: Any, tmp_path: Path
) -> None:
    episode = swaying()
    path = written(tmp_path / "reach.serl", episode)
    # Recorded as if nothing had held the tool back: from the tenth step on it is 0.2 m farther.
    index = [each["name"] for each in meaning_of(TASK)["state"]].index("tcp_position[0]")
    state = episode.observation["state"].copy()
    state[10:, index] += np.float32(0.2 / meaning_of(TASK)["state"][index]["scale"])
    elsewhere = written(tmp_path / "elsewhere.serl", replace(episode, observation={"state": state}))

    arguments = ("task:=pick_cube", "learning_nodes:=false", "teleop:=none", "real_time_factor:=1.0")
    launch = processes.start(*SERL, "launch", "sim.launch.xml", *arguments)
    node = ros.node()
    arm: list[ArmState] = []
    policy: list[ExecutedAction] = []
    safety: list[SafetyStatus] = []

    def on_executed(message: ExecutedAction) -> None:
        if message.source == ExecutedAction.SOURCE_POLICY:
            policy.append(message)

    subscriptions = [
        node.create_subscription(ArmState, "arm/state", arm.append, LOOP_1),
        node.create_subscription(ExecutedAction, "arm/executed", on_executed, LOOP_10),
        node.create_subscription(SafetyStatus, "arm/safety", safety.append, LATCHED),
    ]
    stop, release = node.create_client(SetBool, "arm/estop"), node.create_client(Trigger, "arm/reset_estop")
    assert len(subscriptions) == 3

    def wait(condition: Callable[[], object], what: str) -> None:
        ros.spin_until(condition, PATIENCE, lambda: f"{what} (exit code {launch.poll()}): {launch.output()[-2000:]}")

    def replay(file: Path, *options: str) -> Any:
        policy.clear()
        return processes.start(*SERL, "replay", str(file), TASK.name, "--arm", "--seed", str(SEED), *options)

    def moving_replay() -> Any:
        process = replay(path)
        wait(lambda: len(policy) >= 5 or process.poll() is not None, "the arm to move")
        assert len(policy) >= 5, process.output()
        return process

    def assert_held(what: str) -> None:
        """Nothing is executed any more, and the commanded pose stays for a second of the arm's clock."""
        since, target = arm[-1].header.stamp.sec, arm[-1].target_pose
        count = len(policy)
        wait(lambda: arm[-1].header.stamp.sec >= since + 2, what)
        assert arm[-1].target_pose == target
        assert len(policy) == count

    wait(lambda: arm and stop.service_is_ready(), "the graph")

    whole = replay(path, "--json")
    wait(lambda: whole.poll() is not None, "the replay")
    assert whole.poll() == 0, whole.output()
    output = whole.output()
    (outcome,) = json.loads(output[output.index("[\n") : output.rindex("]") + 1])
    assert outcome["replayed"] == STEPS
    assert outcome["same_start"]
    assert outcome["path_max_m"] < 0.05
    rate = 1.0 / TASK.control_period
    assert 0.5 * rate < outcome["rate_hz"] < 1.02 * rate, "never faster; a busy machine may keep it waiting"

    stopped = moving_replay()
    stop.call_async(SetBool.Request(data=True))
    wait(lambda: stopped.poll() is not None, "the replay to end by the e-stop")
    assert stopped.poll() == 1
    said = " ".join(stopped.output().split())
    assert "replaying ended behind 0 episodes: episode 0 of actor, behind" in said
    assert "the arm was stopped" in said
    assert_held("after the e-stop")
    release.call_async(Trigger.Request())
    wait(lambda: not safety[-1].estop, "the e-stop to be released")

    interrupted = moving_replay()
    interrupted.send(signal.SIGINT)
    wait(lambda: interrupted.poll() is not None, "the replay to end by Ctrl-C")
    assert interrupted.poll() == 130
    assert "replaying interrupted behind 0 episodes; the arm is held where it is" in " ".join(
        interrupted.output().split()
    )
    assert_held("after Ctrl-C")

    drifted = replay(elsewhere)
    wait(lambda: drifted.poll() is not None, "the replay to end where the tool is elsewhere")
    assert drifted.poll() == 1
    said = " ".join(drifted.output().split())
    pattern = r"behind 10 of 48 steps: expected the tool within 50 mm of .* recorded, found it (\d+) mm off"
    found = re.search(pattern, said)
    assert found is not None, said
    assert int(found[1]) == pytest.approx(200, abs=20)
    assert_held("after the drift")
