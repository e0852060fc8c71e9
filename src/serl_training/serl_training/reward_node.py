# SPDX-License-Identifier: Apache-2.0
"""Node `reward`: judges the true state of the world as the task defines success."""

from rclpy.node import Node
from serl_ros.diagnostics import OK, WARN, Diagnostics
from serl_ros.incoming import subscribe
from serl_ros.node import run_node
from serl_ros.parameters import declare
from serl_ros.qos import LOOP_10, RELIABLE_10
from serl_tasks.messages import MessageError, object_poses

from serl_interfaces.msg import Reward, WorldState
from serl_tasks import get_task, task_names


class RewardNode(Node):
    """Publishes `reward` for each `truth`."""

    def __init__(self) -> None:
        """Declare parameters and connect."""
        super().__init__("reward")
        name = declare(self, "task", "pick_cube", "Task whose reward is published.", choices=task_names())
        self._task = get_task(name)
        self._needed = (*self._task.tool_names, *self._task.pose_names)
        self._message = Reward(source="truth", task=name)
        self._publisher = self.create_publisher(Reward, "reward", RELIABLE_10)
        self._subscription = subscribe(self, WorldState, "truth", self._on_truth, LOOP_10, MessageError)
        self._diagnostics = Diagnostics(self)
        self._diagnostics.set("truth", WARN, "no message on truth yet")
        self._seen = False

    def _on_truth(self, world: WorldState) -> None:
        judgement = self._task.judge(object_poses(world, self._needed))
        message = self._message
        message.header = world.header
        message.episode = world.episode
        message.step = world.step
        message.reward = judgement.reward
        message.success = judgement.success
        message.terminated = judgement.terminated
        message.probability = float(judgement.success)
        self._publisher.publish(message)
        if not self._seen:
            self._seen = True
            self._diagnostics.set("truth", OK, "judging")


def main() -> None:
    """Entry point."""
    run_node(RewardNode)
