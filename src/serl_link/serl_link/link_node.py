# SPDX-License-Identifier: Apache-2.0
"""An end of the link between the robot's machine and the learner's: carries what `serl_link.carried` lists."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from functools import partial
from pathlib import Path
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.serialization import deserialize_message, serialize_message
from rclpy.service import Service
from serl_config.text import printable
from serl_ros.diagnostics import ERROR as BAD
from serl_ros.diagnostics import OK, Diagnostics
from serl_ros.incoming import refuse
from serl_ros.log import ERROR, INFO, WARN, log
from serl_ros.node import run_node
from serl_ros.parameters import declare
from serl_ros.qos import LATCHED, RELIABLE_50

from serl_interfaces.msg import Metrics, PolicyParameters
from serl_interfaces.srv import InsertTransitions
from serl_link.carried import (
    INSERT,
    LATER,
    METRICS,
    POLICY,
    Echo,
    LinkError,
    LinkLater,
    LinkRefusal,
    digest,
    endpoint,
    wire_name,
)
from serl_link.keys import SIDES, read_keys
from serl_link.patience import MOST_LATER, MOST_TRIES, Owed, guarded, repeat
from serl_link.reasons import StrangersLog, seen_at, why_not
from serl_link.session import library, open_session

_ANSWER = 2.5  # [s] for a request over the link, less than the actor's own patience
_STATE = 2.0  # [s] for an answer about the state of the other side
_ASK_PERIOD = 0.5  # [s] between two questions about it
_NOTICE = 10.0  # [s] between two lines about the same thing
_FRESH = 3.0  # [s] for which a policy may still be on its way
_MOST_METRICS = 2000  # messages that are kept while the other side is away
_TIMED_OUT = "Timeout"  # what Zenoh itself replies in the place of who did not
_STEADY = ClockType.STEADY_TIME


class LinkNode(Node):
    """One end of the link; the topics and services of each prefix are carried by a channel of their own."""

    def __init__(self) -> None:
        """Read the keys, then listen or connect."""
        super().__init__("link")
        side = declare(self, "side", "robot", "Which machine this is.", choices=SIDES)
        at = declare(self, "at", "", "HOST:PORT of the learner's machine, as its certificate names it.")
        folder = declare(self, "keys", "keys", "Folder of this side's keys, made by ./serl security init.")
        prefixes = declare(self, "prefixes", "", "Beginnings of the names of topics, parted by commas.")
        host, port = endpoint(at)
        keys = read_keys(Path(folder), side)
        self.diagnostics = Diagnostics(self)
        self._strangers = StrangersLog(partial(self._on_stranger, port)) if side == "learner" else None
        self._known: dict[str, str] = {}
        self._session = open_session(keys, host, port)
        if keys.soon:
            log(self, WARN, keys.soon)
        where = f"listens at port {port} for" if side == "learner" else f"connects to {host}:{port} as"
        log(self, INFO, f"{where} the robot's side, with keys of the authority {keys.issuer} ({keys.authority})")
        self._events = self._session.info.declare_link_events_listener(
            guarded(self._on_link, partial(refuse, self, "link")), history=True
        )
        self.channels: list[LearnerChannel | RobotChannel] = [
            LearnerChannel(self, self._session, prefix)
            if side == "learner"
            else RobotChannel(self, self._session, prefix, partial(why_not, host, port, keys), f"{host}:{port}")
            for prefix in prefixes.split(",")
        ]

    def close(self) -> None:
        """Leave; the other side notices at once."""
        for channel in self.channels:
            channel.close()
        self._session.close()
        if self._strangers is not None:
            self._strangers.close()

    def _on_link(self, event: Any) -> None:
        """A connection has come or gone; from a thread of Zenoh."""
        link = event.link
        address = str(link.dst).removeprefix("tls/").rpartition(":")[0]
        who = f"{printable(link.auth_identifier or 'nobody', 80)} at {printable(address, 80)}"
        if event.kind == library().SampleKind.PUT:
            self._known[str(link.dst)] = address.strip("[]")
            log(self, INFO, f"joined: {who}")
        else:
            self._known.pop(str(link.dst), None)
            log(self, WARN, f"connection lost: {who}")

    def _on_stranger(self, port: int, why: str) -> None:
        """Somebody was refused; from the thread that reads Zenoh's log."""
        seen = ", ".join(seen_at(port, frozenset(self._known.values())))
        text = f"refused a stranger{f', seen at port {port}: {seen}' if seen else ''}: {why}"
        log(self, WARN, text, throttle=_NOTICE, key=("stranger", why))


class LearnerChannel:
    """The learner's end: calls `learner/insert` for the robot's side, sends policies and metrics."""

    def __init__(self, node: LinkNode, session: Any, prefix: str) -> None:
        """Carry the topics whose names begin with `prefix`."""
        self._node, self._session, self._zenoh = node, session, library()
        self._client = node.create_client(InsertTransitions, prefix + INSERT.name)
        self._metrics = node.create_publisher(Metrics, prefix + METRICS.name, RELIABLE_50)
        self._policy, self._policy_at = b"", 0.0
        self._echo = Echo()
        self._heard: dict[str, int] = {}
        self._waiting: deque[tuple[float, Any]] = deque()
        names = [node.resolve_topic_name(prefix + each.name) for each in (INSERT, POLICY, METRICS)]
        self._insert_name, self._policy_name, self._metrics_name = names
        policy = _safe(node, self._policy_name, self._on_policy)
        metrics = _safe(node, self._metrics_name, self._on_metrics)
        node.create_subscription(PolicyParameters, prefix + POLICY.name, policy, LATCHED, raw=True)
        node.create_subscription(Metrics, prefix + METRICS.name, metrics, RELIABLE_50, raw=True)
        node.create_timer(1.0, self._forget, clock=Clock(clock_type=_STEADY))
        self._queryables = [
            session.declare_queryable(wire_name(self._insert_name), self._guarded(self._insert)),
            session.declare_queryable(wire_name(self._policy_name, "state"), self._guarded(self._state)),
            session.declare_queryable(wire_name(self._metrics_name), self._guarded(self._take_metrics)),
        ]

    def close(self) -> None:
        """Answer no more."""
        for each in self._queryables:
            each.undeclare()

    def _guarded(self, serve: Any) -> Any:
        """`serve`, whose refusals are answered and said."""

        def call(query: Any) -> None:
            try:
                serve(query)
            except LinkLater as error:  # no fault: nobody is warned
                query.reply_err(f"{LATER}{error}".encode())
            except Exception as error:  # noqa: BLE001 - who asks gets an answer, whatever it is
                refuse(self._node, f"link {query.key_expr}", error)
                later = "" if isinstance(error, LinkError) else LATER
                query.reply_err(f"{later}{printable(error, 500)}".encode())

        return _safe(self._node, "answers", call)

    def _insert(self, query: Any) -> None:
        request = _read(query.payload, InsertTransitions.Request, INSERT.most_bytes)
        if not self._client.service_is_ready():
            raise LinkLater(f"{self._insert_name} is not there; is the learner running?")
        future = self._client.call_async(request)
        self._waiting.append((time.monotonic() + _ANSWER, future))

        def answer(done: Any) -> None:
            try:
                if not done.cancelled() and done.result() is not None:
                    query.reply(wire_name(self._insert_name), serialize_message(done.result()))
            finally:
                query.drop()

        future.add_done_callback(_safe(self._node, self._insert_name, answer))

    def _forget(self) -> None:
        """Requests that the learner has not answered in time: the robot's side asks again."""
        while self._waiting and self._waiting[0][0] < time.monotonic():
            future = self._waiting.popleft()[1]
            if not future.done():
                self._client.remove_pending_request(future)
                future.cancel()

    def _state(self, query: Any) -> None:
        """Whether the learner serves, and the newest policy where the other side has another one."""
        theirs = bytes(query.payload) if query.payload is not None else b""
        policy = self._policy
        missing = policy and digest(policy) != theirs and (not theirs or time.monotonic() - self._policy_at > _FRESH)
        ready = b"\1" if self._client.service_is_ready() else b"\0"
        query.reply(wire_name(self._policy_name, "state"), policy if missing else b"", attachment=ready)

    def _on_policy(self, data: bytes) -> None:
        _check_size(data, POLICY.most_bytes)
        self._policy, self._policy_at = bytes(data), time.monotonic()
        self._session.put(
            wire_name(self._policy_name), self._policy, congestion_control=self._zenoh.CongestionControl.DROP
        )

    def _on_metrics(self, data: bytes) -> None:
        if not self._echo.is_own(data):
            _check_size(data, METRICS.most_bytes)
            drop = self._zenoh.CongestionControl.DROP
            self._session.put(wire_name(self._metrics_name, "learner"), bytes(data), congestion_control=drop)

    def _take_metrics(self, query: Any) -> None:
        """Metrics of the robot's side, each once."""
        _read(query.payload, Metrics, METRICS.most_bytes)
        session, _, number = bytes(query.attachment or b"").decode("ascii", "replace").partition(" ")
        if not number.isdecimal() or len(session) > 64:
            raise LinkError(f"{self._metrics_name}: expected a session and a number, found neither")
        if not self._client.service_is_ready():
            raise LinkLater("no learner runs there")  # nobody would hear them
        if int(number) > self._heard.get(session, -1):
            self._heard = {**dict(list(self._heard.items())[-15:]), session: int(number)}
            data = bytes(query.payload)
            self._echo.brought(data)
            self._metrics.publish(data)
        query.reply(wire_name(self._metrics_name), b"")


class RobotChannel:
    """The robot's end: serves `learner/insert` while the learner does, publishes policies, hands over metrics."""

    def __init__(self, node: LinkNode, session: Any, prefix: str, why: Any, peer: str) -> None:
        """Carry the topics whose names begin with `prefix`; `why` says why nobody answers, `peer` who should."""
        self._node, self._session, self._why, self._peer = node, session, why, peer
        self._prefix = prefix
        names = [node.resolve_topic_name(prefix + each.name) for each in (INSERT, POLICY, METRICS)]
        self._insert_name, self._policy_name, self._metrics_name = names
        self._policies = node.create_publisher(PolicyParameters, prefix + POLICY.name, LATCHED)
        self._metrics = node.create_publisher(Metrics, prefix + METRICS.name, RELIABLE_50)
        self._service: Service | None = None
        self._ready = False
        self._newest = b""
        self._publishing = threading.Lock()
        self._echo = Echo()
        self._owed = Owed(_MOST_METRICS)
        self._said = -_NOTICE
        self._own_session = os.urandom(8).hex()
        self._stopping = threading.Event()
        metrics = _safe(node, self._metrics_name, self._on_metrics)
        node.create_subscription(Metrics, prefix + METRICS.name, metrics, RELIABLE_50, raw=True)
        node.create_timer(0.1, self._serve_while_ready, clock=Clock(clock_type=_STEADY))
        self._subscribers = [
            session.declare_subscriber(wire_name(self._policy_name), _safe(node, self._policy_name, self._on_policy)),
            session.declare_subscriber(
                wire_name(self._metrics_name, "learner"), _safe(node, self._metrics_name, self._on_their_metrics)
            ),
        ]
        self._threads = [
            threading.Thread(target=repeat, name=name, args=(work, self._stopping, tell), daemon=True)
            for name, work, tell in (
                ("state", self._watch, self._on_unforeseen),
                ("metrics", self._hand_over, partial(refuse, node, f"link {self._metrics_name}")),
            )
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Ask no more."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(_STATE + 1.0)
        for each in self._subscribers:
            each.undeclare()

    def _ask(self, name: str, payload: bytes, timeout: float, attachment: bytes | None = None) -> Any:
        """The first answer of the other side as a sample.

        Raises:
            LinkRefusal: it was a refusal.
            LinkLater: the other side cannot take it now.
            LinkError: there was none in time.
        """
        for reply in self._session.get(name, payload=payload, attachment=attachment, timeout=timeout):
            if reply.ok is not None:
                return reply.ok
            said = bytes(reply.err.payload).decode("utf-8", "replace")
            if said != _TIMED_OUT:
                kind = LinkLater if said.startswith(LATER) else LinkRefusal
                raise kind(printable(said, 500))
        raise LinkError(f"no answer of {self._peer} within {timeout:g} s")

    def _watch(self) -> None:
        """Ask whether the learner is there, and for a policy that was lost."""
        if self._stopping.wait(_ASK_PERIOD):
            return
        try:
            answer = self._ask(wire_name(self._policy_name, "state"), digest(self._newest), _STATE)
        except LinkError as error:
            self._not_joined(self._why() or str(error))
            return
        self._said = -_NOTICE
        self._ready = bytes(answer.attachment or b"") == b"\1"
        text = "the learner serves" if self._ready else "joined, but no learner runs there"
        waiting, lost = len(self._owed), self._owed.lost
        self._node.diagnostics.set(f"link{self._insert_name}", OK, text, waiting=waiting, lost_metrics=lost)
        if len(answer.payload):
            self._on_policy(answer)

    def _on_unforeseen(self, error: Exception) -> None:
        self._not_joined(f"{type(error).__name__}: {error}")

    def _not_joined(self, reason: str) -> None:
        self._ready = False
        self._node.diagnostics.set(f"link{self._insert_name}", BAD, reason)
        if time.monotonic() - self._said > _NOTICE and not self._stopping.is_set():
            self._said = time.monotonic()
            log(self._node, ERROR, f"not joined to {self._peer}: {reason}")

    def _serve_while_ready(self) -> None:
        """The service is there while the learner is: who waits for it waits for the learner."""
        if self._ready and self._service is None:
            self._service = self._node.create_service(InsertTransitions, self._prefix + INSERT.name, self._insert)
        elif not self._ready and self._service is not None:
            self._node.destroy_service(self._service)
            self._service = None

    def _insert(
        self, request: InsertTransitions.Request, response: InsertTransitions.Response
    ) -> InsertTransitions.Response:
        try:
            data = serialize_message(request)
            _check_size(data, INSERT.most_bytes)
            answer = self._ask(wire_name(self._insert_name), data, _ANSWER)
            return _read(answer.payload, InsertTransitions.Response, INSERT.most_bytes)
        except Exception as error:  # noqa: BLE001 - the actor keeps what it sends and asks again; the node goes on
            response.message, response.retry = f"over the link: {printable(error, 300)}", True
            return response

    def _on_policy(self, sample: Any) -> None:
        """Publish a policy that is new; called by a thread of Zenoh, and by that which asks for what was lost."""
        data = bytes(sample.payload)
        with self._publishing:
            if data != self._newest and self._fits(data, PolicyParameters, POLICY.most_bytes, self._policy_name):
                self._newest = data
                self._policies.publish(data)

    def _on_their_metrics(self, sample: Any) -> None:
        data = bytes(sample.payload)
        if self._fits(data, Metrics, METRICS.most_bytes, self._metrics_name):
            self._echo.brought(data)
            self._metrics.publish(data)

    def _fits(self, data: bytes, kind: Any, most: int, topic: str) -> bool:
        try:
            _read(data, kind, most)
        except LinkError as error:
            refuse(self._node, f"link {topic}", error)
            return False
        return True

    def _on_metrics(self, data: bytes) -> None:
        if self._echo.is_own(data):
            return
        _check_size(data, METRICS.most_bytes)
        if not self._owed.add(bytes(data)):
            text = f"{self._metrics_name}: more than {_MOST_METRICS} messages wait for {self._peer}: the oldest is lost"
            log(self._node, WARN, text, throttle=_NOTICE)

    def _hand_over(self) -> None:
        """Hand over the oldest message until it is taken, or given up because it is refused."""
        oldest = self._owed.first() if self._ready else None
        if oldest is None:
            self._stopping.wait(0.05)
            return
        number, data = oldest
        try:
            self._ask(wire_name(self._metrics_name), data, _STATE, f"{self._own_session} {number}".encode())
        except (LinkRefusal, LinkLater) as error:
            if self._owed.refused(number, MOST_LATER if isinstance(error, LinkLater) else MOST_TRIES):
                refuse(self._node, f"link {self._metrics_name}", f"given up, {self._peer} does not take it: {error}")
            else:
                self._stopping.wait(_ASK_PERIOD)
        except LinkError as error:
            log(self._node, WARN, f"{self._metrics_name}: kept: {error}", throttle=_NOTICE)
            self._stopping.wait(_ASK_PERIOD)
        else:
            self._owed.taken(number)


def _safe(node: LinkNode, topic: str, serve: Any) -> Any:
    """`serve` as a callback whose errors are refusals on `topic`, which end nothing."""
    return guarded(serve, partial(refuse, node, f"link {topic}"))


def _check_size(data: bytes, most: int) -> None:
    """Raise LinkError if a message is too large."""
    if len(data) > most:
        raise LinkError(f"expected at most {most} bytes, found {len(data)}")


def _read(payload: Any, kind: Any, most: int) -> Any:
    """A message of a type, of CDR.

    Raises:
        LinkError: it is too large, or none of that type.
    """
    data = bytes(payload) if payload is not None else b""
    name = getattr(kind, "__name__", str(kind))
    if not 4 <= len(data) <= most:
        raise LinkError(f"expected a {name} of 4 to {most} bytes, found {len(data)}")
    try:
        return deserialize_message(data, kind)
    except (RuntimeError, ValueError, TypeError) as error:
        raise LinkError(f"expected a {name}, found other bytes ({printable(error, 100)})") from error


def main() -> None:
    """Entry point."""
    run_node(LinkNode)


if __name__ == "__main__":
    main()
