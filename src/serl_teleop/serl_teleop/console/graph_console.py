# SPDX-License-Identifier: Apache-2.0
"""The running graph as the console shows and leads it; see `robot.Robot`.

The node is spun in one thread, the server asks from another. What is asked is answered from values that are replaced as
a whole; what changes subscriptions is done by the timer, in the node's own thread.
"""

import math
import time
from array import array
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from serl_robots.safety.limits import LIMIT_WORDS
from serl_ros.diagnostics import ERROR, WARN
from serl_ros.incoming import subscribe
from serl_ros.qos import LATCHED, LOOP_1, RELIABLE_1, RELIABLE_10, RELIABLE_50
from serl_ros.sender import REAL_PERSON, sender_of
from serl_tasks.messages import MessageError, arm_sample, metric_values

from serl_interfaces.msg import ActionCommand, ArmState, EpisodeStatus, Metrics, SafetyStatus
from serl_tasks import Task
from serl_teleop.console.curves import Curves
from serl_teleop.console.graph_deeds import GraphDeeds
from serl_teleop.console.graph_estop import GraphEstop
from serl_teleop.console.graph_pictures import GraphPictures
from serl_teleop.console.lead import Jog, Lead
from serl_teleop.console.requests import GRIPPER

_LEAD_PERIOD = 0.02  # [s] between two commands of a person
_LET_GO = 5  # times that the arm is told that the person let go: the subscription is best effort
_LOOK_PERIOD = 1.0  # [s] between two looks for cameras and services
_SAFETY_AGE = 3.0  # [s]; `arm/safety` comes every second
_STATUS_AGE = 5.0  # [s] after which nobody repeats a status of /diagnostics any more
_MOST_STATUSES = 200
_MODES = {
    SafetyStatus.MODE_IDLE: "nobody",
    SafetyStatus.MODE_POLICY: "policy",
    SafetyStatus.MODE_HUMAN: "person",
    SafetyStatus.MODE_MOVE_TO: "move_to",
    SafetyStatus.MODE_ESTOP: "e-stop",
}
_EPISODES = {
    EpisodeStatus.MODE_IDLE: "none",
    EpisodeStatus.MODE_DEMONSTRATION: "demonstration",
    EpisodeStatus.MODE_TRAINING: "training",
    EpisodeStatus.MODE_EVALUATION: "evaluation",
}


class GraphConsole:
    """What a console needs of a graph, in the namespace of one arm."""

    def __init__(self, node: Node, task: Task, halt: Callable[[], object] = lambda: None) -> None:
        """Connect.

        Args:
            node: whose namespace is that of the arm.
            task: whose actions are sent.
            halt: a way to stop the arm that needs no ROS, where there is one.
        """
        arm = node.get_namespace().strip("/")
        self._action = task.action.of_arm(arm) if arm in task.action.arms else task.action
        self._task, self._node = task, node
        self.lead = Lead()
        self.components = self._action.names
        self._notices: deque[str] = deque(maxlen=100)
        self._curves = Curves()
        self._estop = GraphEstop(node, self._notices.append, halt)
        self._deeds = GraphDeeds(node, self._notices.append)
        self._pictures = GraphPictures(node)
        self._possible: list[str] = []
        self._watched: Collection[str] | None = None
        self._arm_subscription: Any = None
        self._arm: tuple[ArmState, float] | None = None
        self._safety: tuple[SafetyStatus, float] | None = None
        self._statuses: dict[str, tuple[int, str, float]] = {}
        self._rest = np.zeros(len(self.components), np.float32)  # action that changes nothing
        self._to_tell = 0  # times that the arm is still told that the person let go, or is lost
        self._was_lost = False
        self._looked_at = 0.0
        self._sender = sender_of(node)
        self._publisher = node.create_publisher(ActionCommand, "teleop/action", RELIABLE_1)
        self._kept = [
            subscribe(node, SafetyStatus, "arm/safety", self._on_safety, LATCHED, MessageError),
            subscribe(node, EpisodeStatus, "episode", self._on_episode, LATCHED, MessageError),
            subscribe(node, Metrics, "metrics", self._on_metrics, RELIABLE_50, MessageError),
            subscribe(node, DiagnosticArray, "/diagnostics", self._on_diagnostics, RELIABLE_10, MessageError),
            node.create_timer(_LEAD_PERIOD, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME)),
        ]

    # For the server, see `robot.Robot`

    def about(self) -> Mapping[str, Any]:
        """Task and action."""
        return {
            "task": self._task.name,
            "frame": self._task.frame,
            "components": self._action.names,
            "units": self._action.units,
            "scale": self._action.scale,
        }

    def state(self) -> dict[str, Any]:
        """What there is to see now."""
        now = time.monotonic()
        held = self.lead.current(now)
        safety = self._safety[0] if self._safety is not None and now - self._safety[1] < _SAFETY_AGE else None
        episode = self._deeds.episode
        return {
            "leads": "unknown" if safety is None else _MODES.get(safety.mode, "unknown"),
            "holder": "" if held is None else held[0],
            "reason": "arm/safety is silent" if safety is None else safety.reason,
            "estop": safety is not None and safety.estop,
            "stopped_by": self._estop.by,
            "stopping_s": round(self._estop.waits(now), 3),
            "limits": [] if safety is None else [LIMIT_WORDS.get(name, name) for name in safety.active_limits],
            "paused": self._deeds.paused,
            "episode": {
                "number": 0 if episode is None else episode.episode,
                "mode": "none" if episode is None else _EPISODES.get(episode.mode, "unknown"),
                "task": "" if episode is None else episode.task,
            },
            "arm": self._arm_as_json(now),
            "deeds": self._possible,
            "problems": self._problems(now),
        }

    def curves(self) -> tuple[int, list[dict[str, object]]]:
        """How the training goes on."""
        return self._curves.version, self._curves.as_json()

    def cameras(self) -> tuple[str, ...]:
        """Cameras that were found."""
        return self._pictures.cameras

    def watch(self, cameras: Collection[str] | None) -> None:
        """Somebody looks at these cameras and at the arm; None: nobody looks at anything."""
        self._watched = cameras

    def picture_number(self, camera: str) -> int:
        """See `GraphPictures.number`."""
        return self._pictures.number(camera)

    def jpeg(self, camera: str) -> tuple[bytes, float]:
        """See `GraphPictures.jpeg`."""
        return self._pictures.jpeg(camera)

    def stop(self, who: str) -> None:
        """Stop the arm, first; then nobody leads any more."""
        self._estop.stop(who)
        self.lead.revoke("the e-stop was pressed")

    def release(self, who: str) -> None:
        """Release the e-stop."""
        self._estop.release(who)

    def why_not_lead(self) -> str:
        """Why nobody can lead now."""
        if self._arm is None:
            return "nothing on arm/state yet"
        if self._estop.waits(time.monotonic()) or (self._safety is not None and self._safety[0].estop):
            return "the e-stop is latched: release it first"
        if self._other_leads(time.monotonic()):
            return "somebody leads by another device"
        return ""

    def do(self, deed: str, who: str) -> None:
        """Press a button."""
        self._deeds.do(deed, who)

    def notices(self) -> list[str]:
        """What happened since the last call."""
        return [self._notices.popleft() for _ in range(len(self._notices))]

    # In the node's thread

    def close(self) -> None:
        """Nobody leads any more."""
        self.lead.revoke("the console has ended")
        if self._to_tell:
            self._publish(None)

    def _other_leads(self, now: float) -> bool:
        """Whether a person leads from elsewhere, and need not yield to a page."""
        if self._safety is None or now - self._safety[1] > _SAFETY_AGE:
            return False
        safety = self._safety[0]
        is_other = safety.mode == SafetyStatus.MODE_HUMAN and safety.leader != self._sender
        return is_other and safety.leader_priority >= REAL_PERSON

    def _tick(self) -> None:
        now = time.monotonic()
        held, lost = self.lead.current(now), self.lead.is_lost
        if self._was_lost and not lost:
            self._to_tell = _LET_GO
        self._was_lost = lost
        if held is not None and self._arm is not None:  # without it nobody knows what the gripper was told
            self._publish(held[1])
            self._to_tell = _LET_GO
        elif self._to_tell:
            # who was lost wants nothing any more, and has not let go: the arm is held, also when nothing follows
            self._publish(Jog() if lost else None)
            self._to_tell -= 1
        self._estop.tick(now)
        self._look(now)

    def _publish(self, jog: Jog | None) -> None:
        if self._arm is not None:
            self._rest = self._action.rest(self._arm[0].gripper_target)
        action = self._rest.copy()
        if jog is not None:
            wanted = dict(jog.deltas) if jog.gripper is None else {**jog.deltas, GRIPPER: jog.gripper}
            for index, name in enumerate(self._action.names):
                action[index] = wanted.get(name, action[index])
        self._publisher.publish(
            ActionCommand(
                active=jog is not None,
                action=array("f", action.tobytes()),
                sender=self._sender,
                priority=REAL_PERSON,
            )
        )

    def _look(self, now: float) -> None:
        """What somebody looks at is subscribed to, and nothing else: every message costs the graph time."""
        watched = self._watched
        if (watched is None) != (self._arm_subscription is None):
            if watched is None:
                self._node.destroy_subscription(self._arm_subscription)
                self._arm_subscription = self._arm = None
            else:
                self._arm_subscription = subscribe(
                    self._node, ArmState, "arm/state", self._on_arm, LOOP_1, MessageError
                )
        self._pictures.watch(watched or ())
        is_due, paused = now - self._looked_at >= _LOOK_PERIOD, self._is_paused(now)
        if is_due:
            self._looked_at = now
            self._pictures.look()
        if is_due or paused != self._deeds.paused:
            self._deeds.paused = paused
            self._possible = self._deeds.possible()

    def _on_arm(self, message: ArmState) -> None:
        arm_sample(message)
        self._arm = message, time.monotonic()

    def _on_safety(self, message: SafetyStatus) -> None:
        if message.estop and not (self._safety is not None and self._safety[0].estop):
            self.lead.revoke("the arm is stopped")
        self._estop.hear(message)
        now = time.monotonic()
        self._safety = message, now
        if self._other_leads(now):
            self.lead.revoke("somebody leads by another device")

    def _on_episode(self, message: EpisodeStatus) -> None:
        self._deeds.episode = message

    def _on_metrics(self, message: Metrics) -> None:
        self._curves.add(message.env_steps, metric_values(message))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        now = time.monotonic()
        statuses = {name: status for name, status in self._statuses.items() if now - status[2] < _STATUS_AGE}
        for status in message.status[: _MOST_STATUSES - len(statuses)]:
            statuses[status.name] = status.level[0], status.message, now
        self._statuses = statuses

    def _is_paused(self, now: float) -> bool:
        """Whether the actor of this namespace says that a person has paused it."""
        namespace = self._node.get_namespace().rstrip("/")
        name = f"{namespace}/actor: pause" if namespace else "actor: pause"
        _, text, at = self._statuses.get(name, (0, "", -math.inf))
        return text == "paused" and now - at < _STATUS_AGE

    def _problems(self, now: float) -> list[dict[str, Any]]:
        found = [
            {"name": name, "error": level != WARN[0], "text": text}
            for name, (level, text, at) in self._statuses.items()
            if level in (WARN[0], ERROR[0]) and now - at < _STATUS_AGE
        ]
        return sorted(found, key=lambda each: (not each["error"], each["name"]))

    def _arm_as_json(self, now: float) -> dict[str, Any] | None:
        if self._arm is None:
            return None
        message, arrived = self._arm
        place = message.tcp_pose.position
        numbers = {"x": place.x, "y": place.y, "z": place.z, "gripper": message.gripper_width}
        shown = {name: round(value, 4) for name, value in numbers.items() if math.isfinite(value)}
        return {**shown, "age_s": round(now - arrived, 2)}
