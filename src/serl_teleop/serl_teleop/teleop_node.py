# SPDX-License-Identifier: Apache-2.0
"""Node `teleop`: a person leads by devices.

What it publishes is what any device of your own, or a console, publishes too:

- `teleop/action` (ActionCommand, `RELIABLE_1`): while the person leads, at `rate` and when a device reports, with
  `active` true, `synchronous` false, `episode` and `step` 0, the clock of the node and a `sender` that no other node
  has; then three times with `active` false; then nothing. A person who leads without moving sends the action that
  changes nothing, in which the gripper is what is commanded of it now (`ActionMapping.rest`).
- `teleop/event` (TeleopEvent, `RELIABLE_10`): one message for each press of a button that says something: success,
  failure, discard, rewind, pause, ready. Whoever it concerns subscribes: `reward_human` and `actor` do.

`teleop/release` (std_srvs/Trigger) lets the policy go on where a device, or the node or page behind it, was lost while
the person led. Until then, or until the device is back and has been taken and let go, the arm is held.

What a device reports by a file descriptor or a topic is acted on at once; the others are looked at `rate` times a
second, and so is what depends on time alone, as a device that has been at rest for long enough.

Two who lead at once would pull the arm to and fro. Within the node the devices have priorities; while a person leads
from elsewhere, as by a page of the console, none of them does, and each has to be let go before it leads.
"""

import math
import time
from array import array
from collections.abc import Sequence

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from serl_ros.diagnostics import ERROR, OK, WARN, Diagnostics
from serl_ros.incoming import subscribe
from serl_ros.log import INFO, log
from serl_ros.log import WARN as WARNING
from serl_ros.node import run_node
from serl_ros.parameters import ParameterError, declare
from serl_ros.qos import LATCHED, LOOP_1, RELIABLE_1, RELIABLE_10
from serl_ros.sender import REAL_PERSON, sender_of
from serl_tasks.messages import MessageError, arm_sample
from std_srvs.srv import Trigger

from serl_interfaces.msg import ActionCommand, ArmState, SafetyStatus, TeleopEvent
from serl_tasks import ArmSample, get_task, task_names
from serl_teleop.devices.action_mapping import ActionMapping
from serl_teleop.devices.buttons import Function
from serl_teleop.devices.hand import Hand
from serl_teleop.devices.kinds import KINDS
from serl_teleop.devices.operator import Intent, Operator
from serl_teleop.devices.priority import leader
from serl_teleop.devices.report_watch import SHORTEST_PAUSE, ReportWatch
from serl_teleop.devices.takeover import Phase
from serl_teleop.open_devices_node import declare_settings, opener

_FAREWELLS = 3  # the arm controller's subscription is best effort
_SAFETY_AGE = 3.0  # [s] after which arm/safety, which comes every second, says nothing any more
_EVENTS = {
    Function.SUCCESS: TeleopEvent.SUCCESS,
    Function.FAILURE: TeleopEvent.FAILURE,
    Function.DISCARD: TeleopEvent.DISCARD,
    Function.REWIND: TeleopEvent.REWIND,
    Function.PAUSE: TeleopEvent.PAUSE,
    Function.READY: TeleopEvent.READY,
}


class TeleopNode(Node):
    """Publishes `teleop/action` while the person leads; see the module."""

    def __init__(self) -> None:
        """Declare parameters and connect.

        Raises:
            ValueError: a parameter cannot be used.
        """
        super().__init__("teleop")
        self._task = get_task(declare(self, "task", "pick_cube", "Task whose actions are sent.", choices=task_names()))
        frame = declare(
            self, "frame", "base", "Whose axes the person steers along: base or tool.", choices=("base", "tool")
        )
        self._mapping = ActionMapping(self._task, "tool" if frame == "tool" else "base")
        names = declare(
            self, "devices", ["spacemouse"], f"Devices, of {', '.join(KINDS)}; the first has the highest priority."
        )
        if not names or len(set(names)) != len(names) or not set(names) <= set(KINDS):
            raise ParameterError(f"parameter 'devices': expected some of {', '.join(KINDS)}, each once, found {names}")
        rate = declare(
            self, "rate", 50.0, "Looks at the devices, and actions, a second, at least [Hz].", range=(10.0, 250.0)
        )
        self._hands = [
            Hand(
                Operator(name, declare_settings(self, KINDS[name])),
                opener(self, name, self._task, self._on_report),
            )
            for name in names
        ]
        self._looked_at = -math.inf  # [s]
        reported = self.create_guard_condition(self._look)
        self._watch = ReportWatch(reported.trigger)
        self._arm: ArmSample | None = None
        self._other_heard_at = -math.inf  # [s] when arm/safety said that somebody else leads
        self._somebody_is_gone = False  # arm/safety: who led has died, and the arm is held
        self._told: str | None = None
        self._farewells = 0
        self._message = ActionCommand(
            sender=sender_of(self),
            priority=declare(
                self,
                "priority",
                REAL_PERSON,
                "Of whoever leads here, among nodes and pages that lead: a higher one takes over.",
                range=(0, 255),
            ),
        )
        self._publisher = self.create_publisher(ActionCommand, "teleop/action", RELIABLE_1)
        self._events = self.create_publisher(TeleopEvent, "teleop/event", RELIABLE_10)
        self._diagnostics = Diagnostics(self, "teleop")
        self._kept = [
            subscribe(self, ArmState, "arm/state", self._on_arm, LOOP_1, MessageError),
            subscribe(self, SafetyStatus, "arm/safety", self._on_safety, LATCHED, MessageError),
            self.create_service(Trigger, "teleop/release", self._on_release),
            self.create_timer(1.0 / rate, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME)),
        ]
        self._diagnostics.set("person", WARN, "no arm/state yet")

    def close(self) -> None:
        """Let go of the devices, and of the arm."""
        if self._farewells and self._arm is not None:
            self._publish(active=False, action=array("f", self._mapping.rest(self._arm).tobytes()))
        self._watch.close()
        for hand in self._hands:
            hand.close()

    # From the graph

    def _on_arm(self, message: ArmState) -> None:
        self._arm = arm_sample(message)
        # who holds a device deflected moves nothing when the e-stop is released, or when the other one has let go
        if message.mode == SafetyStatus.MODE_ESTOP or self._is_led_from_elsewhere:
            for hand in self._hands:
                if hand.operator.takeover.phase is not Phase.HOLDING:  # a stop is no consent to go on without it
                    hand.operator.overrule()

    def _on_safety(self, message: SafetyStatus) -> None:
        """Who leads from elsewhere, and need not yield to anybody here."""
        self._somebody_is_gone = message.mode == SafetyStatus.MODE_HUMAN and not message.leader
        other = message.mode == SafetyStatus.MODE_HUMAN and message.leader != self._message.sender
        other = other and message.leader_priority >= self._message.priority
        self._other_heard_at = time.monotonic() if other else -math.inf

    @property
    def _is_led_from_elsewhere(self) -> bool:
        return time.monotonic() - self._other_heard_at < _SAFETY_AGE

    def _on_release(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        released = [hand.operator.name for hand in self._hands if hand.operator.takeover.consent()]
        if self._somebody_is_gone:  # a node or page that died; nobody is left to say it for them
            released.append("who led and has fallen silent")
            self._farewells = max(self._farewells, _FAREWELLS)
        response.success = bool(released)
        response.message = f"{', '.join(released)} no longer holds the arm" if released else "nothing holds the arm"
        return response

    # To the graph

    def _on_report(self) -> None:
        """A message of a device has come; whoever floods is looked at as often as any other."""
        if time.monotonic() - self._looked_at >= SHORTEST_PAUSE:
            self._look()

    def _look(self) -> None:
        arm, now = self._arm, time.monotonic()
        if arm is None:
            return
        self._looked_at = now
        rest = self._mapping.rest(arm)
        gripper = self._mapping.gripper_of(rest)
        intents = [hand.ask(gripper, now) for hand in self._hands]
        self._watch.watch(descriptor for hand in self._hands for descriptor in hand.descriptors)
        for hand, intent in zip(self._hands, intents, strict=True):
            for word in intent.words:
                self._say(hand, word)
        chosen = leader([hand.operator for hand in self._hands], intents)
        if chosen is not None:
            intent = intents[chosen]
            if intent.motion is None:
                action = self._mapping.action(intent.twist, intent.gripper, arm)
            else:
                action = self._mapping.action_for(intent.motion, intent.gripper, arm)
            self._farewells = _FAREWELLS
            self._publish(active=True, action=array("f", action.tobytes()))
        elif self._farewells:
            self._farewells -= 1
            self._publish(active=False, action=array("f", rest.tobytes()))
        self._tell(intents, chosen)

    def _publish(self, *, active: bool, action: "array[float]") -> None:
        message = self._message
        message.header.stamp = self.get_clock().now().to_msg()
        message.active, message.action = active, action
        self._publisher.publish(message)

    def _say(self, hand: Hand, word: Function) -> None:
        event = TeleopEvent(device=hand.operator.name, event=_EVENTS[word])
        event.header.stamp = self.get_clock().now().to_msg()
        self._events.publish(event)
        log(self, INFO, f"{hand.operator.name}: {word.value}")

    def _tell(self, intents: Sequence[Intent], chosen: int | None) -> None:
        """Say on the log and /diagnostics what has changed."""
        for index, (hand, intent) in enumerate(zip(self._hands, intents, strict=True)):
            name, phase = hand.operator.name, hand.operator.takeover.phase
            if hand.shown == (phase, intent.problem):
                continue
            before, hand.shown = hand.shown and hand.shown[0], (phase, intent.problem)
            text = phase.value + (f": {intent.problem}" if intent.problem else "")
            lost = phase in (Phase.HOLDING, Phase.ABSENT)
            self._diagnostics.set(name, ERROR if lost else WARN if intent.problem else OK, text, priority=index)
            if phase is Phase.HOLDING:
                text += "; take the device and let it go, or call teleop/release"
            if Phase.LEADING in (before, phase) or intent.problem:
                log(self, WARNING if intent.problem else INFO, f"{name} {text}", throttle=5.0, key=(name, text))
        text = "nobody leads" if chosen is None else f"leads by {self._hands[chosen].operator.name}"
        if self._is_led_from_elsewhere:
            text = "somebody leads from elsewhere, by a page or another node"
        if text != self._told:
            self._told = text
            self._diagnostics.set("person", OK, text)


def main() -> None:
    """Entry point."""
    run_node(TeleopNode)
