# SPDX-License-Identifier: Apache-2.0
"""Labelled frames from a graph: of episodes that are driven for it, or of whatever happens there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from rclpy.node import Node
from serl_rl.reward.data import EpisodeBuilder, FrameSource, RewardEpisode
from serl_ros.incoming import refuse, subscribe
from serl_ros.qos import LATCHED, LOOP_10, RELIABLE_10
from serl_tasks.messages import MessageError, nanoseconds, object_poses
from serl_tasks.variety import VariedExpert
from std_msgs.msg import Bool

from serl_interfaces.msg import EpisodeStatus, WorldState
from serl_tasks import Task
from serl_training.env.episode import episode_seed
from serl_training.env.graph_cameras import CameraError, CameraInputs
from serl_training.env.graph_env import GraphEnv
from serl_training.reward.judging import PictureMatcher

_SHORTEST = 2  # frames of an episode that is worth keeping


def drive_episode(env: GraphEnv, source: FrameSource, number: int, seed: int, frames: int) -> RewardEpisode:
    """Move through as many states of the task as one episode has room for; success does not end it.

    Args:
        env: of a simulated world, in lockstep.
        source: what is recorded.
        number: of the episode; with `seed` it decides about everything.
        seed: of the recording.
        frames: to record.

    Raises:
        GraphError: the graph did not answer.
    """
    expert = VariedExpert(env.task, np.random.default_rng([seed, number]))
    observation, _ = env.reset(seed=episode_seed(seed, "reward frames", number), options={"episode": number})
    builder = EpisodeBuilder(source, "truth")
    while True:
        builder.add(observation, int(env.task.judge(env.objects).success))
        if len(builder) == frames:
            return builder.build()
        observation, *_ = env.step(expert.act(env.arm_sample, env.objects))


class FrameListener:
    """Records the frames of a graph that others move, episode by episode.

    Labels come from the true state of a simulated world, or are those that a person gave last: 0 at the beginning of
    each episode, then what `say` or the topic `reward/label` says.
    """

    def __init__(
        self,
        node: Node,
        task: Task,
        source: FrameSource,
        labelled_by: str,
        take: Callable[[RewardEpisode], None],
        max_skew: float = 0.0,
    ) -> None:
        """Listen.

        Args:
            node: that subscribes.
            task: whose cameras are recorded.
            source: what is recorded.
            labelled_by: truth, keys or button.
            take: gets each episode when the next one begins.
            max_skew: how far apart pictures of different cameras may be that make one frame [s].
        """
        self._node, self._needed = node, (*task.tool_names, *task.pose_names)
        self._task, self._source, self._labelled_by, self._take = task, source, labelled_by, take
        self.label = 0
        """What frames are called now, where a person says it."""
        self.frames = 0
        """Recorded so far in this episode."""
        self._builder = EpisodeBuilder(source, labelled_by)
        self._matcher = PictureMatcher(round(max_skew * 1e9))
        self._next_ns = 0
        self._truth: WorldState | None = None
        self._cameras = CameraInputs(node, task.cameras, on_picture=self._record)
        self._subscriptions = [node.create_subscription(EpisodeStatus, "episode", self._on_episode, LATCHED)]
        if labelled_by == "truth":
            self._subscriptions.append(subscribe(node, WorldState, "truth", self._on_truth, LOOP_10, MessageError))
        else:
            self._subscriptions.append(node.create_subscription(Bool, "reward/label", self._on_label, RELIABLE_10))

    def say(self, label: int) -> None:
        """Call the frames from now on `label`.

        Raises:
            DataError: there is no such stage (with the next frame).
        """
        self.label = label

    def missing(self) -> list[str]:
        """Topics of cameras from which nothing new has come for a second."""
        return self._cameras.stale(1.0)

    def finish(self) -> None:
        """End the episode: hand over what there is of it and begin another one."""
        if len(self._builder) >= _SHORTEST:
            self._take(self._builder.build())
        self._builder = EpisodeBuilder(self._source, self._labelled_by)
        self.label = self.frames = 0

    def _on_episode(self, status: EpisodeStatus) -> None:
        self.finish()

    def _on_label(self, message: Bool) -> None:
        self.say(len(self._source.stages) - 1 if message.data else 0)

    def _on_truth(self, world: WorldState) -> None:
        object_poses(world, self._needed)
        nanoseconds(world.header.stamp)
        self._truth = world
        self._record()

    def _record(self) -> None:
        """Take the newest pictures, once they belong together and somebody knows what they show."""
        stamps = self._cameras.stamps
        if self._labelled_by == "truth":
            world = self._truth
            if world is None or set(stamps.values()) != {nanoseconds(world.header.stamp)}:
                return
            label = int(self._task.judge(object_poses(world)).success)
        else:
            label = self.label
        newest = max(stamps.values())
        # Cameras may be much faster than the policy; frames that are nearly the same teach nothing.
        if newest < self._next_ns or not self._matcher.take(stamps):
            return
        self._next_ns = newest + round(0.5e9 * self._task.control_period)
        try:
            pictures = self._cameras.pictures()
        except CameraError as error:
            refuse(self._node, "cameras", error)
            return
        self._builder.add(pictures, label)
        self.frames = len(self._builder)
