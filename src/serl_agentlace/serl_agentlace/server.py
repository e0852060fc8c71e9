# SPDX-License-Identifier: Apache-2.0
"""`TrainerServer`: what agentlace's clients talk to, without what loses their data."""

from __future__ import annotations

import errno
import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from serl_config.listening import port_user
from serl_config.optional import optional_module

from serl_agentlace.config import TrainerConfig
from serl_agentlace.data_store import DataStoreBase
from serl_agentlace.frames import MAX_FRAME_BYTES, AgentlaceError, FrameError, decode_frame, encode_frame
from serl_agentlace.uploads import Uploads

LOOPBACK: Final = "127.0.0.1"
EACH_CLIENT: Final = "each_client"
"""Entry of an answer that says which item a server has: of this client. agentlace's own, which has none, counts all."""

_log = logging.getLogger(__name__)
_POLL = 0.2  # [s] after which a server looks whether it shall stop
_HEARTBEAT_MS = 5000  # [ms]; a connection whose other end is gone without a word is closed after three of them
_MAX_WAITING = 64  # requests of a store that wait for those before them

DataCallback = Callable[[str, Mapping[str, Any]], None]
RequestCallback = Callable[[str, Any], Mapping[str, Any]]


class Sink(Protocol):
    """What takes the items of a store."""

    def take(self, client: int, items: Sequence[Any], last_id: int) -> str:
        """Store items of a client.

        Args:
            client: number of the client, as `Upload.number`.
            items: that are new, in order.
            last_id: id of the last one.

        Returns:
            What was refused and is lost, and why; empty if nothing was.

        Raises:
            AgentlaceError: nothing was stored; the client shall send it again.
        """


class TrainerServer:
    """Takes items of any number of clients and publishes parameters to them, by agentlace's wire.

    Each client is counted by itself, however many share the name of a store, and also where it is started again. An
    item that a store refuses is left out and named; those beside it are stored. Whoever subscribes late gets the newest
    parameters at once. Nothing that arrives is run.
    """

    def __init__(
        self,
        config: TrainerConfig,
        data_callback: DataCallback | None = None,
        request_callback: RequestCallback | None = None,
        log_level: int | None = None,
        *,
        host: str = LOOPBACK,
    ) -> None:
        """Bind the ports of `config`.

        Args:
            config: ports and kinds of requests; clients have to have the same.
            data_callback: told of each batch, by the store's name, as `{"data": items, "last_id": id}`.
            request_callback: answers requests of the kinds in `config`.
            log_level: of this package; None: as it is.
            host: address to listen at. Beyond loopback everybody who reaches it may send items and read parameters:
                agentlace knows no keys.

        Raises:
            AgentlaceError: a port is taken, ZeroMQ is not installed, or `config` asks for what is not served.
        """
        if config.experimental_pipeline_port:
            raise AgentlaceError(
                "experimental_pipeline_port: expected None, the experimental pipeline is not served; leave it out"
            )
        if log_level is not None:
            logging.getLogger("serl_agentlace").setLevel(log_level)
        if host not in (LOOPBACK, "localhost"):
            _log.warning(
                "listens at %s, ports %d and %d: everybody who reaches them may send items and read parameters",
                host, config.port_number, config.broadcast_port,
            )  # fmt: skip
        self.config = config
        self._data_callback, self._request_callback = data_callback, request_callback
        self._zmq = zeromq()
        self._context = self._zmq.Context()
        self._stores: dict[str, _StoreService] = {}
        self._newest: bytes | None = None
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        try:
            self._requests = self._bind(self._zmq.ROUTER, host, config.port_number)
            self._broadcast = self._bind(self._zmq.XPUB, host, config.broadcast_port)
        except AgentlaceError:
            self._context.destroy(linger=0)
            raise
        self._requests.setsockopt(self._zmq.ROUTER_HANDOVER, 0)
        self._broadcast.setsockopt(self._zmq.XPUB_VERBOSE, 1)
        self._wake_address = f"inproc://{id(self)}"
        self._wake = self._context.socket(self._zmq.PULL)
        self._wake.bind(self._wake_address)
        self._wakers = threading.local()

    def register_data_store(self, name: str, data_store: DataStoreBase, uploads: Uploads | None = None) -> None:
        """Have a store filled.

        Args:
            name: by which clients call it.
            data_store: of which `batch_insert` is called, from a thread of its own.
            uploads: what was taken of which client, where something is known from before.
        """
        self.register_sink(name, _StoreSink(name, data_store), uploads)

    def register_sink(self, name: str, sink: Sink, uploads: Uploads | None = None) -> None:
        """Have what comes for a store handed to something else than a data store.

        Args:
            name: by which clients call it.
            sink: of which `take` is called, from a thread of its own.
            uploads: what was taken of which client, where something is known from before.
        """
        self._stores[name] = _StoreService(name, sink, uploads or Uploads(), self._data_callback)

    def data_store(self, name: str) -> DataStoreBase | None:
        """The store of a name."""
        service = self._stores.get(name)
        return service.sink.store if service is not None and isinstance(service.sink, _StoreSink) else None

    def store_names(self) -> set[str]:
        """Names of all stores."""
        return set(self._stores)

    def uploads(self, name: str) -> Uploads:
        """Who has sent what to a store. Raises KeyError where there is none of the name."""
        return self._stores[name].uploads

    def publish_network(self, payload: Mapping[str, Any]) -> None:
        """Publish parameters; clients that come later get the newest ones. Raises FrameError as `encode_frame` does."""
        frame = encode_frame(payload)
        with self._lock:
            self._newest = frame
        self._send_to_thread([b"publish"])

    def start(self, threaded: bool = False) -> None:
        """Serve, in a thread of its own or until `stop` is called from another one."""
        if threaded:
            self._thread = threading.Thread(target=self._serve, name="agentlace", daemon=True)
            self._thread.start()
        else:
            self._serve()

    def stop(self) -> None:
        """End; what was accepted is stored before."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        for service in self._stores.values():
            service.stop()
        self._context.destroy(linger=0)

    def _bind(self, kind: int, host: str, port: int) -> Any:
        socket = self._context.socket(kind)
        socket.setsockopt(self._zmq.LINGER, 0)
        socket.setsockopt(self._zmq.SNDHWM, 5)
        socket.setsockopt(self._zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        socket.setsockopt(self._zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)  # ZeroMQ of whoever is there answers by itself
        socket.setsockopt(self._zmq.HEARTBEAT_TIMEOUT, 3 * _HEARTBEAT_MS)
        try:
            socket.bind(f"tcp://{host}:{port}")
        except self._zmq.ZMQError as error:
            user = f" by {port_user(port)}" if error.errno == errno.EADDRINUSE else ""
            raise AgentlaceError(
                f"port {port} at {host}: expected a free port, found {error}{user}; end that, or choose another port"
            ) from error
        return socket

    def _serve(self) -> None:
        for service in self._stores.values():
            service.start(self._send_to_thread)
        poller = self._zmq.Poller()
        for socket in (self._requests, self._broadcast, self._wake):
            poller.register(socket, self._zmq.POLLIN)
        self._publish()
        while not self._stopping.is_set():
            ready = dict(poller.poll(_POLL * 1000))
            if self._requests in ready:
                self._on_request(self._requests.recv_multipart())
            if self._broadcast in ready and self._broadcast.recv()[:1] == b"\x01":
                self._publish()
            if self._wake in ready:
                parts = self._wake.recv_multipart()
                if parts == [b"publish"]:
                    self._publish()
                else:
                    self._requests.send_multipart(parts)

    def _on_request(self, parts: list[bytes]) -> None:
        if len(parts) != 3 or parts[1]:
            _log.error("requests: expected a request of agentlace, found %d parts; refused", len(parts))
            return
        peer, _, frame = parts
        try:
            request = decode_frame(frame)
            if not isinstance(request, dict) or not isinstance(request.get("type"), str):
                raise FrameError(f"expected a request with a type, found {type(request).__name__}")
        except FrameError as error:
            _log.error("requests: %s", error)
            self._answer(peer, {"success": False, "message": str(error)})
            return
        kind, payload = request["type"], request.get("payload")
        if kind == "hash":
            for service in self._stores.values():
                service.put(peer, "begin", None)
            self._answer(peer, {"success": True, "payload": self.config.to_json()})
        elif kind in ("datastore", "get_last_update_id"):
            name = request.get("store_name") if kind == "datastore" else _field(payload, "store_name")
            service_of = self._stores.get(name) if isinstance(name, str) else None
            if service_of is None:
                names = ", ".join(sorted(self._stores)) or "none"
                self._answer(peer, {"success": False, "message": f"Invalid datastore name: expected one of {names}"})
            elif not service_of.put(peer, kind, payload):
                self._answer(peer, {"success": False, "message": f"{name}: too many requests wait; later"})
        elif kind in self.config.request_types:
            self._requests.send_multipart([peer, b"", self._answered(kind, payload)])
        else:
            _log.error("requests: expected one of %s, found %.80r", ", ".join(self._kinds()), kind)
            self._answer(peer, {"success": False, "message": "Invalid type or payload"})

    def _kinds(self) -> list[str]:
        return ["hash", "get_last_update_id", "datastore", *self.config.request_types]

    def _answered(self, kind: str, payload: Any) -> bytes:
        if self._request_callback is None:
            return encode_frame({})
        try:
            return encode_frame(self._request_callback(kind, payload))
        except Exception as error:  # noqa: BLE001 - whatever a script's own function raises: it must not end the server
            _log.exception("request %s failed", kind)
            return encode_frame({"success": False, "message": f"{kind}: {type(error).__name__}: {error!s:.200}"})

    def _answer(self, peer: bytes, value: Mapping[str, Any]) -> None:
        self._requests.send_multipart([peer, b"", encode_frame(value)])

    def _publish(self) -> None:
        with self._lock:
            frame = self._newest
        if frame is not None:
            self._broadcast.send(frame)

    def _send_to_thread(self, parts: list[bytes]) -> None:
        """Have the thread that owns the sockets do something; from any thread."""
        if self._stopping.is_set():
            return
        if not hasattr(self._wakers, "socket"):
            self._wakers.socket = self._context.socket(self._zmq.PUSH)
            self._wakers.socket.setsockopt(self._zmq.LINGER, 0)
            self._wakers.socket.connect(self._wake_address)
        self._wakers.socket.send_multipart(parts)


class _StoreService:
    """Fills one store, from a thread of its own: who asks for another one does not wait for it."""

    def __init__(self, name: str, sink: Sink, uploads: Uploads, callback: DataCallback | None) -> None:
        self.sink, self.uploads = sink, uploads
        self._name, self._callback = name, callback
        self._waiting: queue.Queue[tuple[bytes, str, Any] | None] = queue.Queue(_MAX_WAITING)
        self._thread: threading.Thread | None = None

    def start(self, answer: Callable[[list[bytes]], None]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(answer,), name=f"store {self._name}", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()

    def put(self, peer: bytes, kind: str, payload: Any) -> bool:
        """Have a request done after those before it; False where too many wait."""
        try:
            self._waiting.put_nowait((peer, kind, payload))
        except queue.Full:
            return False
        return True

    def _run(self, answer: Callable[[list[bytes]], None]) -> None:
        while (request := self._waiting.get()) is not None:
            peer, kind, payload = request
            if kind == "begin":
                self.uploads.begin(peer)
                continue
            if kind == "get_last_update_id":
                value: dict[str, Any] = {"success": True, "payload": self.uploads.next_after(peer), EACH_CLIENT: True}
            else:
                value = self._insert(peer, payload)
            answer([peer, b"", encode_frame(value)])

    def _insert(self, peer: bytes, payload: Any) -> dict[str, Any]:
        items, last_id = _field(payload, "data"), _field(payload, "last_id")
        if not isinstance(items, list) or type(last_id) is not int or not len(items) - 1 <= last_id < 2**62:
            message = f"{self._name}: expected a list of items and the id of the last one, found {_described(payload)}"
            _log.error("%s", message)
            return {"success": False, "message": message}
        taken = self.uploads.take(peer, items, last_id)
        if taken.note:
            number = "?" if taken.upload is None else taken.upload.number
            _log.warning("%s: client %s: %s", self._name, number, taken.note)
        refused = ""
        if taken.upload is not None and taken.items:
            try:
                refused = self.sink.take(taken.upload.number, taken.items, last_id)
            except AgentlaceError as error:
                _log.error("%s: %s", self._name, error)
                return {"success": False, "message": str(error)}
        self.uploads.done(taken, last_id)
        if self._callback is not None and taken.items:
            try:
                self._callback(self._name, {"data": list(taken.items), "last_id": last_id})
            except Exception as error:  # noqa: BLE001 - whatever a script's own function raises: it must not end the server
                _log.exception("the callback of store %s failed", self._name)
                return {"success": False, "message": f"data_callback: {type(error).__name__}: {error!s:.200}"}
        return {"success": False, "message": refused} if refused else {"success": True}


class _StoreSink:
    """Fills a data store."""

    def __init__(self, name: str, store: DataStoreBase) -> None:
        self._name, self.store = name, store

    def take(self, client: int, items: Sequence[Any], last_id: int) -> str:
        """Store items, each by itself: says what was refused, or nothing."""
        refused, reason = 0, ""
        for item in items:
            try:
                self.store.batch_insert([item])
            except Exception as error:  # noqa: BLE001 - whatever a store raises about what it was given: it must not end the server
                refused, reason = refused + 1, f"{type(error).__name__}: {error!s:.200}"
        if not refused:
            return ""
        message = f"{self._name}: {refused} of {len(items)} items were refused and are lost, the last one by {reason}"
        _log.error("%s", message)
        return message


def zeromq() -> Any:
    """The module zmq. Raises AgentlaceError where it is not installed."""
    return optional_module("zmq", extra="agentlace", needed_by="the wire of agentlace", error=AgentlaceError)


def _field(payload: Any, name: str) -> Any:
    return payload.get(name) if isinstance(payload, dict) else None


def _described(payload: Any) -> str:
    if not isinstance(payload, dict):
        return type(payload).__name__
    return ", ".join(f"{name}: {type(each).__name__}" for name, each in list(payload.items())[:5]) or "nothing"
