# SPDX-License-Identifier: Apache-2.0
"""Node `scripted_human`: publishes `teleop/action` as a person's device does.

It answers every step of an episode that expects a person, so that a world in lockstep can wait for it.
"""

import time
from array import array
from functools import partial

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.subscription import Subscription
from serl_robots.model.pose import Pose
from serl_ros.diagnostics import OK, WARN, Diagnostics
from serl_ros.incoming import subscribe
from serl_ros.node import run_node
from serl_ros.parameters import ParameterError, declare
from serl_ros.qos import LATCHED, LOOP_1, LOOP_10, RELIABLE_1
from serl_ros.sender import sender_of
from serl_tasks.arm_sample import arm_topic
from serl_tasks.messages import MessageError, arm_sample, nanoseconds, object_poses

from serl_interfaces.msg import ActionCommand, ArmState, EpisodeStatus, Reward, WorldState
from serl_tasks import ArmSample, get_task, task_names
from serl_teleop.scripted.human import ScriptedHuman
from serl_teleop.scripted.traits import Traits

_REST_AFTER = 5.0  # [s]
_LONGEST = 3600.0  # [s]


def declare_traits(node: Node) -> Traits:
    """Declare what is human about the person.

    Raises:
        ParameterError: a value is out of its range, or two do not fit each other.
    """

    def number(name: str, description: str, largest: float = _LONGEST) -> float:
        return declare(node, name, float(getattr(Traits, name)), description, range=(0.0, largest))

    try:
        return Traits(
            reaction_delay=number("reaction_delay", "From what is seen until the hand acts on it [s].", 10.0),
            imprecision=number("imprecision", "Standard deviation added to normalized motions.", 2.0),
            imprecision_time=number("imprecision_time", "Correlation time of that [s]; 0: none."),
            most_help=number("most_help", "Probability to help in an episode while the policy fails alone.", 1.0),
            least_help=number("least_help", "The same when it always succeeds alone.", 1.0),
            longest_help=number("longest_help", "Longest time to lead in training at a stretch [s]; 0: no bound."),
            rest=number("rest", "Time after that before the hand takes over again [s]."),
            endurance=number("endurance", "Time of leading that tires by 63 % [s]; 0: never tired.", 1e6),
        )
    except ValueError as error:
        raise ParameterError(f"parameters of '{node.get_name()}': {error}") from error


class ScriptedHumanNode(Node):
    """Watches `arm/state` and `truth`, answers with `teleop/action`; of two arms those of each."""

    def __init__(self) -> None:
        """Declare parameters and connect."""
        super().__init__("scripted_human")
        task = get_task(declare(self, "task", "pick_cube", "Task whose expert plays the person.", choices=task_names()))
        self._task = task.name
        self._human = ScriptedHuman(
            task,
            declare(self, "seed", 0, "Seed of the person's own randomness.", range=(0, 2**31)),
            demonstration_noise=declare(
                self,
                "demonstration_noise",
                task.demonstration_noise,
                "Standard deviation added to the normalized actions of demonstrations; by default as the task says.",
                range=(0.0, 2.0),
            ),
            interventions=declare(self, "interventions", True, "Take over while the policy drifts in training."),
            traits=declare_traits(self),
        )
        apart = declare(
            self,
            "stamps_apart",
            0.0,
            "Largest difference of the stamps of arm/state and truth that are looked at together [s]; 0: they are of "
            "one clock and come for the same moment, as from the simulated world.",
            range=(0.0, 1.0),
        )
        self._stamps_apart_ns = round(1e9 * apart)
        self._action = task.action
        self._joined = task.joined
        self._messages = {arm: ActionCommand(synchronous=True, sender=sender_of(self)) for arm in task.arm_names}
        self._rest = np.zeros(len(task.action), np.float32)
        self._status: EpisodeStatus | None = None
        self._arms: dict[str, ArmState] = {}
        self._samples: dict[str, ArmSample] = {}
        self._objects: dict[str, Pose] = {}
        self._needed = (*task.tool_names, *task.pose_names)
        self._truth: WorldState | None = None
        self._answered, self._answered_at = (-1, -1), Time()
        self._action_publishers = {
            arm: self.create_publisher(ActionCommand, arm_topic(arm, "teleop/action"), RELIABLE_1)
            for arm in task.arm_names
        }
        self._episodes = subscribe(self, EpisodeStatus, "episode", self._on_episode, LATCHED, MessageError)
        self._watched: list[Subscription] = []
        self._asked_at = 0.0
        self._rest_timer = self.create_timer(1.0, self._look_away, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._diagnostics = Diagnostics(self, "scripted")
        self._diagnostics.set("person", WARN, "no episode yet")

    def _on_episode(self, status: EpisodeStatus) -> None:
        if status.seed < 0:
            raise MessageError(f"seed: expected a number from 0, found {status.seed}")
        if status.task not in ("", self._task):  # of a pair it is the other one's turn, and its person's
            status.human_expected = False
        self._status = status
        if status.human_expected:
            self._watch()
            demonstrating = status.mode == EpisodeStatus.MODE_DEMONSTRATION
            self._human.begin(status.episode, status.seed, demonstrating=demonstrating)
            doing, tiredness = "demonstrating" if demonstrating else "watching", round(self._human.tiredness, 3)
            self._diagnostics.set("person", OK, doing, tiredness=tiredness, success_alone=round(self._human.alone, 3))
        else:
            self._diagnostics.set("person", OK, "not asked")
        self._answer()

    def _watch(self) -> None:
        """Look at the arm and the world."""
        self._asked_at = time.monotonic()
        if not self._watched:
            self._watched = [
                *(self._watch_arm(arm) for arm in self._messages),
                subscribe(self, WorldState, "truth", self._on_truth, LOOP_10, MessageError),
            ]
            if self._human.traits.eases_off:
                self._watched.append(subscribe(self, Reward, "reward", self._on_reward, LOOP_10, MessageError))

    def _watch_arm(self, arm: str) -> Subscription:
        topic = arm_topic(arm, "arm/state")
        return subscribe(self, ArmState, topic, partial(self._on_arm, arm), LOOP_1, MessageError)

    def _look_away(self) -> None:
        """Stop looking some time after the last episode that asks for a person: every message costs the graph time."""
        if self._status is not None and self._status.human_expected:
            self._asked_at = time.monotonic()
        elif self._watched and time.monotonic() - self._asked_at > _REST_AFTER:
            for subscription in self._watched:
                self.destroy_subscription(subscription)
            self._watched = []
            self._arms.clear()
            self._truth = None

    def _on_arm(self, arm: str, message: ArmState) -> None:
        self._samples[arm], self._arms[arm] = arm_sample(message), message
        self._answer()

    def _on_truth(self, message: WorldState) -> None:
        self._objects, self._truth = object_poses(message, self._needed), message
        if (message.episode, message.step) == self._answered and message.header.stamp == self._answered_at:
            self._send()  # the world still waits: the answer was lost
        else:
            self._answer()

    def _on_reward(self, message: Reward) -> None:
        if message.success and message.task in ("", self._task):
            self._human.succeeded(message.episode)

    def _answer(self) -> None:
        """Answer the newest step once its messages have arrived, in whichever order."""
        status, truth = self._status, self._truth
        if status is None or truth is None or not status.human_expected or len(self._arms) < len(self._messages):
            return
        at_ns = nanoseconds(truth.header.stamp)
        apart_ns = max(abs(nanoseconds(arm.header.stamp) - at_ns) for arm in self._arms.values())
        if truth.episode != status.episode or apart_ns > self._stamps_apart_ns:
            return
        key = (truth.episode, truth.step)
        if key == self._answered:
            return
        self._answered = key
        action = self._human.act(self._joined(self._samples), self._objects)
        parts = self._action.split(self._rest if action is None else action)
        self._answered_at = truth.header.stamp
        for arm, message in self._messages.items():
            message.header.stamp = truth.header.stamp
            message.episode, message.step = key
            message.active = action is not None
            message.action = array("f", parts[arm].tobytes())
        self._send()

    def _send(self) -> None:
        for arm, message in self._messages.items():
            self._action_publishers[arm].publish(message)


def main() -> None:
    """Entry point."""
    run_node(ScriptedHumanNode)
