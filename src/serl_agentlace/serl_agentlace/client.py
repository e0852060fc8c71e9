# SPDX-License-Identifier: Apache-2.0
"""`TrainerClient`: sends items to a trainer server by agentlace's wire, and hears its parameters."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from serl_agentlace.config import TrainerConfig, check_same, parse_config
from serl_agentlace.data_store import DataStoreBase, items_after
from serl_agentlace.frames import MAX_FRAME_BYTES, AgentlaceError, FrameError, decode_frame, encode_frame
from serl_agentlace.server import EACH_CLIENT, zeromq

MOST_ITEMS: Final = 256
"""Items of one request: an answer comes within the time for it, and what arrived stays when the next one is lost."""

_log = logging.getLogger(__name__)
_RETRY_PERIOD = 2.0  # [s]
_POLL = 0.2  # [s] after which a thread looks whether it shall stop


class TrainerClient:
    """A client of a trainer server, ours or agentlace's own.

    Ours knows what it has of each client. agentlace's has one number for all that ever sent to a store, so there this
    client counts itself what was acknowledged: what another actor sends, or one before it, makes it lose nothing.
    """

    def __init__(
        self,
        name: str,
        server_ip: str,
        config: TrainerConfig | int,
        data_store: DataStoreBase | None = None,
        data_stores: Mapping[str, DataStoreBase] | None = None,
        log_level: int | None = None,
        wait_for_server: bool = False,
        timeout_ms: float = 800,
    ) -> None:
        """Connect, compare configurations, and send what the stores have.

        Args:
            name: of the server's store for `data_store`.
            server_ip: address of the server.
            config: the server's, or the TCP port of its requests alone: the rest is what the server says.
            data_store: that is sent.
            data_stores: several that are sent, by the names of the server's stores.
            log_level: of this package; None: as it is.
            wait_for_server: try again until the server is there.
            timeout_ms: [ms] for an answer.

        Raises:
            AgentlaceError: the server does not answer, or has another configuration.
        """
        if log_level is not None:
            logging.getLogger("serl_agentlace").setLevel(log_level)
        self.config = config if isinstance(config, TrainerConfig) else TrainerConfig(config)
        self._stores = dict(data_stores or {}) if data_store is None else {name: data_store}
        self._where = f"{server_ip}:{self.config.port_number}"
        self._server_ip, self._timeout = server_ip, timeout_ms
        self._zmq = zeromq()
        self._context = self._zmq.Context()
        self._socket: Any = None
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._last_request = 0.0
        self._acknowledged = dict.fromkeys(self._stores, -1)
        self._unanswered: dict[str, int] = {}
        try:
            answer = self._ask({"type": "hash"})
            while answer is None and wait_for_server:
                _log.warning("waiting for a trainer server at %s", self._where)
                time.sleep(_RETRY_PERIOD)
                answer = self._ask({"type": "hash"})
            if answer is None:
                raise AgentlaceError(
                    f"{self._where}: expected a trainer server, found nobody who answers within {timeout_ms:g} ms; "
                    "start the learner first, or give wait_for_server=True"
                )
            if isinstance(config, TrainerConfig):
                check_same(config, answer.get("payload"), self._where)
            else:
                self.config = parse_config(answer.get("payload"), self._where)
        except AgentlaceError:
            self.stop()
            raise
        if self._stores:
            self.update()

    def update(self) -> bool:
        """Send what the server does not have; True where it has everything now."""
        done = True
        for name in self._stores:
            after = self._missing_after(name)
            done &= after is not None and self.update_datastore(name, after)
        return done and bool(self._stores)

    def acknowledged(self, name: str) -> int:
        """Id of the newest item of a store that the server has said it stored, -1 before the first."""
        return self._acknowledged[name]

    def update_datastore(self, name: str, from_id: int, confirm_update: bool = False) -> bool:
        """Send the items of a store behind an id.

        Args:
            name: of the store.
            from_id: id of the last item that the server has.
            confirm_update: ask the server at the end for the last item that it has.

        Returns:
            Whether the server has everything now.
        """
        if name not in self._stores:
            _log.error("%s: expected one of the stores %s", name, sorted(self._stores))
            return False
        items, last_id = items_after(self._stores[name], from_id)
        first = last_id - len(items) + 1
        for start in range(0, len(items), MOST_ITEMS):
            part = items[start : start + MOST_ITEMS]
            newest = first + start + len(part) - 1
            payload = {"data": part, "last_id": newest}
            answer = self._ask({"type": "datastore", "store_name": name, "payload": payload})
            if answer is not None and answer.get("success"):
                self._acknowledged[name] = newest
            else:
                self._unanswered[name] = newest
                _log.warning("%s: items were not stored: %s", name, "no answer" if answer is None else answer)
                return False
        return not confirm_update or self.get_server_last_update_id(name) == last_id

    def get_server_last_update_id(self, name: str) -> int | None:
        """Id of the last item of a store that the server has; None where it does not say."""
        answer = self._ask_last_update(name)
        return None if answer is None else int(answer["payload"])

    def serves(self, name: str) -> bool:
        """Whether the server has a store of this name. Raises AgentlaceError where it does not answer."""
        answer = self._ask({"type": "get_last_update_id", "payload": {"store_name": name}})
        if answer is None:
            raise AgentlaceError(f"{self._where}: expected an answer within {self._timeout:g} ms, found none")
        return answer.get("success") is True

    def request(self, type: str, payload: Mapping[str, Any]) -> dict[str, Any] | None:
        """Ask the server something of its own; None where it is not known, too soon, or not answered."""
        limit = self.config.rate_limit
        if type not in self.config.request_types:
            _log.error("request %s: expected one of %s", type, self.config.request_types)
            return None
        if limit and time.monotonic() - self._last_request < 1 / limit:
            return None
        self._last_request = time.monotonic()
        return self._ask({"type": type, "payload": payload})

    def recv_network_callback(self, callback: Callable[[Any], None]) -> None:
        """Have a function called with parameters when they come, from a thread; of several that wait, the newest."""
        self._begin(self._listen, callback)

    def start_async_update(self, interval: float = 10) -> None:
        """Call `update` every `interval` seconds, from a thread."""

        def send(seconds: float) -> None:
            while not self._stopping.wait(seconds):
                self.update()

        self._begin(send, interval)

    def stop(self) -> None:
        """End."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._context.destroy(linger=0)

    def _ask_last_update(self, name: str) -> dict[str, Any] | None:
        answer = self._ask({"type": "get_last_update_id", "payload": {"store_name": name}})
        if answer is None or not answer.get("success") or type(answer.get("payload")) is not int:
            _log.warning("%s: the server does not say what it has: %s", name, "no answer" if answer is None else answer)
            return None
        return answer

    def _missing_after(self, name: str) -> int | None:
        """Id of the item behind which the server has nothing of this client; None where it does not say."""
        answer = self._ask_last_update(name)
        if answer is None:
            return None
        last = int(answer["payload"])
        if answer.get(EACH_CLIENT) is True:
            self._acknowledged[name] = last
        elif last == -1:  # it has nothing of anybody, so it is another one than before
            self._acknowledged[name] = -1
        elif last == self._unanswered.get(name):  # which arrived; its answer did not
            self._acknowledged[name] = last
        self._unanswered.pop(name, None)
        return self._acknowledged[name]

    def _begin(self, target: Callable[[Any], None], argument: Any) -> None:
        thread = threading.Thread(target=target, args=(argument,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _listen(self, callback: Callable[[Any], None]) -> None:
        socket = self._context.socket(self._zmq.SUB)
        for option, value in (
            (self._zmq.CONFLATE, 1),  # before it connects: only the newest parameters wait
            (self._zmq.LINGER, 0),
            (self._zmq.MAXMSGSIZE, MAX_FRAME_BYTES),
            (self._zmq.RCVTIMEO, int(_POLL * 1000)),
        ):
            socket.setsockopt(option, value)
        socket.connect(f"tcp://{self._server_ip}:{self.config.broadcast_port}")
        socket.setsockopt(self._zmq.SUBSCRIBE, b"")
        while not self._stopping.is_set():
            try:
                callback(decode_frame(socket.recv()))
            except self._zmq.Again:
                continue
            except FrameError as error:
                _log.error("parameters from %s: %s", self._server_ip, error)
            except Exception:  # noqa: BLE001 - whatever a script's own function raises: the next parameters are another chance
                _log.exception("the callback for parameters failed")
        socket.close()

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """Send a request and wait for its answer, None where none comes in time."""
        frame = encode_frame(request)
        with self._lock:
            if self._socket is None:
                self._socket = self._context.socket(self._zmq.REQ)
                self._socket.setsockopt(self._zmq.LINGER, 0)
                self._socket.setsockopt(self._zmq.RCVTIMEO, int(self._timeout))
                self._socket.setsockopt(self._zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
                self._socket.connect(f"tcp://{self._where}")
            try:
                self._socket.send(frame)
                answer = decode_frame(self._socket.recv())
            except self._zmq.Again:
                answer = None
            except FrameError as error:
                _log.error("answer from %s: %s", self._where, error)
                answer = None
            if not isinstance(answer, dict):
                self._socket.close()  # a request without an answer: this socket asks nothing more
                self._socket = None
                return None
            return answer
