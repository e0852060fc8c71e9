# SPDX-License-Identifier: Apache-2.0
"""A gripper behind an action of ros2_control: newer goals replace older ones, and nobody waits for any."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, Final

from action_msgs.msg import GoalStatus
from control_msgs.action import GripperCommand, ParallelGripperCommand
from rclpy.action import ActionClient
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from serl_robots.model.gripper import Gripper
from unique_identifier_msgs.msg import UUID

from serl_drivers.device import DriverError

_TYPES: Final = {
    "control_msgs/action/ParallelGripperCommand_SendGoal": ParallelGripperCommand,
    "control_msgs/action/GripperCommand_SendGoal": GripperCommand,
}
_PERIOD = 0.02  # [s] in which an opening that stays the same is one to go to
_LONGEST_WAIT = 0.1  # [s] that a changing one is waited for
_LOOK = 0.05  # [s]
_AGAIN_AFTER = 1.0  # [s] after which a goal that was refused is sent again
_ANSWERED = 1.0  # [s] within which a goal is taken or refused; then it is sent again
_ENDED = 10.0  # [s] within which something becomes of one that was taken
_REMEMBERED = 10_000  # goals: far more than can be under way at once, also where none of them ever ends


class ActionGripper:
    """Sends the newest opening as a goal. `move_to` from any thread, the rest in the thread that spins the node."""

    def __init__(
        self, node: Node, name: str, gripper: Gripper, tell: Callable[[bool, str], None], *, effort: float,
        tolerance: float,
    ) -> None:  # fmt: skip
        """Command the gripper behind an action.

        Args:
            node: that sends goals.
            name: of the action, relative to the node's namespace.
            gripper: which joint has which position.
            tell: hears what comes of goals, in one line; whether something is wrong comes first.
            effort: of goals [N]; 0: none is sent.
            tolerance: change of the opening for which there is a new goal [m].
        """
        self._node, self._gripper, self._tell = node, gripper, tell
        self._effort, self._tolerance = effort, tolerance
        self.name = node.resolve_service_name(name)
        """Full name of the action."""
        self._client: ActionClient | None = None
        self._type: Any = None
        self._lock = threading.Lock()
        self._wanted: float | None = None
        self._before: float | None = None
        self._changed_at: float | None = None
        self._sent: float | None = None
        self._refused_at = -_AGAIN_AFTER
        self._goals = self._taken = 0  # numbers of the last goals that were sent, and taken
        self._own: dict[bytes, None] = {}  # in the order in which they were sent
        self._awaited: tuple[float, str] | None = None  # until when, and what is said if it has not come by then
        self._timer = node.create_timer(_PERIOD, self._on_timer, clock=Clock(clock_type=ClockType.STEADY_TIME))

    @property
    def is_offered(self) -> bool:
        """Whether somebody offers the action now."""
        return self._client is not None and self._client.server_is_ready()

    def is_own(self, goal: bytes) -> bool:
        """Whether a goal of the action, by its identifier (16 bytes), was sent from here."""
        return goal in self._own

    def find(self, timeout: float) -> None:
        """Look which of the two actions is offered.

        Raises:
            DriverError: neither is within `timeout` [s].
        """
        self._sent = None  # where a gripper that was started anew is nobody knows
        deadline = time.monotonic() + timeout
        while not self.is_offered:
            kind = self._offered_type()
            if kind is not None and kind is not self._type:
                if self._client is not None:
                    self._client.destroy()
                self._type, self._client = kind, ActionClient(self._node, kind, self.name)
            if time.monotonic() > deadline:
                raise DriverError(
                    f"no gripper action {self.name} after {timeout:g} s: start the gripper's controller, or name its "
                    "action by `gripper_action` (ros2 action list); '' where there is none"
                )
            time.sleep(_LOOK)

    def destroy(self) -> None:
        """Take the action's client back; before the node is destroyed, which it would keep."""
        if self._client is not None:
            self._client.destroy()

    def move_to(self, width: float) -> None:
        """Go to an opening [m] soon."""
        with self._lock:
            self._wanted = width

    def stop_wanting(self) -> None:
        """Send no more goals until the next `move_to`; the gripper keeps what it holds."""
        with self._lock:
            self._wanted = self._before = self._changed_at = None

    def _offered_type(self) -> Any:
        service = f"{self.name}/_action/send_goal"
        for name, types in self._node.get_service_names_and_types():
            if name == service:
                return next((_TYPES[each] for each in types if each in _TYPES), None)
        return None

    def _on_timer(self) -> None:
        with self._lock:
            wanted, before = self._wanted, self._before
            self._before = wanted
        now = time.monotonic()
        self._look_at_answers(now)
        if wanted is None or (self._sent is not None and abs(wanted - self._sent) < self._tolerance):
            self._changed_at = None
            return
        if now - self._refused_at < _AGAIN_AFTER:
            return
        if self._changed_at is None:
            self._changed_at = now
        if wanted == before or now - self._changed_at >= _LONGEST_WAIT:
            self._send(wanted)

    def _look_at_answers(self, now: float) -> None:
        """Say which answer has not come in its time; a goal that nobody has taken is sent again."""
        if self._awaited is None or now < self._awaited[0]:
            return
        text, self._awaited = self._awaited[1], None
        if self._taken != self._goals:
            self._sent = None
        self._tell(True, text)

    def _send(self, width: float) -> None:
        if self._client is None or not self._client.server_is_ready():
            return  # `is_offered` tells
        self._sent, self._changed_at = width, None
        self._goals += 1
        number, position = self._goals, self._gripper.position(width)
        goal = self._type.Goal()
        if self._type is ParallelGripperCommand:
            goal.command.name, goal.command.position = [self._gripper.joints[0]], [position]
            goal.command.effort = [self._effort] if self._effort else []
        else:
            goal.command.position, goal.command.max_effort = position, self._effort
        name = uuid.uuid4().bytes
        self._own[name] = None
        if len(self._own) > _REMEMBERED:
            del self._own[next(iter(self._own))]
        text = f"{self.name} has not answered for {_ANSWERED:g} s whether it opens to {width:.3f} m; it is asked again"
        self._awaited = (time.monotonic() + _ANSWERED, text)
        future = self._client.send_goal_async(goal, goal_uuid=UUID(uuid=list(name)))
        future.add_done_callback(lambda done: self._on_answer(number, width, done.result()))

    def _on_answer(self, number: int, width: float, handle: Any) -> None:
        if number == self._goals:
            self._awaited = None
        if handle is None or not handle.accepted:
            if number == self._goals:
                self._sent, self._refused_at = None, time.monotonic()
                self._tell(True, f"{self.name} refused to open to {width:.3f} m; its log says why")
            return
        if number == self._goals:
            text = f"{self.name} has not said for {_ENDED:g} s what became of the way to {width:.3f} m; look at it"
            self._taken, self._awaited = number, (time.monotonic() + _ENDED, text)
        future = handle.get_result_async()
        future.add_done_callback(lambda done: self._on_result(number, width, done.result()))

    def _on_result(self, number: int, width: float, answer: Any) -> None:
        if number != self._goals or answer is None:
            return  # a newer goal has replaced it
        self._awaited = None
        result = answer.result
        if result.stalled:
            self._tell(
                False, f"{self.name} stalled on the way to {width:.3f} m{self._at(result)}: something is gripped"
            )
        elif answer.status == GoalStatus.STATUS_SUCCEEDED:
            self._tell(False, f"{self.name} is open to {width:.3f} m")
        else:
            self._tell(True, f"{self.name} gave up the way to {width:.3f} m{self._at(result)}; its log says why")

    def _at(self, result: Any) -> str:
        """Where the gripper is, where the result tells."""
        state = getattr(result, "state", None)
        if state is None:
            position = result.position
        elif not state.position:
            return ""
        else:
            fingers = dict(zip(state.name, state.position, strict=False))
            position = fingers.get(self._gripper.joints[0], state.position[0])
        return f", at {self._gripper.width([position] * len(self._gripper.joints)):.3f} m"
