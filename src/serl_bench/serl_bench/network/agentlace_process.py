# SPDX-License-Identifier: Apache-2.0
"""agentlace's own client or server, for benchmarks: ``python -m ...agentlace_process server|client PORT PORT ...``."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import numpy as np
from serl_rl.spec import TransitionSpec

from serl_tasks import get_task

LENGTH = 100
"""Steps of an episode."""
STORE = "actor_env"
REQUESTS = ["send-stats"]
PICTURE = (1, 128, 128, 3)
TIMEOUT_MS = 60_000


def transitions(kind: str, count: int) -> list[dict[str, Any]]:
    """Episodes as SERL's actor gives them: each observation is the same object as the next one of the step before."""
    task = get_task({"state": "pick_cube", "images": "pick_cube_vision"}[kind])
    rng = np.random.default_rng(0)
    (width,) = TransitionSpec.from_spaces(task.observation_space, task.action_space).observation["state"].shape

    def observe() -> dict[str, Any]:
        pictures = {name: rng.integers(0, 256, PICTURE, dtype=np.uint8) for name in task.cameras}
        return {"state": rng.standard_normal((1, width), dtype=np.float32), **pictures}

    found: list[dict[str, Any]] = []
    observation = observe()
    for number in range(count):
        following, done = observe(), number % LENGTH == LENGTH - 1
        action = rng.uniform(-1.0, 1.0, task.action_space.shape).astype(np.float32)
        found.append(
            {
                "observations": observation,
                "actions": action,
                "next_observations": following,
                "rewards": np.float32(done),
                "masks": 1.0 - done,
                "dones": done,
            }
        )
        observation = observe() if done else following
    return found


def client(config: Any, kind: str, count: int, batch: int) -> None:
    """Send `count` transitions, `batch` in an update, for each line that comes."""
    from agentlace.data.data_store import QueuedDataStore
    from agentlace.trainer import TrainerClient

    items, queue = transitions(kind, 3 * LENGTH), QueuedDataStore(2000)
    found = TrainerClient(STORE, "127.0.0.1", config, queue, timeout_ms=TIMEOUT_MS, log_level=logging.ERROR)
    print("ready", flush=True)
    for _ in sys.stdin:
        for number in range(count):
            queue.insert(items[number % len(items)])
            if (number + 1) % batch == 0 and not found.update():
                print("an update that failed", flush=True)
                return
        print("sent", flush=True)


def server(config: Any) -> None:
    """Take transitions into agentlace's own queue, as long as the input is open."""
    from agentlace.data.data_store import QueuedDataStore
    from agentlace.trainer import TrainerServer

    found = TrainerServer(config, log_level=logging.ERROR)
    found.register_data_store(STORE, QueuedDataStore(2000))
    found.start(threaded=True)
    print("ready", flush=True)
    sys.stdin.read()


def main() -> None:
    """Entry point of a process."""
    from agentlace.trainer import TrainerConfig

    role, port, broadcast, *rest = sys.argv[1:]
    config = TrainerConfig(int(port), int(broadcast), list(REQUESTS))
    if role == "server":
        server(config)
    else:
        kind, count, batch = rest
        client(config, kind, int(count), int(batch))
    sys.stdout.flush()
    os._exit(0)  # agentlace's threads end with nothing less


if __name__ == "__main__":
    main()
