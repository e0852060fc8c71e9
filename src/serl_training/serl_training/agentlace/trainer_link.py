# SPDX-License-Identifier: Apache-2.0
"""The actor's end of the link to a learner of SERL: transitions, parameters and numbers by agentlace's wire."""

from __future__ import annotations

import logging
import math
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from serl_agentlace.client import TrainerClient
from serl_agentlace.data_store import QueuedDataStore
from serl_agentlace.frames import AgentlaceError
from serl_rl.imported.published import published_policy
from serl_rl.policy.acting_policy import ActingPolicy
from serl_rl.spec import DataError, TransitionSpec
from serl_rl.storage.chunk import Chunk
from serl_rl.storage.nested import by_path

from serl_training.actor.perception import Perception
from serl_training.link.learner_link import LearnerTotals

TRAINER: Final = "A learner of SERL, agentlace://HOST:PORT, that learns in place of ours; empty: ours."
"""What the parameter `trainer` of the actor means."""

SCHEME: Final = "agentlace"
STORE: Final = "actor_env"
INTERVENTIONS: Final = "actor_env_intvn"
"""Store of HIL-SERL's learner for what a person did, in addition to the other one."""
STATS: Final = "send-stats"

_log = logging.getLogger(__name__)
_PORT = 5488
_MOST_BYTES = 2**30  # [bytes] of transitions that are kept for a server that is started again
_TIMEOUT_MS = 3000.0
_RETRY_PERIOD = 1.0  # [s]
_NOTICE_PERIOD = 5.0  # [s] between log lines about something that is waited for


class Spins(Protocol):
    """Handles what arrives while something is waited for."""

    def spin_until(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Until `condition()` holds; False when it did not within `timeout` [s]."""


@dataclass(frozen=True)
class TrainerAddress:
    """Where a trainer server is; as text `agentlace://HOST:PORT`."""

    host: str
    port: int = _PORT

    @classmethod
    def parse(cls, text: str) -> TrainerAddress:
        """The address in a text. Raises ValueError where it has none."""
        try:
            parts = urlsplit(text)
            port = parts.port or _PORT
        except ValueError:
            parts, port = urlsplit(""), 0
        extra = parts.path.strip("/") or parts.query or parts.fragment or parts.username
        if parts.scheme != SCHEME or not parts.hostname or not port or extra:
            raise ValueError(f"expected {SCHEME}://HOST:PORT, as agentlace://127.0.0.1:5488, found {text!r:.100}")
        return cls(parts.hostname, port)

    def __str__(self) -> str:
        return f"{SCHEME}://{self.host}:{self.port}"


def find_trainer(
    text: str, perception: Perception, partner: str, policy: str
) -> tuple[TrainerAddress | None, Perception]:
    """Where a learner of SERL is, and what it is given: pictures as they are.

    Args:
        text: `agentlace://HOST:PORT`, or nothing: the learner is one of ours.
        perception: of the actor.
        partner: task that takes turns with it, which must be none.
        policy: imported policy, which must be none.

    Raises:
        ValueError: there is no such learner for what the actor is told to do.
    """
    if not text:
        return None, perception
    try:
        address = TrainerAddress.parse(text)
    except ValueError as error:
        raise ValueError(f"parameter 'trainer': {error}") from error
    if partner or policy:
        found = f"the partner {partner}" if partner else f"the policy {policy}"
        raise ValueError(f"parameter 'trainer': expected one task without an imported policy, found {found}")
    if perception.history != 1 or perception.spec.frame_stack != 1:
        raise ValueError("parameter 'learning': expected acting.history and vision.frame_stack of 1, found more")
    return address, replace(perception, spec=perception.pictures, encoder=None)


class RandomPolicy:
    """Uniformly random actions, until a learner has published something."""

    planned = 0

    def __init__(self, action_dim: int) -> None:
        """Draw actions (A,) of so many components."""
        self.action_dim = action_dim
        self._rng = np.random.default_rng(0)

    def check(self, spec: TransitionSpec) -> None:
        """It is for any observation."""

    def reset(self) -> None:
        """It plans nothing."""

    def act(
        self, observation: Mapping[str, NDArray[Any]], *, deterministic: bool, rng: np.random.Generator | None = None
    ) -> NDArray[np.float32]:
        """An action (A,) in [-1, 1]; the best one that it knows is as random as any."""
        del observation, deterministic
        return (rng or self._rng).uniform(-1.0, 1.0, self.action_dim).astype(np.float32)


class TrainerLink:
    """A `LearnerLink` to a trainer server of agentlace, as SERL's and HIL-SERL's learners have one.

    A thread sends, as often as there is something. The server tells no totals, so these are of this actor since it was
    started; it knows no acknowledged episodes and no way to take something back, so an actor hands episodes over when
    they are complete.
    """

    lag = 0
    """Nobody says for which env steps a policy was trained."""

    def __init__(
        self,
        address: TrainerAddress,
        executor: Spins,
        spec: TransitionSpec,
        max_backlog: int,
        check: Callable[[], None],
    ) -> None:
        """Begin to look for the server.

        Args:
            address: of the server.
            executor: spins while waiting.
            spec: of the transitions, with pictures as the cameras give them.
            max_backlog: wait while more transitions than this are not acknowledged; fewer where they are large.
            check: called while waiting; may raise to leave.
        """
        self._address, self._executor, self._check, self._spec = address, executor, check, spec
        size = 2 * sum(math.prod(entry.shape) * np.dtype(entry.dtype).itemsize for entry in spec.observation.values())
        self._capacity = max(1000, min(max_backlog, _MOST_BYTES // size))
        self._max_backlog = min(max_backlog, self._capacity // 2)
        self._queues = {STORE: QueuedDataStore(self._capacity), INTERVENTIONS: QueuedDataStore(self._capacity)}
        self._served: tuple[str, ...] = ()  # stores that the server has
        self._client: TrainerClient | None = None
        self._policy: ActingPolicy = RandomPolicy(spec.action_dim)
        self._refused = ""
        self.policy_version = 0
        self.session = uuid.uuid4().hex
        self._totals = LearnerTotals()
        self._stats: deque[dict[str, Any]] = deque(maxlen=50)
        self._heard = time.monotonic()
        self._news = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=SCHEME, daemon=True)
        self._thread.start()

    @property
    def totals(self) -> LearnerTotals:
        """What was handed over since the start."""
        return self._totals

    @property
    def policy(self) -> ActingPolicy:
        """The newest policy; a random one until the learner has published one."""
        return self._policy

    @property
    def acknowledged(self) -> int:
        """Transitions that the server has said it stored, without those of demonstrations."""
        return 0 if self._client is None else self._client.acknowledged(STORE) + 1

    @property
    def backlog(self) -> int:
        """Transitions that are not acknowledged."""
        client = self._client
        if client is None:
            return len(self._queues[STORE])
        return max(self._owed(client, name) for name in self._served)

    @property
    def silence(self) -> float:
        """Seconds for which the server has said nothing although it has something to answer."""
        return 0.0 if self._client is not None and not self.backlog else time.monotonic() - self._heard

    def pump(self) -> None:
        """The thread does what there is to do."""

    def connect(self) -> None:
        """Wait for the server."""
        self._wait(lambda: self._client is not None, lambda: f"a trainer server of agentlace at {self._address}")

    def send(self, chunk: Chunk) -> None:
        """Hand over a chunk; a person's steps go to the store for them, too, where the server has one.

        Raises:
            DataError: the chunk does not fit the specification.
        """
        chunk.check(self._spec)
        items = serl_transitions(chunk)
        if not chunk.demonstration or INTERVENTIONS not in self._served:
            for item in items:
                self._queues[STORE].insert(item)
        if INTERVENTIONS in self._served:
            for item, led in zip(items, chunk.intervention, strict=True):
                if led or chunk.demonstration:
                    self._queues[INTERVENTIONS].insert(item)
        self._totals = LearnerTotals(
            self._totals.env_steps + (0 if chunk.demonstration else len(chunk)),
            self._totals.demonstrations + (chunk.demonstration and chunk.last and chunk.success),
            max(self._totals.episodes, chunk.episode),
        )
        self._news.set()

    def discard(self, episode: int, first_step: int) -> None:
        """Say that it cannot be taken back. An actor that hands over complete episodes has nothing to take back."""
        _log.error("episode %d: what was sent from step %d on stays: agentlace takes nothing back", episode, first_step)

    def await_updates(self, count: int) -> None:
        """When it begins to learn, and what it publishes then, is the script's."""

    def throttle(self) -> None:
        """Wait while the server has acknowledged too little."""
        if self.backlog > self._max_backlog:
            self._wait(lambda: self.backlog <= self._max_backlog, self._owing)

    def settle(self, env_steps: int = 0) -> None:
        """No policy stays."""

    def flush(self) -> None:
        """Wait until the server has everything."""
        self._wait(lambda: self._client is not None and self.backlog == 0, self._owing)

    def tell(self, values: Mapping[str, float]) -> None:
        """Have numbers of an episode sent, by the request that SERL's learner logs."""
        self._stats.append({"environment": dict(values)})
        self._news.set()

    def close(self) -> None:
        """End the thread; what was not sent is given up."""
        self._stopping.set()
        self._news.set()
        self._thread.join()

    def _owing(self) -> str:
        return f"the trainer server at {self._address} to acknowledge {self.backlog} transitions"

    def _owed(self, client: TrainerClient, name: str) -> int:
        queue = self._queues[name]
        return min(len(queue), queue.latest_data_id() - client.acknowledged(name))

    def _wait(self, condition: Callable[[], bool], what: Callable[[], str]) -> None:
        notice = time.monotonic() + _NOTICE_PERIOD
        while not self._executor.spin_until(condition, 0.2):
            self._check()
            if time.monotonic() >= notice:
                notice = time.monotonic() + _NOTICE_PERIOD
                _log.warning("waiting for %s", what())

    # The thread

    def _run(self) -> None:
        said = ""
        while not self._stopping.is_set():
            try:
                self._connect()
                break
            except AgentlaceError as error:
                if str(error) != said:
                    said = str(error)
                    _log.warning("%s", error)
                self._stopping.wait(_RETRY_PERIOD)
        client = self._client
        while client is not None and not self._stopping.is_set():
            self._news.clear()
            try:
                if client.update():
                    self._heard = time.monotonic()
                self._send_stats(client)
            except AgentlaceError as error:  # what cannot be sent; the thread is the only one that sends
                _log.error("the trainer server at %s: %s", self._address, error)
                self._stopping.wait(_RETRY_PERIOD)
            self._news.wait(_RETRY_PERIOD)
        if client is not None:
            client.stop()

    def _connect(self) -> None:
        where = self._address
        asking = TrainerClient("", where.host, where.port, timeout_ms=_TIMEOUT_MS)
        try:
            served = tuple(name for name in self._queues if asking.serves(name))
        finally:
            asking.stop()
        if STORE not in served:
            raise AgentlaceError(f"{where}: expected a trainer server with the store {STORE}, found none of that name")
        stores = {name: self._queues[name] for name in served}
        client = TrainerClient("", where.host, where.port, data_stores=stores, timeout_ms=_TIMEOUT_MS)
        client.recv_network_callback(self._on_parameters)
        self._served, self._client = served, client
        self._heard = time.monotonic()
        _log.info("connected with the trainer server at %s, stores %s", where, ", ".join(served))

    def _send_stats(self, client: TrainerClient) -> None:
        while self._stats and STATS in client.config.request_types and not self._stopping.is_set():
            if client.request(STATS, self._stats.popleft()) is None:
                return

    def _on_parameters(self, tree: Any) -> None:
        """Take what was published, from the client's thread: another one than acts, which sees it at its next step."""
        self._heard = time.monotonic()
        try:
            policy = published_policy(_arrays(tree), self._spec)
        except DataError as error:
            if str(error) != self._refused:
                self._refused = str(error)
                _log.error("parameters from %s are refused: %s", self._address, error)
            return
        self._refused = ""
        self._policy = policy
        self.policy_version += 1


def _arrays(tree: Any) -> dict[str, NDArray[np.float32]]:
    if not isinstance(tree, dict):
        raise DataError("parameters", "dictionaries of arrays", type(tree).__name__)
    named = by_path(tree)
    if wrong := next((name for name, each in named.items() if not isinstance(each, np.ndarray | np.generic)), None):
        raise DataError(f"parameters.{wrong}", "an array", type(named[wrong]).__name__)
    return {name: np.asarray(each) for name, each in named.items()}


def serl_transitions(chunk: Chunk) -> list[dict[str, Any]]:
    """The transitions of a chunk as SERL's actors send them.

    With cameras an observation has an entry for each, and an axis for a stack of one; of a state alone it is the
    vector. An observation after a step is the same object as that before the next one, so it is sent once.
    """
    pictures = any(values.ndim > 2 for values in chunk.observation.values())
    rows: list[Any] = []
    for row in range(len(chunk) + 1):
        entries = {name: values[row] for name, values in chunk.observation.items()}
        rows.append(
            {name: each[None] for name, each in entries.items()}
            if pictures
            else np.concatenate([entries[name].reshape(-1) for name in sorted(entries)])
        )
    return [
        {
            "observations": rows[step],
            "actions": chunk.action[step],
            "next_observations": rows[step + 1],
            "rewards": chunk.reward[step],
            "masks": chunk.mask[step],
            "dones": bool(chunk.mask[step] == 0.0 or chunk.truncated[step]),
        }
        for step in range(len(chunk))
    ]
