# SPDX-License-Identifier: Apache-2.0
"""An actor without an arm, a process of its own: acts ten times a second and hands over what it did.

It uses the actor's own link to the learner, and writes down what that has acknowledged and when it has acted.
"""

import argparse
import os
import threading
import time
from pathlib import Path

import numpy as np
from rclpy.node import Node
from serl_ros.execution.executor import FastExecutor
from serl_ros.node import run_node
from serl_training.link.graph_learner_link import GraphLearnerLink

from serl_bench.graph.peers_node import STATE, numbered_chunk

PERIOD = 0.1  # [s]
CHUNK = 8  # transitions, as the actor hands them over
MAX_BACKLOG = 20_000  # as the actor's


class SteadyActor(Node):
    """Acts with the newest policy it has, whatever becomes of the network."""

    def __init__(self, folder: Path, session: str) -> None:
        """Begin.

        Args:
            folder: gets `acknowledged`, lines of session and count, and `steps`, lines of time [s], the version of the
                policy that acted and transitions that were not acknowledged.
            session: in the name of the node.
        """
        super().__init__(f"steady_actor_{session}")
        self._acknowledged = os.open(folder / "acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._steps = os.open(folder / "steps", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._folder = folder

    def run(self, executor: FastExecutor, stop: threading.Event) -> None:
        """Wait for the learner, then act until told to stop; then until all of it is acknowledged."""
        learner = GraphLearnerLink(
            self, executor, spec=STATE, actor_id="bench", max_lead=0, max_backlog=MAX_BACKLOG, check=lambda: None
        )
        learner.connect()
        rng = np.random.default_rng(0)
        sent = steps = written = 0
        due = time.monotonic()
        finish = self._folder / "finish"
        while not stop.is_set():
            due += PERIOD
            while (left := due - time.monotonic()) > 0:
                executor.spin_once(left)
                learner.pump()
            if learner.acknowledged > written:
                written = learner.acknowledged
                os.write(self._acknowledged, f"{learner.session} {written}\n".encode())
            if finish.exists():
                if sent and not learner.backlog:
                    return
                continue
            learner.throttle()
            learner.policy.act({"state": np.zeros(STATE.observation["state"].shape, np.float32)}, deterministic=True)
            steps += 1
            os.write(self._steps, f"{time.monotonic()} {learner.policy_version} {learner.backlog}\n".encode())
            if steps % CHUNK == 0:
                learner.send(numbered_chunk(STATE, sent, CHUNK, rng))
                sent += CHUNK


def main() -> None:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    run_node(lambda: SteadyActor(options.folder, str(os.getpid())), args=[])


if __name__ == "__main__":
    main()
