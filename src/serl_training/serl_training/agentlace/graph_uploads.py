# SPDX-License-Identifier: Apache-2.0
"""Hands what agentlace's clients send to the learner, and remembers on disk what the learner has of each of them."""

from __future__ import annotations

import json
import queue
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rclpy.client import Client
from rclpy.node import Node
from serl_agentlace.frames import AgentlaceError
from serl_agentlace.uploads import Upload, Uploads, digest
from serl_config.atomic_files import write_whole
from serl_config.files import FileError, read_text
from serl_config.strict_json import parse_json
from serl_rl.spec import TransitionSpec
from serl_rl.storage.chunk import encode_chunk
from serl_ros.log import ERROR, log

from serl_training.agentlace.conversion import ScriptTransitions
from serl_training.link.graph_insertion_client import InsertionClient
from serl_training.link.learner_link import JobFailed

MOST_BACKLOG: Final = 20_000
"""Transitions that wait for the learner; then clients are told to send them later."""

_PATIENCE = 20.0  # [s] for a batch to be taken
_REMEMBER_PERIOD = 0.2  # [s]
_FORMAT = "serl-agentlace-1"


@dataclass
class _Batch:
    store: str
    client: int
    items: Sequence[Any]
    last_id: int
    answer: Future[str] = field(default_factory=Future)


@dataclass
class _Stream:
    """What one client of a store has sent, on its way to the learner."""

    transitions: ScriptTransitions
    insertion: InsertionClient
    stored: Upload
    """What the learner has of it."""
    stored_sequence: int = 0
    waiting: deque[tuple[int, int, str]] = field(default_factory=deque)
    """Batches that the learner has not acknowledged whole: the sequence behind each, and id and digest of its end."""


class GraphUploads:
    """The streams of all clients. `put` is called from any thread, everything else from that of the node.

    What a batch becomes is handed to the learner again and again until it is acknowledged; then the number of its last
    item goes into a file. Where this process is killed, clients are asked from there on, and what the learner has
    stored behind it is not stored twice.
    """

    def __init__(
        self,
        node: Node,
        client: Client,
        path: Path,
        *,
        spec: TransitionSpec,
        make: Callable[[str, str, Callable[[], int]], ScriptTransitions],
        graph_id: str = "",
    ) -> None:
        """Go on with what a file remembers.

        Args:
            node: that sends.
            client: of the service `learner/insert`.
            path: of the file; need not be there.
            spec: of the transitions.
            make: gives what makes chunks of the items of a store, under the name of an actor, in episodes whose numbers
                it is given.
            graph_id: of the graph, empty for any.

        Raises:
            AgentlaceError: the file holds something else.
        """
        self._node, self._client, self._path = node, client, path
        self._spec, self._make, self._graph_id = spec, make, graph_id
        self._batches: queue.Queue[_Batch] = queue.Queue()
        self._arrived = node.create_guard_condition(lambda: None)  # a batch does not wait for what else wakes the node
        self._streams: dict[tuple[str, int], _Stream] = {}
        self._counts: dict[str, int] = {}
        self._written = ""
        self._remember_at = 0.0
        self._question = InsertionClient(node, client, actor_id="agentlace", graph_id=graph_id)
        self._episode = 0
        self.refused = 0
        for name, number, upload, session, sequence in _remembered(path):
            self._counts[name] = max(self._counts.get(name, 0), number + 1)
            self._streams[name, number] = self._stream(name, upload, session, sequence)

    def uploads(self, store: str) -> Uploads:
        """Who has sent what to a store, as far as the learner has it."""
        clients = [stream.stored for (name, _), stream in self._streams.items() if name == store]
        return Uploads([Upload(each.number, each.last_id, each.digest) for each in clients], self._counts.get(store, 0))

    @property
    def backlog(self) -> int:
        """Transitions that are not acknowledged."""
        return sum(stream.insertion.backlog for stream in self._streams.values())

    @property
    def clients(self) -> int:
        """Clients that have ever sent something."""
        return len(self._streams)

    @property
    def acknowledged(self) -> int:
        """Transitions that the learner has, of all clients."""
        return sum(stream.insertion.acknowledged for stream in self._streams.values())

    def put(self, store: str, client: int, items: Sequence[Any], last_id: int) -> str:
        """Hand over a batch, and wait until it is on its way.

        Returns:
            What was refused and why; empty if nothing was.

        Raises:
            AgentlaceError: it was not taken, since the learner does not keep up.
        """
        batch = _Batch(store, client, items, last_id)
        self._batches.put(batch)
        self._arrived.trigger()
        try:
            return batch.answer.result(_PATIENCE)
        except (TimeoutError, CancelledError):
            if batch.answer.cancel() or batch.answer.cancelled():
                raise AgentlaceError("the learner does not keep up, or is not there; send it again") from None
            return batch.answer.result()

    def pump(self) -> None:
        """Take batches, send what may be sent, remember what is acknowledged."""
        self._question.pump()
        while self._question.ask() and self.backlog < MOST_BACKLOG:
            try:
                batch = self._batches.get_nowait()
            except queue.Empty:
                break
            if batch.answer.set_running_or_notify_cancel():
                batch.answer.set_result(self._take(batch))
        for stream in self._streams.values():
            try:
                stream.insertion.ask()
                stream.insertion.pump()
            except JobFailed as error:
                log(self._node, ERROR, f"{stream.stored.number}: {error}")
                stream.waiting.clear()
                stream.stored_sequence = 0
            while stream.waiting and stream.waiting[0][0] <= stream.insertion.acknowledged:
                stream.stored_sequence, stream.stored.last_id, stream.stored.digest = stream.waiting.popleft()
        if time.monotonic() >= self._remember_at:
            self._remember_at = time.monotonic() + _REMEMBER_PERIOD
            self._remember()

    def close(self) -> None:
        """Refuse what waits, and remember the rest."""
        while not self._batches.empty():
            self._batches.get_nowait().answer.cancel()
        self._remember()

    def _take(self, batch: _Batch) -> str:
        key = (batch.store, batch.client)
        if key not in self._streams:
            self._counts[batch.store] = max(self._counts.get(batch.store, 0), batch.client + 1)
            self._streams[key] = self._stream(batch.store, Upload(batch.client), "", 0)
        stream = self._streams[key]
        chunks, refused = stream.transitions.convert(batch.items)
        for chunk in chunks:
            stream.insertion.add(len(chunk), encode_chunk(chunk, self._spec))
        stream.waiting.append((stream.insertion.sequence, batch.last_id, digest(batch.items[-1])))
        self.refused += len(refused)
        if not refused:
            return ""
        why = f"{len(refused)} of {len(batch.items)} transitions were refused and are lost; the last: {refused[-1]}"
        log(self._node, ERROR, f"{batch.store}: client {batch.client}: {why}")
        return why

    def _stream(self, store: str, upload: Upload, session: str, sequence: int) -> _Stream:
        actor_id = f"agentlace_{store}_{upload.number}"
        insertion = InsertionClient(
            self._node, self._client, actor_id=actor_id, graph_id=self._graph_id, session=session, sequence=sequence
        )
        return _Stream(self._make(store, actor_id, self._next_episode), insertion, upload, sequence)

    def _next_episode(self) -> int:
        self._episode = max(self._episode, self._question.stored.episodes) + 1
        return self._episode

    def _remember(self) -> None:
        entries = [
            {
                "store": name,
                "number": number,
                "last_id": stream.stored.last_id,
                "digest": stream.stored.digest,
                "session": stream.insertion.session,
                "sequence": stream.stored_sequence,
            }
            for (name, number), stream in self._streams.items()
        ]
        text = json.dumps({"format": _FORMAT, "clients": entries}, indent=1)
        if text == self._written:
            return
        try:
            write_whole(self._path, text.encode())
            self._written = text
        except OSError as error:  # it is tried again; if this process dies before, clients send more than they have to
            log(self._node, ERROR, f"what clients have sent is not remembered: {error}", throttle=10.0)


def _remembered(path: Path) -> list[tuple[str, int, Upload, str, int]]:
    if not path.exists():
        return []
    try:
        found = parse_json(read_text(path))
        if found["format"] != _FORMAT:
            raise ValueError(f"the format {found['format']!r:.40}")
        return [_entry(each) for each in found["clients"]]
    except (FileError, KeyError, TypeError, ValueError) as error:
        raise AgentlaceError(
            f"{path}: expected what the gateway of agentlace remembers of its clients, found {error!s:.200}; move it "
            "away to begin anew: what clients still have in their queues comes again then"
        ) from error


def _entry(each: Mapping[str, Any]) -> tuple[str, int, Upload, str, int]:
    number, session, sequence = int(each["number"]), str(each["session"]), int(each["sequence"])
    upload = Upload(number, int(each["last_id"]), str(each["digest"]))
    if not session or min(number, sequence) < 0:
        raise ValueError("a client without a session")
    return str(each["store"]), number, upload, session, sequence
