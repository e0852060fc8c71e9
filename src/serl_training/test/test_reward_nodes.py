# SPDX-License-Identifier: Apache-2.0
"""The nodes that judge without the truth, as processes behind their topics."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

try:
    from builtin_interfaces.msg import Time
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.duration import Duration
    from sensor_msgs.msg import Image, Joy
    from serl_ros.images import image_message
    from serl_ros.qos import LATCHED
    from std_msgs.msg import Bool
    from std_srvs.srv import Trigger

    from serl_interfaces.msg import ArmState, EpisodeStatus, Reward
except ImportError:
    pytest.skip("the workspace is not built", allow_module_level=True)

from serl_training.reward.reward_frames import frame_source

from serl_tasks import get_task


def node(name: str) -> tuple[str, ...]:
    return (sys.executable, "-c", f"from serl_training.{name} import main; main()", "--ros-args")


@pytest.fixture(scope="module")
def believer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier without any training that takes every picture for a success, two in a row needed."""
    import jax
    from serl_rl.encoders.encoder import Encoder
    from serl_rl.jax.reward.classifier import RewardClassifier, make_head
    from serl_rl.reward.classifier_file import ClassifierInfo

    encoder = Encoder.random("small", 0)
    source = frame_source(get_task("pick_cube_vision"))
    info = ClassifierInfo(source, "small", "random", encoder.hash, 2, 4, 1.0, (0.0,), consecutive=2)
    maps = {
        name: np.zeros((1, *encoder.feature_shape(*view.shape[:2])), np.float32) for name, view in source.views.items()
    }
    path = tmp_path_factory.mktemp("classifier") / "believer.safetensors"
    RewardClassifier(info, encoder, make_head(info).init(jax.random.key(0), maps)).save(path)
    return path


class Graph:
    """What surrounds a judge."""

    def __init__(self, ros: Any) -> None:
        self.ros, self.node = ros, ros.node("graph")
        self.rewards: list[Reward] = []
        self.statuses: list[Any] = []
        self.node.create_subscription(Reward, "reward", self.rewards.append, 100)
        self.node.create_subscription(
            DiagnosticArray, "/diagnostics", lambda message: self.statuses.extend(message.status), 10
        )
        self.episodes = self.node.create_publisher(EpisodeStatus, "episode", LATCHED)

    def wait_for_judge(self, *publishers: Any) -> None:
        everyone = (self.episodes, *publishers)
        self.ros.spin_until(
            lambda: self.node.count_publishers("reward") and all(each.get_subscription_count() for each in everyone),
            30.0,
            "the judge",
        )

    def begin(self, episode: int, mode: int = EpisodeStatus.MODE_TRAINING) -> None:
        """Announce an episode; it is there before what is sent next, and nodes hear it first."""
        self.episodes.publish(EpisodeStatus(episode=episode, mode=mode))
        assert self.episodes.wait_for_all_acked(Duration(seconds=10))

    def next_reward(self) -> Reward:
        self.ros.spin_until(lambda: self.rewards, what="a reward")
        return self.rewards.pop(0)


def verdict(reward: Reward) -> tuple[int, int, int, bool, bool]:
    return reward.header.stamp.nanosec, reward.episode, reward.step, reward.success, reward.terminated


def test_the_classifier_answers_each_set_of_pictures_once_it_is_complete(ros, processes, believer):
    process = processes.start(*node("classifier_node"), "-p", f"classifier:={believer}")
    graph = Graph(ros)
    cameras = {name: graph.node.create_publisher(Image, f"{name}/color/image_raw", 1) for name in ("front", "wrist")}
    graph.wait_for_judge(*cameras.values())

    def show(name: str, stamp: int) -> None:
        picture = np.full((128, 128, 3), stamp, np.uint8)
        cameras[name].publish(image_message(picture, Time(nanosec=stamp), name))

    graph.begin(5)

    def names_the_missing_camera() -> bool:
        show("front", 1)  # again and again: the first pictures may come before the node has heard of their publisher
        messages = [status.message for status in graph.statuses]
        return any(message.startswith("waits for") and "wrist/color" in message for message in messages)

    ros.spin_until(names_the_missing_camera, what="its name")
    assert not graph.rewards, "the wrist is missing"
    show("wrist", 1)
    first = graph.next_reward()
    assert verdict(first) == (1, 5, 0, False, False)
    assert first.source == "classifier"
    assert 0.0 < first.probability < 1.0
    show("wrist", 1)
    assert verdict(graph.next_reward()) == verdict(first), "a world that stands still repeats its pictures"
    show("wrist", 2)
    show("front", 2)
    second = graph.next_reward()
    assert verdict(second) == (2, 5, 1, True, True)
    assert second.reward == 1.0
    graph.begin(6)
    show("front", 3)
    show("wrist", 3)
    assert verdict(graph.next_reward()) == (3, 6, 0, False, False), "the count begins anew"
    assert process.stop() == 0, process.output()


def test_a_classifier_that_is_missing_or_for_another_task_ends_the_node_with_one_line(processes, believer, tmp_path):
    command = node("classifier_node")
    missing = processes.start(*command, "-p", f"classifier:={tmp_path / 'none.safetensors'}")
    other = processes.start(*command, "-p", f"classifier:={believer}", "-p", "task:=pick_cube")
    unnamed = processes.start(*command)
    assert missing.wait() == other.wait() == unnamed.wait() == 2
    assert missing.output().startswith("fatal:")
    assert "none.safetensors: cannot be read" in missing.output()
    assert "expected cameras" in other.output()
    assert "parameter 'classifier'" in unnamed.output()


def test_a_person_ends_the_episode_by_service_topic_or_button(ros, processes):
    processes.start(*node("human_reward_node"))
    graph = Graph(ros)
    arm = graph.node.create_publisher(ArmState, "arm/state", 1)
    label = graph.node.create_publisher(Bool, "reward/label", 1)
    joy = graph.node.create_publisher(Joy, "joy", 1)
    client = graph.node.create_client(Trigger, "reward/success")
    graph.wait_for_judge(arm, label, joy)
    ros.spin_until(client.service_is_ready, what="the service")

    def state(stamp: int) -> tuple[int, int, int, bool, bool]:
        message = ArmState()
        message.header.stamp = Time(nanosec=stamp)
        arm.publish(message)
        return verdict(graph.next_reward())

    def judged(stamps: range) -> tuple[int, int, int, bool, bool]:
        """The verdict that ends the episode, which what was sent before it may take a few states to bring about."""
        for stamp in stamps:
            last = state(stamp)
            if last[-1]:
                return last
            assert not last[-2]
        pytest.fail("nobody has heard the person")

    def press() -> Trigger.Response:
        future = client.call_async(Trigger.Request())
        ros.spin_until(future.done, what="the answer")
        return future.result()

    assert press().message == "no episode is running"
    graph.begin(1)
    assert state(1) == (1, 1, 0, False, False)
    assert press().success
    assert state(1) == (1, 1, 0, False, False)
    assert state(2) == (2, 1, 1, True, True)
    graph.begin(2)
    assert state(3) == (3, 2, 0, False, False)
    label.publish(Bool(data=False))
    stamp, *rest = judged(range(4, 100))
    assert rest == [2, stamp - 3, False, True]
    graph.begin(3)
    assert state(101) == (101, 3, 0, False, False), "the word was about the last episode"
    joy.publish(Joy(buttons=[1, 0]))
    stamp, *rest = judged(range(102, 200))
    assert rest == [3, stamp - 101, True, True]
    graph.begin(4)
    joy.publish(Joy(buttons=[1, 0]))
    assert joy.wait_for_all_acked(Duration(seconds=10))
    for stamp in (201, 202):  # between the two everything was heard that had arrived before
        assert state(stamp) == (stamp, 4, stamp - 201, False, False), "a button that is still held says nothing new"
