# SPDX-License-Identifier: Apache-2.0
"""agentlace's own client or server, in a process of its own: its threads end with nothing less. Only for tests."""

import json
import logging
import os
import sys
import threading
import time
from typing import Any

import numpy as np
from agentlace.data.data_store import QueuedDataStore
from agentlace.trainer import TrainerClient, TrainerConfig, TrainerServer


def _transition(number: int, actor: int) -> dict[str, Any]:
    return {
        "observations": {"state": np.full((1, 3), number, np.float32)},
        "actions": np.array([actor, number], np.float32),
        "rewards": np.float32(number),
        "dones": np.bool_(False),
    }


def client(config: TrainerConfig) -> dict[str, Any]:
    """Send 100 items, ask, and hear parameters."""
    queue = QueuedDataStore(1000)
    found = TrainerClient("actor_env", "127.0.0.1", config, queue, timeout_ms=20_000, log_level=logging.WARNING)
    for number in range(100):
        queue.insert(_transition(number, os.getpid()))
    done, heard = found.update(), threading.Event()
    params: list[float] = []

    def take(tree: Any) -> None:
        params.append(float(tree["modules_actor"]["kernel"][0]))
        heard.set()

    found.recv_network_callback(take)
    heard.wait(30)
    answer = found.request("send-stats", {"timer": {"a": 1.5}})
    return {"done": done, "params": params[:1], "answer": answer, "config": config.__dict__}


def server(config: TrainerConfig) -> dict[str, Any]:
    """Take items until a line comes, then publish parameters until another one comes."""
    store = QueuedDataStore(1000)
    found = TrainerServer(config, request_callback=lambda kind, payload: {"got": payload}, log_level=logging.WARNING)
    found.register_data_store("actor_env", store)
    found.start(threaded=True)
    print("ready", flush=True)
    sys.stdin.readline()

    def publish() -> None:
        while True:
            found.publish_network({"modules_actor": {"kernel": np.full(3, 7, np.float32)}})
            time.sleep(0.1)

    threading.Thread(target=publish, daemon=True).start()
    sys.stdin.readline()
    return {"stored": store.latest_data_id() + 1}


if __name__ == "__main__":
    settings = TrainerConfig(**json.loads(sys.argv[2]))
    print(json.dumps({"client": client, "server": server}[sys.argv[1]](settings)), flush=True)
    os._exit(0)
