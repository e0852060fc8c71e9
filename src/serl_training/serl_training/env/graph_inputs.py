# SPDX-License-Identifier: Apache-2.0
"""The newest of what an environment hears from its graph, checked where it arrives. Pictures are in `graph_cameras`."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import WrenchStamped
from numpy.typing import NDArray
from rclpy.node import Node
from serl_config.text import printable
from serl_robots.model.pose import Pose
from serl_robots.model.robot import load_robot
from serl_ros.incoming import subscribe
from serl_ros.qos import LATCHED, LOOP_1, LOOP_10
from serl_tasks.arm_sample import ArmSample
from serl_tasks.messages import MessageError, arm_sample, nanoseconds, object_poses, wrench_values
from std_msgs.msg import String

from serl_interfaces.msg import ArmState, ExecutedAction, Reward, SafetyStatus, WorldState
from serl_tasks import Task

_LARGEST_REWARD = 1e6
_OLDEST_WRENCH_NS = 200_000_000  # that a wrench may be older than the state of the arm in real time


def check_observable(task: Task, truth: bool) -> None:
    """Raise ValueError where a task's state has poses of objects and nobody publishes these (`truth` is false)."""
    if task.observed_objects and not truth:
        raise ValueError(
            f"task {task.name}: its state has poses of {', '.join(task.observed_objects)}, which only the topic truth "
            "tells, and there is none (truth is false); choose a task that sees its objects, as pick_cube_vision does, "
            "or publish truth"
        )


class GraphInputs:
    """Subscribes to what a step needs and keeps the newest message of each topic.

    Attributes:
        arm: newest `arm/state`, None before the first.
        sample: what an observation needs of `arm`, without the wrench.
        truth: newest `truth`, None before the first and where nobody knows the true poses.
        objects: poses in `truth`, by name, base frame.
        wrench: newest `wrench` (6,), see `ArmSample`, None before the first and for a task that does not observe it.
        executed: `arm/executed` of the step that is asked for, None until it comes.
        reward: newest `reward` since the episode began.
        safety: newest `arm/safety`.
        problem: why the simulated world cannot move until it is reset; empty while it can.
        episode: number of the running episode.
        task: name of the task that it is of, whose judge counts.
        step: number of the step that is asked for.
    """

    def __init__(self, node: Node, task: Task, *, lockstep: bool, truth: bool) -> None:
        """Subscribe.

        Args:
            node: that subscribes.
            task: says what an action is, and which objects there are.
            lockstep: whether the world waits for each command; otherwise a success is kept until the episode ends.
            truth: whether to listen to the true poses.
        """
        self.arm: ArmState | None = None
        self.sample: ArmSample
        self.truth: WorldState | None = None
        self.objects: dict[str, Pose] = {}
        self.wrench: NDArray[np.float64] | None = None
        self.wrench_stamp_ns = -1
        self.executed: ExecutedAction | None = None
        self.reward: Reward | None = None
        self.safety: SafetyStatus | None = None
        self.problem = ""
        self.episode = self.step = 0
        self.task = task.name
        self._lockstep = lockstep
        self._action_shape = task.action_space.shape
        self._needed = ("tcp", *task.pose_names)
        self._subscriptions = [
            subscribe(node, ArmState, "arm/state", self._on_arm, LOOP_1, MessageError),
            subscribe(node, ExecutedAction, "arm/executed", self._on_executed, LOOP_10, MessageError),
            subscribe(node, Reward, "reward", self._on_reward, LOOP_10, MessageError),
            node.create_subscription(SafetyStatus, "arm/safety", self._on_safety, LATCHED),
            node.create_subscription(String, "sim/problem", self._on_problem, LATCHED),
        ]
        self.observes_wrench = task.observes_wrench
        if task.observes_wrench:
            self._tool_frame = load_robot(task.robot).tcp_frame
            self._subscriptions.append(subscribe(node, WrenchStamped, "wrench", self._on_wrench, LOOP_1, MessageError))
        if truth:
            self._subscriptions.append(subscribe(node, WorldState, "truth", self._on_truth, LOOP_10, MessageError))

    def begin(self, episode: int, task: str) -> None:
        """Begin an episode of a task: what was executed and judged before is not of it."""
        self.episode, self.step, self.task = episode, 0, task
        self.executed = self.reward = None
        self.problem = ""

    def advance(self) -> None:
        """Go on to the next step."""
        self.step += 1
        self.executed = None

    def has_wrench(self) -> bool:
        """Whether the newest state of the arm has a wrench of its time, or needs none."""
        if not self.observes_wrench:
            return True
        late_ns = self.arm_stamp_ns - self.wrench_stamp_ns
        return self.wrench is not None and late_ns <= (0 if self._lockstep else _OLDEST_WRENCH_NS)

    @property
    def arm_stamp_ns(self) -> int:
        """Stamp of the arm's newest state [ns], -1 before the first."""
        return -1 if self.arm is None else nanoseconds(self.arm.header.stamp)

    @property
    def truth_stamp_ns(self) -> int:
        """Stamp of the newest true poses [ns], -1 before the first."""
        return -1 if self.truth is None else nanoseconds(self.truth.header.stamp)

    @property
    def reward_stamp_ns(self) -> int:
        """Stamp of the state that was judged last [ns], -1 before the first of the episode."""
        return -1 if self.reward is None else nanoseconds(self.reward.header.stamp)

    def _on_arm(self, message: ArmState) -> None:
        nanoseconds(message.header.stamp)
        self.sample, self.arm = arm_sample(message), message

    def _on_wrench(self, message: WrenchStamped) -> None:
        stamp_ns = nanoseconds(message.header.stamp)
        self.wrench, self.wrench_stamp_ns = wrench_values(message, self._tool_frame), stamp_ns

    def _on_executed(self, message: ExecutedAction) -> None:
        action = np.array(message.action, dtype=np.float32)
        if action.shape != self._action_shape or not np.abs(action).max() <= 1.0:
            raise MessageError(f"action: expected {self._action_shape} values in [-1, 1], found {action}")
        # What a person drives while no step is asked for is nobody's step.
        if (message.episode, message.step) == (self.episode, self.step):
            self.executed = message

    def _on_truth(self, message: WorldState) -> None:
        nanoseconds(message.header.stamp)
        self.objects, self.truth = object_poses(message, self._needed), message

    def _on_safety(self, message: SafetyStatus) -> None:
        self.safety = message

    def _on_problem(self, message: String) -> None:
        self.problem = printable(message.data)

    def _on_reward(self, message: Reward) -> None:
        nanoseconds(message.header.stamp)
        if not abs(message.reward) <= _LARGEST_REWARD:
            raise MessageError(f"reward: expected a number within {_LARGEST_REWARD:g}, found {message.reward}")
        if message.task not in ("", self.task):  # of a pair the other one's judge
            return
        # Between two ticks of a graph in real time several states are judged; a success among them must not be lost.
        last = self.reward
        if not self._lockstep and last is not None and last.terminated and last.episode == message.episode:
            return
        self.reward = message
