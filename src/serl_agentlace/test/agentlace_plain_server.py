# SPDX-License-Identifier: Apache-2.0
"""A server as agentlace's wire is described: one number for each store, whoever sends. Only for tests."""

import json
import pickle
import threading
from typing import Any

import lz4.frame
import zmq

CONFIG = {
    "port_number": 0,
    "broadcast_port": 0,
    "request_types": ["send-stats"],
    "rate_limit": None,
    "version": "0.0.2",
    "experimental_pipeline_port": None,
}


class PlainServer:
    """Keeps what it is sent, in lists by the names of its stores."""

    def __init__(self, *stores: str) -> None:
        self.stores: dict[str, list[Any]] = {name: [] for name in stores}
        self.last = dict.fromkeys(stores, -1)
        self.stats: list[Any] = []
        self.answers_lost = 0
        self._context = zmq.Context()
        self._requests, self._params = self._context.socket(zmq.REP), self._context.socket(zmq.PUB)
        self.port = self._requests.bind_to_random_port("tcp://127.0.0.1")
        self._config = json.dumps(
            CONFIG | {"port_number": self.port, "broadcast_port": self._params.bind_to_random_port("tcp://127.0.0.1")},
            separators=(",", ":"),
        )
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def publish(self, params: Any) -> None:
        """Send parameters to whoever listens at this moment."""
        self._params.send(lz4.frame.compress(pickle.dumps(params)))

    def start_anew(self) -> None:
        """As a process that has nothing of what was sent to the one before it."""
        for name, items in self.stores.items():
            items.clear()
            self.last[name] = -1

    def close(self) -> None:
        """End."""
        self._stopping = True
        self._thread.join()
        self._context.destroy(linger=0)

    def _run(self) -> None:
        while not self._stopping:
            if not self._requests.poll(50):
                continue
            answer = self._answer(pickle.loads(lz4.frame.decompress(self._requests.recv())))  # noqa: S301 - as agentlace
            if answer is None:
                self.answers_lost -= 1
                answer = "what the client does not take for an answer"
            self._requests.send(lz4.frame.compress(pickle.dumps(answer)))

    def _answer(self, request: dict[str, Any]) -> Any:
        kind, payload = request["type"], request.get("payload")
        if kind == "hash":
            return {"success": True, "payload": self._config}
        if kind == "send-stats":
            self.stats.append(payload)
            return {}
        name = request["store_name"] if kind == "datastore" else payload["store_name"]
        if name not in self.stores:
            return {"success": False, "message": "Invalid datastore name"}
        if kind == "get_last_update_id":
            return {"success": True, "payload": self.last[name]}
        self.stores[name] += payload["data"]
        self.last[name] = payload["last_id"]
        return None if self.answers_lost else {"success": True}
