# SPDX-License-Identifier: Apache-2.0
"""Hostile messages for every subscription, service and action of a running graph, and what must hold meanwhile.

Everything is discovered from the graph: a new node is covered without a line here.
"""

import math
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.action import ActionClient
from rclpy.action.graph import get_action_server_names_and_types_by_node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message, serialize_message
from rclpy.topic_or_service_is_hidden import topic_or_service_is_hidden
from serl_launch.clients.client_node import Client
from serl_launch.clients.message_text import message_class
from serl_launch.errors import CommandError
from std_srvs.srv import SetBool, Trigger

from serl_bench.fuzz.hostile_messages import MessageMaker
from serl_tasks import Task

ANSWER_TIMEOUT = 30.0  # [s] within which every service must have answered
STOP_TIMEOUT = 1.0  # [s] within which the e-stop must have
COMMANDS = ("target_pose", "gripper_controller/commands", "joint_trajectory_controller/joint_trajectory")
MOVES_THE_WORLD = (*COMMANDS, "joint_states", "gripper_controller/gripper_cmd",
                   "joint_trajectory_controller/follow_joint_trajectory")  # fmt: skip
"""Who sends these moves the arm past its controller, or tells it that it is elsewhere: no fault of the controller."""

KNOWN_FAULTS = ("/clock", "/parameter_events", "/set_parameters", "/set_parameters_atomically")
"""Ends of topics and services whose callbacks are rclpy's own and raise at what they cannot use."""

_MOST_PENDING = 8  # service calls at once
_CANCEL_AFTER = 0.3  # [s] that a goal is let run
_STOP_EVERY = 400  # messages between two calls of the e-stop
_REACH = 2.0  # [m] from the base, where nothing says more
_LATCHED = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)  # reaches every subscription
_ANY = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)  # hears every publisher
_FAULT = re.compile(r"callback failed: (.*?): \w+: ")
_PARAMETER_SERVICE = re.compile(r"/((get|set|list|describe)_parameter\w*|get_type_description)$")
_NODE_LINE = re.compile(r"\] \[(?!rcl\b|rcl\.)[\w.]+\]: ")  # what rcl writes by itself is not ours to throttle
_STARTED = re.compile(r"process started with pid \[(\d+)\]")


@dataclass
class Found:
    """What went wrong and what was counted."""

    sent: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    targets: int = 0  # commands of the arm controller that were checked
    stops: list[float] = field(default_factory=list)  # [s] until the e-stop answered

    @property
    def messages(self) -> int:
        """Messages, requests and goals that were sent."""
        return sum(self.sent.values())


class Fuzzer:
    """Sends; used from one thread."""

    def __init__(self, client: Client, task: Task, seed: int, tick: Callable[[], None]) -> None:
        """Discover the graph.

        Args:
            client: a node in it.
            tick: called often; what it raises ends the fuzzing.
            task: whose limits no command may break.
            seed: of everything that is sent.
        """
        self._client, self._task, self._tick = client, task, tick
        self._rng = np.random.default_rng(seed)
        self._maker = MessageMaker(self._rng)
        self.found = Found()
        self._seen: dict[str, deque[Any]] = {}  # topic -> real messages
        self._ours: deque[str] = deque(maxlen=400)  # commands that we sent ourselves
        self._strict = True
        self._pending: list[tuple[str, Any, Any, float]] = []  # name, client, future, deadline
        self._goals: list[tuple[Any, float]] = []  # handle, when to cancel
        self._bases: dict[str, list[Any]] = {}  # service or action -> real requests
        client.settle()
        self.topics, self.services, self.actions = self._discover()
        self._listeners = [
            client.node.create_subscription(kind, name, self._listener(name), _ANY)
            for name, kind in self.topics.items()
        ]
        namespace = client.node.get_namespace().rstrip("/")
        for name, check in zip(COMMANDS, (self._check_pose, self._check_width, self._check_trajectory), strict=True):
            kind = self.topics.get(f"{namespace}/{name}")
            if kind is not None:
                checked = client.node.create_subscription(kind, name, self._checker(check), 10)
                self._listeners.append(checked)
        self._publishers = {
            name: client.node.create_publisher(kind, name, _LATCHED) for name, kind in self.topics.items()
        }
        self._clients = {name: client.node.create_client(kind, name) for name, kind in self.services.items()}
        self._estop = client.node.create_client(SetBool, "arm/estop")
        self._reset_estop = client.node.create_client(Trigger, "arm/reset_estop")
        self._action_clients = {name: ActionClient(client.node, kind, name) for name, kind in self.actions.items()}

    def learn(self, name: str, request: Any) -> None:
        """Take a real request of a service or goal of an action, which is altered now and then."""
        self._bases.setdefault(name, []).append(request)

    def run(self, count: int, *, without: tuple[str, ...] = ()) -> None:
        """Send `count` messages, to everything but what ends in one of `without`.

        Raises:
            CommandError: a service did not answer.
        """
        self._strict = set(MOVES_THE_WORLD) <= set(without)
        names = [
            name
            for name in (*self._publishers, *self._clients, *self._action_clients)
            if not any(name.endswith(f"/{end}") for end in without)
        ]
        until = self.found.messages + count
        next_stop = self.found.messages + _STOP_EVERY
        while self.found.messages < until:
            for name in self._rng.permutation(names).tolist():
                # Every node has half a dozen services of rclpy's; ours matter more.
                if not _PARAMETER_SERVICE.search(name) or self._rng.random() < 0.1:
                    self._send(name)
                self._tick()
            self._client.executor.spin_once(0.002)
            self._settle_calls(_MOST_PENDING)
            if self.found.messages >= next_stop:
                next_stop += _STOP_EVERY
                self.stop_arm()
        self._settle_calls(0)

    def stop_arm(self) -> None:
        """Press the e-stop and release it: both must answer, whatever else goes on."""
        started = time.monotonic()
        stopped = self._ask(self._estop, SetBool.Request(data=True))
        took = time.monotonic() - started
        self.found.stops.append(took)
        if took > STOP_TIMEOUT:
            self.found.failures[f"arm/estop answered later than {STOP_TIMEOUT:g} s"] += 1
        if not stopped.success:
            self.found.failures[f"arm/estop refused: {stopped.message}"] += 1
        self._ask(self._reset_estop, Trigger.Request())

    def _ask(self, client: Any, request: Any) -> Any:
        future = client.call_async(request)
        if not self._client.spin_until(future.done, ANSWER_TIMEOUT, self._tick):
            raise CommandError(f"fuzz: no answer from {client.service_name} within {ANSWER_TIMEOUT:.0f} s")
        return future.result()

    def close(self) -> None:
        """Take back what was latched, and the goals."""
        for goal, _ in self._goals:
            goal.cancel_goal_async()
        node = self._client.node
        for publisher in self._publishers.values():
            node.destroy_publisher(publisher)
        for listener in self._listeners:
            node.destroy_subscription(listener)
        for client in (*self._clients.values(), self._estop, self._reset_estop):
            node.destroy_client(client)
        self._client.spin_until(lambda: False, 0.5)
        for action in self._action_clients.values():
            action.destroy()

    def _discover(self) -> tuple[dict[str, type], dict[str, Any], dict[str, Any]]:
        node = self._client.node
        topics, services, actions = {}, {}, {}
        for name, namespace in node.get_node_names_and_namespaces():
            if name.startswith("_"):
                continue
            # What is hidden belongs to an action, whose client and server are found as such.
            for topic, kinds in node.get_subscriber_names_and_types_by_node(name, namespace):
                if not topic_or_service_is_hidden(topic):
                    topics[topic] = message_class(kinds[0])
            for service, kinds in node.get_service_names_and_types_by_node(name, namespace):
                if not topic_or_service_is_hidden(service):
                    services[service] = message_class(kinds[0])
            for action, kinds in get_action_server_names_and_types_by_node(node, name, namespace):
                actions[action] = message_class(kinds[0])
        return topics, services, actions

    # Sending

    def _send(self, name: str) -> None:
        if name in self._publishers:
            self._publish(name)
        elif name in self._clients:
            client = self._clients[name]
            request = self._make(client.srv_type.Request, self._bases.get(name))
            self._pending.append((name, client, client.call_async(request), time.monotonic() + ANSWER_TIMEOUT))
        elif len(self._goals) < 2:
            goal = self._make(self.actions[name].Goal, self._bases.get(name))
            self._action_clients[name].send_goal_async(goal).add_done_callback(self._on_goal)
        else:
            return
        self.found.sent[name] += 1

    def _publish(self, name: str) -> None:
        message = self._make(self.topics[name], self._seen.get(name))
        if name.endswith(COMMANDS):
            # As it arrives: a string ends at its first NUL.
            self._ours.append(repr(deserialize_message(serialize_message(message), type(message))))
        self._publishers[name].publish(message)

    def _make(self, kind: type, real: Any) -> Any:
        choice = self._rng.random()
        if real and choice < 0.6:
            return self._maker.alter(real[int(self._rng.integers(0, len(real)))], int(self._rng.integers(1, 4)))
        if choice < 0.75:
            return self._maker.alter(kind(), int(self._rng.integers(1, 3)))
        return kind() if choice < 0.77 else self._maker.make(kind)

    def _on_goal(self, future: Any) -> None:
        goal = future.result()
        if goal is not None and goal.accepted:
            self._goals.append((goal, time.monotonic() + _CANCEL_AFTER))

    def _settle_calls(self, most: int) -> None:
        """Take answers until at most so many are outstanding; cancel goals that ran long enough."""
        while True:
            now = time.monotonic()
            waiting = []
            for call in self._pending:
                name, client, future, deadline = call
                if future.done():
                    if not isinstance(future.result(), client.srv_type.Response):
                        self.found.failures[f"service {name}: no response but {future.result()!r:.100}"] += 1
                elif now > deadline:
                    raise CommandError(f"fuzz: no answer from the service {name} within {ANSWER_TIMEOUT:.0f} s")
                else:
                    waiting.append(call)
            self._pending = waiting
            for goal, due in list(self._goals):
                if now > due:
                    goal.cancel_goal_async()
                    self._goals.remove((goal, due))
            if len(self._pending) <= most:
                return
            self._tick()
            self._client.executor.spin_once(0.01)

    # Listening

    def _listener(self, name: str) -> Callable[[Any], None]:
        """Keep real messages: what came before we sent anything there."""
        seen = self._seen.setdefault(name, deque(maxlen=20))

        def on_message(message: Any) -> None:
            if not self.found.sent[name]:
                seen.append(message)

        return on_message

    def _checker(self, check: Callable[[Any], str]) -> Callable[[Any], None]:
        def on_message(message: Any) -> None:
            problem = check(message)
            if problem and repr(message) not in self._ours:
                self.found.failures[f"wrong target: {problem}"] += 1
            self.found.targets += 1

        return on_message

    def _check_pose(self, message: Any) -> str:
        position, turn = message.pose.position, message.pose.orientation
        numbers = (position.x, position.y, position.z, turn.x, turn.y, turn.z, turn.w)
        if not all(map(math.isfinite, numbers)):
            return f"target_pose {numbers}"
        limits = self._task.limits
        low, high = limits.workspace_min, limits.workspace_max
        if not self._strict:
            low, high = (-_REACH,) * 3, (_REACH,) * 3
        outside = any(
            not lowest - 1e-3 <= value <= highest + 1e-3
            for value, lowest, highest in zip(numbers[:3], low, high, strict=True)
        )
        return f"target_pose {numbers[:3]} outside {low} to {high}" if outside else ""

    def _check_width(self, message: Any) -> str:
        widest = self._task.limits.max_gripper_width
        good = len(message.data) == 1 and -1e-6 <= message.data[0] <= widest + 1e-6
        return "" if good else f"gripper width {list(message.data)[:3]}"

    def _check_trajectory(self, message: Any) -> str:
        numbers = [value for point in message.points for value in point.positions]
        good = numbers and all(abs(value) < 2.0 * math.pi for value in numbers)
        return "" if good else f"joint positions {numbers[:7]}"


class LogWatch:
    """What the processes of a graph say, and how much memory they have."""

    def __init__(self, log: Path) -> None:
        """Watch from now on.

        Args:
            log: of the launch runner.
        """
        self._log = log
        self._start = log.stat().st_size
        self._memory = self._resident()

    @property
    def growth(self) -> dict[int, float]:
        """Resident memory of each process [MB] beyond what it had; processes that are gone are left out."""
        return {pid: size - self._memory.get(pid, size) for pid, size in self._resident().items()}

    @property
    def lines(self) -> list[str]:
        """What was logged since."""
        with self._log.open("rb") as file:
            file.seek(self._start)
            return file.read().decode(errors="backslashreplace").split("\n")[:-1]

    def problems(self, messages: int) -> Iterator[str]:
        """What is wrong with the log after so many messages."""
        lines = self.lines
        for line in lines:
            if not line.replace("\t", " ").isprintable():
                yield f"log: a control character in {line!r:.200}"
            fault = _FAULT.search(line)
            if fault and not fault[1].endswith(KNOWN_FAULTS):
                yield f"an exception reached the guard: {line!r:.300}"
            if "Traceback" in line:
                yield f"log: a traceback: {line!r:.200}"
        ours = [line for line in lines if _NODE_LINE.search(line)]
        if len(ours) > 200 + messages // 5:
            common = Counter(line.partition("]: ")[2][:40] for line in ours).most_common(3)
            yield f"log: {len(ours)} lines for {messages} messages, most of them {common}"

    def _resident(self) -> dict[int, float]:
        sizes = {}
        for pid in map(int, _STARTED.findall(self._log.read_text(errors="replace"))):
            with suppress(OSError, StopIteration):
                status = Path(f"/proc/{pid}/status").read_text().splitlines()
                sizes[pid] = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS:"))
        return sizes
