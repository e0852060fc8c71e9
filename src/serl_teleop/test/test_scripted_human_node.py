# SPDX-License-Identifier: Apache-2.0
"""The node `scripted_human` as a process: what is human about it is a parameter, and it sees how the policy gets on."""

from __future__ import annotations

import sys
from typing import Any

import pytest

try:
    from diagnostic_msgs.msg import DiagnosticArray
    from geometry_msgs.msg import Point, Pose, Quaternion
    from serl_ros.qos import LATCHED, LOOP_1, LOOP_10, RELIABLE_10

    from serl_interfaces.msg import ActionCommand, ArmState, EpisodeStatus, Reward, WorldState
except ImportError:
    pytest.skip("the workspace is not built", allow_module_level=True)

pytestmark = pytest.mark.graph

PROGRAM = "from serl_teleop.scripted_human_node import main; main()"
ABOVE, CUBE = (Pose(position=Point(x=0.5, z=z), orientation=Quaternion(x=1.0, w=0.0)) for z in (0.3, 0.02))


class Graph:
    """A world that stands still, a judge, and an actor that announces episodes."""

    def __init__(self, ros: Any, processes: Any, *parameters: str) -> None:
        self.ros, node = ros, ros.node("graph")
        self.answers: dict[tuple[int, int], bool] = {}
        self.stamps: list[int] = []
        self.answering = node.create_subscription(ActionCommand, "teleop/action", self._on_action, RELIABLE_10)
        self.values: dict[str, str] = {}
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, RELIABLE_10)
        self._arm = node.create_publisher(ArmState, "arm/state", LOOP_1)
        self._truth = node.create_publisher(WorldState, "truth", LOOP_10)
        self._reward = node.create_publisher(Reward, "reward", LOOP_10)
        self._episode = node.create_publisher(EpisodeStatus, "episode", LATCHED)
        given = [word for parameter in parameters for word in ("-p", parameter)]
        self.process = processes.start(sys.executable, "-c", PROGRAM, "--ros-args", *given)

    def _on_action(self, message: ActionCommand) -> None:
        self.answers[message.episode, message.step] = message.active
        self.stamps.append(message.header.stamp.nanosec)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == "scripted_human: person":
                self.values = {each.key: each.value for each in status.values}

    def begin(self, episode: int, mode: int) -> None:
        self._episode.publish(EpisodeStatus(episode=episode, mode=mode, human_expected=True))

    def step(self, episode: int, step: int) -> bool:
        """Show one state until the person has answered it; whether they lead."""
        arm = ArmState(tcp_pose=ABOVE, target_pose=ABOVE, gripper_width=0.08, gripper_target=0.08)
        truth = WorldState(episode=episode, step=step, names=["tcp", "cube"], poses=[ABOVE, CUBE])
        for message in (arm, truth):
            message.header.stamp.sec, message.header.stamp.nanosec = episode, step * 100_000_000

        def answered() -> bool:
            self._arm.publish(arm)
            self._truth.publish(truth)
            return (episode, step) in self.answers

        self.ros.spin_until(answered, 20.0, lambda: f"an answer to step {step}: {self.process.output()}")
        return self.answers[episode, step]

    def show(self, episode: int, step: int, nanosec: int) -> None:
        """Show a state once more, at another time."""
        truth = WorldState(episode=episode, step=step, names=["tcp", "cube"], poses=[ABOVE, CUBE])
        truth.header.stamp.sec, truth.header.stamp.nanosec = episode, nanosec
        self._truth.publish(truth)

    def succeed(self, episode: int) -> None:
        self._reward.publish(Reward(episode=episode, success=True))


def test_a_late_person_who_eases_off_answers_every_step_and_sees_successes(ros, processes):
    graph = Graph(ros, processes, "reaction_delay:=0.3", "least_help:=0.0")
    graph.begin(5, EpisodeStatus.MODE_DEMONSTRATION)
    ros.spin_until(lambda: graph.answering.get_publisher_count(), 40.0, lambda: f"the node: {graph.process.output()}")
    assert [graph.step(5, k) for k in range(6)] == [False] * 3 + [True] * 3
    graph.begin(6, EpisodeStatus.MODE_TRAINING)
    assert not graph.step(6, 0)

    def seen() -> bool:
        graph.succeed(6)
        graph.begin(7, EpisodeStatus.MODE_TRAINING)
        return float(graph.values.get("success_alone", "0")) == 0.05

    ros.spin_until(seen, 20.0, lambda: f"one success of twenty: {graph.values}")
    assert float(graph.values["tiredness"]) == 0.0


def test_what_was_answered_is_said_again_to_a_world_that_waits_and_not_to_one_that_runs_on(ros, processes):
    graph = Graph(ros, processes)
    graph.begin(5, EpisodeStatus.MODE_DEMONSTRATION)
    ros.spin_until(lambda: graph.answering.get_publisher_count(), 40.0, lambda: f"the node: {graph.process.output()}")
    graph.step(5, 1)
    for later in range(1, 6):
        graph.show(5, 1, 100_000_000 + later)
    graph.stamps.clear()
    graph.step(5, 2)
    graph.stamps.clear()
    graph.show(5, 2, 200_000_000)
    ros.spin_until(lambda: graph.stamps, 20.0, lambda: f"an answer again: {graph.process.output()}")
    graph.show(5, 2, 200_000_001)
    graph.show(5, 2, 200_000_000)
    ros.spin_until(lambda: len(graph.stamps) >= 2, 20.0, lambda: f"an answer again: {graph.process.output()}")
    assert set(graph.stamps) == {200_000_000}


def test_a_person_that_nobody_is_does_not_start(ros, processes):
    graph = Graph(ros, processes, "least_help:=0.9", "most_help:=0.5")
    ros.spin_until(lambda: graph.process.poll() is not None, 20.0, "the end of the node")
    assert "expected least_help <= most_help <= 1, found 0.9 and 0.5" in graph.process.output()
