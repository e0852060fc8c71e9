# SPDX-License-Identifier: Apache-2.0
"""agentlace's own client at our server, and ours at its server, where agentlace is installed."""

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from agentlace_store import ListStore

from serl_agentlace import QueuedDataStore, TrainerClient

pytest.importorskip("zmq", reason="./serl setup agentlace")
pytest.importorskip("agentlace", reason="agentlace is not installed, and not on PyPI")

SCRIPT = Path(__file__).with_name("agentlace_process.py")


def start(side: str, config) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, SCRIPT, side, config.to_json()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_its_clients_talk_to_our_server(serve, config):
    store = ListStore()
    server = serve({"actor_env": store}, request_callback=lambda kind, payload: {"got": payload})
    server.publish_network({"modules_actor": {"kernel": np.ones(3, np.float32)}})
    clients = [start("client", config) for _ in range(2)]
    for client in clients:
        said = json.loads(client.communicate(timeout=60)[0].splitlines()[-1])
        assert said["done"]
        assert said["params"] == [1.0]
        assert said["answer"] == {"got": {"timer": {"a": 1.5}}}
        assert json.dumps(said["config"], separators=(",", ":")) == config.to_json()
    found = Counter((int(item["actions"][0]), int(item["actions"][1])) for item in store.items)
    assert found == Counter((client.pid, number) for client in clients for number in range(100))


def test_our_client_talks_to_its_server(config):
    server = start("server", config)
    try:
        assert server.stdout.readline() == "ready\n"
        queue = QueuedDataStore(1000)
        client = TrainerClient("actor_env", "127.0.0.1", config, queue, timeout_ms=20_000)
        heard: list[float] = []
        client.recv_network_callback(lambda params: heard.append(float(params["modules_actor"]["kernel"][0])))
        for number in range(600):
            queue.insert({"observations": {"state": np.zeros(3, np.float32)}, "actions": np.float32(number)})
        assert client.update()
        assert client.request("send-stats", {"a": np.float32(2)}) == {"got": {"a": np.float32(2)}}
        server.stdin.write("\n")
        server.stdin.flush()
        deadline = time.monotonic() + 30
        while not heard and time.monotonic() < deadline:
            time.sleep(0.05)
        client.stop()
        assert heard[0] == 7.0
        assert json.loads(server.communicate("\n", timeout=30)[0]) == {"stored": 600}
    finally:
        server.kill()
