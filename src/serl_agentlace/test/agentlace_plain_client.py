# SPDX-License-Identifier: Apache-2.0
"""A client as agentlace's wire is described: it pickles, knows no identity, and checks no answer. Only for tests."""

import pickle
from typing import Any

import lz4.frame
import zmq


class PlainClient:
    """Sends the items of a list that are behind what the server says."""

    def __init__(self, port: int, store: str, *, begins: bool = True, protocol: int = pickle.DEFAULT_PROTOCOL) -> None:
        self.items: list[Any] = []
        self.capacity = 10**6
        self._port, self._store, self._protocol = port, store, protocol
        self._context = zmq.Context()
        self.reconnect()
        if begins:
            assert self.ask({"type": "hash"})["success"]

    def reconnect(self) -> None:
        """As after an answer that did not come in time."""
        if hasattr(self, "socket"):
            self.socket.close()
        self.socket = self._context.socket(zmq.REQ)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVTIMEO, 20_000)
        self.socket.connect(f"tcp://127.0.0.1:{self._port}")

    def ask(self, request: dict[str, Any]) -> Any:
        """Send a request; what answers it."""
        self.socket.send(lz4.frame.compress(pickle.dumps(request, protocol=self._protocol)))
        return pickle.loads(lz4.frame.decompress(self.socket.recv()))  # noqa: S301 - as agentlace does

    def update(self) -> Any:
        """Ask what the server has, and send everything behind it in one request."""
        after = self.ask({"type": "get_last_update_id", "payload": {"store_name": self._store}})["payload"]
        first = max(after + 1, len(self.items) - self.capacity)
        if first >= len(self.items):
            return None
        payload = {"data": self.items[first:], "last_id": len(self.items) - 1}
        return self.ask({"type": "datastore", "store_name": self._store, "payload": payload})

    def close(self) -> None:
        """End."""
        self._context.destroy(linger=0)
