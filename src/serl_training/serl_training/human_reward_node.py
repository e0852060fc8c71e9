# SPDX-License-Identifier: Apache-2.0
"""Node `reward_human`: a person says when an episode has succeeded or failed, by a service or any device."""

from rclpy.node import Node
from sensor_msgs.msg import Joy
from serl_ros.diagnostics import OK, WARN, Diagnostics
from serl_ros.incoming import subscribe
from serl_ros.log import WARN as WARNING
from serl_ros.log import log
from serl_ros.node import run_node
from serl_ros.parameters import declare
from serl_ros.qos import LATCHED, LOOP_10, RELIABLE_10
from serl_tasks.messages import MessageError, nanoseconds
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from serl_interfaces.msg import ArmState, EpisodeStatus, Reward, TeleopEvent
from serl_training.reward.judging import HumanJudge, fill


class HumanRewardNode(Node):
    """Publishes `reward` for each `arm/state`: 0, until the person's word ends the episode."""

    def __init__(self) -> None:
        """Declare parameters and connect."""
        super().__init__("reward_human")
        success = declare(self, "success_button", 0, "Button on `joy` that means success.", range=(0, 100))
        failure = declare(self, "failure_button", 1, "Button on `joy` that means failure.", range=(0, 100))
        self._buttons = {success: True, failure: False}
        self._pressed: set[int] = set()
        self._judge = HumanJudge()
        self._message = Reward(source="human")
        self._diagnostics = Diagnostics(self)
        self._diagnostics.set("person", WARN, "no episode yet")
        self._publisher = self.create_publisher(Reward, "reward", RELIABLE_10)
        self._subscriptions_kept = [
            # First: of what is ready together, the new episode is heard before its first state.
            self.create_subscription(EpisodeStatus, "episode", self._on_episode, LATCHED),
            subscribe(self, ArmState, "arm/state", self._on_arm, LOOP_10, MessageError),
            self.create_subscription(Bool, "reward/label", lambda message: self._say(message.data), RELIABLE_10),
            self.create_subscription(Joy, "joy", self._on_joy, RELIABLE_10),
            self.create_subscription(TeleopEvent, "teleop/event", self._on_event, RELIABLE_10),
        ]
        self._services_kept = [
            self.create_service(Trigger, "reward/success", lambda _request, response: self._serve(True, response)),
            self.create_service(Trigger, "reward/failure", lambda _request, response: self._serve(False, response)),
        ]

    def _on_episode(self, status: EpisodeStatus) -> None:
        if status.mode == EpisodeStatus.MODE_IDLE:
            self._judge.end()
            self._diagnostics.set("person", OK, "no episode is running")
        else:
            self._judge.begin(status.episode)
            self._diagnostics.set("person", OK, f"episode {status.episode}: waits for the person's word")

    def _on_arm(self, state: ArmState) -> None:
        fill(self._message, self._judge.judge(nanoseconds(state.header.stamp)))
        self._publisher.publish(self._message)

    def _on_joy(self, message: Joy) -> None:
        pressed = {index for index, value in enumerate(message.buttons) if value}
        for index in pressed - self._pressed:
            if index in self._buttons:
                self._say(self._buttons[index])
        self._pressed = pressed

    def _on_event(self, message: TeleopEvent) -> None:
        if message.event in (TeleopEvent.SUCCESS, TeleopEvent.FAILURE):
            self._say(message.event == TeleopEvent.SUCCESS)

    def _say(self, success: bool) -> bool:
        word = "success" if success else "failure"
        heard = self._judge.say(success)
        if heard:
            self._diagnostics.set("person", OK, f"said {word}")
        else:
            log(self, WARNING, f"{word}: no episode is running, nothing was judged", throttle=1.0)
        return heard

    def _serve(self, success: bool, response: Trigger.Response) -> Trigger.Response:
        response.success = self._say(success)
        response.message = "" if response.success else "no episode is running"
        return response


def main() -> None:
    """Entry point."""
    run_node(HumanRewardNode)
