# SPDX-License-Identifier: Apache-2.0
"""The newest of what an environment hears from its graph, checked where it arrives. Pictures are in `graph_cameras`."""

from __future__ import annotations

from functools import partial

import numpy as np
from geometry_msgs.msg import WrenchStamped
from numpy.typing import NDArray
from rclpy.node import Node
from serl_config.text import printable
from serl_robots.model.pose import Pose
from serl_robots.model.robot import load_robot
from serl_ros.driver_status import DriverStatus
from serl_ros.incoming import subscribe
from serl_ros.qos import LATCHED, LOOP_1, LOOP_10
from serl_tasks.arm_sample import ArmSample, arm_topic
from serl_tasks.messages import MessageError, arm_sample, nanoseconds, object_poses, wrench_values
from std_msgs.msg import String

from serl_interfaces.msg import ArmState, ExecutedAction, Reward, SafetyStatus, WorldState
from serl_tasks import Task

_LARGEST_REWARD = 1e6
_PRECEDENCE = (
    ExecutedAction.SOURCE_ESTOP,
    ExecutedAction.SOURCE_HUMAN,
    ExecutedAction.SOURCE_IDLE,
    ExecutedAction.SOURCE_MOVE_TO,
    ExecutedAction.SOURCE_POLICY,
)
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
        arm: newest `arm/state`, of two arms that of the first; None until each has told.
        sample: what an observation needs of the arms, without the wrench.
        truth: newest `truth`, None before the first and where nobody knows the true poses.
        objects: poses in `truth`, by name, base frame.
        wrench: newest `wrench` (6,), see `ArmSample`, None before the first and for a task that does not observe it.
        executed: `arm/executed` of the step that is asked for, None until it comes; of two arms both in one.
        reward: newest `reward` since the episode began.
        safety: newest `arm/safety`; of two arms that of one that is stopped, if one is.
        driver: why the driver of an arm moves nothing; empty while it does what is commanded, and where there is none.
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
        self._task, self._arms = task, task.arm_names
        self._lengths = {arm: len(task.of_arm(arm).action) for arm in task.arm_names}
        self._states: dict[str, ArmState] = {}
        self._samples: dict[str, ArmSample] = {}
        self._executed: dict[str, ExecutedAction] = {}
        self._safety: dict[str, SafetyStatus] = {}
        self.truth: WorldState | None = None
        self.objects: dict[str, Pose] = {}
        self.wrench: NDArray[np.float64] | None = None
        self.wrench_stamp_ns = -1
        self.executed: ExecutedAction | None = None
        self.reward: Reward | None = None
        self.safety: SafetyStatus | None = None
        self._drivers = [DriverStatus(node, arm_topic(arm, "driver/status")) for arm in self._arms]
        self.problem = ""
        self.episode = self.step = 0
        self.task = task.name
        self._lockstep = lockstep
        self._needed = (*task.tool_names, *task.pose_names)
        self._subscriptions = [
            subscribe(node, Reward, "reward", self._on_reward, LOOP_10, MessageError),
            node.create_subscription(String, "sim/problem", self._on_problem, LATCHED),
        ]
        for arm in self._arms:
            on_state, on_executed = partial(self._on_arm, arm), partial(self._on_executed, arm)
            state, executed, safety = (arm_topic(arm, f"arm/{name}") for name in ("state", "executed", "safety"))
            self._subscriptions += [
                subscribe(node, ArmState, state, on_state, LOOP_1, MessageError),
                subscribe(node, ExecutedAction, executed, on_executed, LOOP_10, MessageError),
                node.create_subscription(SafetyStatus, safety, partial(self._on_safety, arm), LATCHED),
            ]
        self.observes_wrench = task.observes_wrench
        if task.observes_wrench:
            self._tool_frame = load_robot(task.robot).tcp_frame
            self._subscriptions.append(subscribe(node, WrenchStamped, "wrench", self._on_wrench, LOOP_1, MessageError))
        if truth:
            self._subscriptions.append(subscribe(node, WorldState, "truth", self._on_truth, LOOP_10, MessageError))

    @property
    def driver(self) -> str:
        """Why the driver of an arm moves nothing; empty while each does what is commanded, and where there is none."""
        return next((driver.problem for driver in self._drivers if driver.problem), "")

    def begin(self, episode: int, task: str) -> None:
        """Begin an episode of a task: what was executed and judged before is not of it."""
        self.episode, self.step, self.task = episode, 0, task
        self.executed = self.reward = None
        self._executed.clear()
        self.problem = ""

    def advance(self) -> None:
        """Go on to the next step."""
        self.step += 1
        self.executed = None
        self._executed.clear()

    def has_wrench(self) -> bool:
        """Whether the newest state of the arm has a wrench of its time, or needs none."""
        if not self.observes_wrench:
            return True
        late_ns = self.arm_stamp_ns - self.wrench_stamp_ns
        return self.wrench is not None and late_ns <= (0 if self._lockstep else _OLDEST_WRENCH_NS)

    @property
    def arm_stamp_ns(self) -> int:
        """Stamp of the arm's newest state [ns], of two arms the older one; -1 before the first."""
        if self.arm is None:
            return -1
        return min(nanoseconds(state.header.stamp) for state in self._states.values())

    def state_of(self, arm: str) -> ArmState | None:
        """Newest `arm/state` of the arm with this prefix, None until it has told."""
        return self._states.get(arm)

    @property
    def gripper_targets(self) -> dict[str, float]:
        """Widths that are commanded [m], by the prefixes of the arms; 0 of an arm that has not told."""
        return {arm: float(self._states[arm].gripper_target) if arm in self._states else 0.0 for arm in self._arms}

    @property
    def truth_stamp_ns(self) -> int:
        """Stamp of the newest true poses [ns], -1 before the first."""
        return -1 if self.truth is None else nanoseconds(self.truth.header.stamp)

    @property
    def reward_stamp_ns(self) -> int:
        """Stamp of the state that was judged last [ns], -1 before the first of the episode."""
        return -1 if self.reward is None else nanoseconds(self.reward.header.stamp)

    def _on_arm(self, arm: str, message: ArmState) -> None:
        nanoseconds(message.header.stamp)
        self._samples[arm], self._states[arm] = arm_sample(message), message
        if len(self._states) == len(self._arms):
            self.sample, self.arm = self._task.joined(self._samples), self._states[self._arms[0]]

    def _on_wrench(self, message: WrenchStamped) -> None:
        stamp_ns = nanoseconds(message.header.stamp)
        self.wrench, self.wrench_stamp_ns = wrench_values(message, self._tool_frame), stamp_ns

    def _on_executed(self, arm: str, message: ExecutedAction) -> None:
        action, length = np.array(message.action, dtype=np.float32), self._lengths[arm]
        if action.shape != (length,) or not np.abs(action).max() <= 1.0:
            raise MessageError(f"action: expected {length} values in [-1, 1], found {action}")
        # What a person drives while no step is asked for is nobody's step.
        if (message.episode, message.step) == (self.episode, self.step):
            self._executed[arm] = message
            if len(self._executed) == len(self._arms):
                self.executed = self._together()

    def _together(self) -> ExecutedAction:
        """What all arms executed, as one action. Whoever led one of them led the step: a person before the policy."""
        if len(self._executed) == 1:
            return next(iter(self._executed.values()))
        parts = {arm: np.array(message.action, np.float32) for arm, message in self._executed.items()}
        first = self._executed[self._arms[0]]
        return ExecutedAction(
            header=first.header,
            episode=first.episode,
            step=first.step,
            source=min((message.source for message in self._executed.values()), key=_PRECEDENCE.index),
            action=self._task.action.join(parts).tolist(),
            limits=list(dict.fromkeys(limit for arm in self._arms for limit in self._executed[arm].limits)),
        )

    def _on_truth(self, message: WorldState) -> None:
        nanoseconds(message.header.stamp)
        self.objects, self.truth = object_poses(message, self._needed), message

    def _on_safety(self, arm: str, message: SafetyStatus) -> None:
        self._safety[arm] = message
        self.safety = next((each for each in self._safety.values() if each.estop), message)

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
