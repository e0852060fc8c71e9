# SPDX-License-Identifier: Apache-2.0
"""The other ends of the benchmarks of messages, each in a process of its own: ``python -m ...peers_node ROLE ...``.

They use the learner's own insertion service and the actor's own link to the learner; only what is stored and sent is
made up.
"""

import argparse
import os
import threading
from pathlib import Path

import numpy as np
from rclpy.node import Node
from serl_rl.ingest import Ingest
from serl_rl.replay.buffer import ReplayBuffer
from serl_rl.spec import ArraySpec, TransitionSpec
from serl_rl.storage.chunk import Chunk
from serl_rl.storage.journal import Journal
from serl_ros.execution.executor import FastExecutor
from serl_ros.node import run_node
from serl_ros.qos import RELIABLE_10
from serl_training.actor.perception import make_perception
from serl_training.env.graph_cameras import CameraInputs
from serl_training.graph_jax import prepare
from serl_training.link.contract import load_learning
from serl_training.link.graph_insertion_service import InsertionService
from serl_training.link.graph_learner_link import GraphLearnerLink

from serl_interfaces.msg import ActionCommand
from serl_tasks import get_task

VECTOR, FRAME = ArraySpec((14,), "float32"), ArraySpec((128, 128, 3), "uint8")
STATE = TransitionSpec({"state": VECTOR}, 4)
IMAGES = TransitionSpec({"state": VECTOR, "front": FRAME, "wrist": FRAME}, 4)
SPECS = {"state": STATE, "images": IMAGES}
CHUNK = {"state": 64, "images": 16}
CAPACITY = {"state": 200_000, "images": 4_000}


def numbered_chunk(spec: TransitionSpec, first: int, count: int, rng: np.random.Generator) -> Chunk:
    """A chunk whose transitions carry their numbers, `first` and on, in action and reward; the rest is noise."""
    observation: dict[str, np.ndarray] = {}
    for name, entry in spec.observation.items():
        shape = (count + 1, *entry.shape)
        if entry.dtype == "uint8":
            observation[name] = rng.integers(0, 256, shape, dtype=np.uint8)
        else:
            observation[name] = rng.standard_normal(shape, dtype=np.float32)
    numbers = np.arange(first, first + count)
    action = np.zeros((count, spec.action_dim), np.float32)
    action[:, 0] = number_code(numbers)
    return Chunk(
        observation=observation,
        action=action,
        reward=number_reward(numbers),
        mask=np.ones(count, np.float32),
        truncated=np.zeros(count, np.bool_),
        intervention=np.zeros(count, np.bool_),
        policy_version=np.zeros(count, np.uint64),
        actor_id="bench",
        episode=1,
        first_step=first,
        demonstration=False,
        last=False,
        success=False,
    )


def number_code(numbers: np.ndarray) -> np.ndarray:
    """A value in [-1, 1], float32 (n,), that belongs to each of the `numbers` (n,)."""
    return (((numbers * 2654435761) % 2001 - 1000) / 1000.0).astype(np.float32)


def number_reward(numbers: np.ndarray) -> np.ndarray:
    """A plausible reward, float32 (n,), that belongs to each of the `numbers` (n,)."""
    return (numbers % 8191).astype(np.float32)


class Store(Node):
    """Takes transitions as the learner does, journal and replay included, and never trains."""

    def __init__(self, run_dir: Path, kind: str) -> None:
        super().__init__("store")
        spec, capacity = SPECS[kind], CAPACITY[kind]
        self._journal = Journal(run_dir / "journal", spec)
        self._ingest = Ingest(spec, self._journal, ReplayBuffer(spec, capacity), ReplayBuffer(spec, 1000))
        self._service = InsertionService(
            self, self._ingest.insert, lambda: self._ingest.totals, self.get_logger().error
        )

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()


class Sender(Node):
    """Sends numbered transitions at a steady rate and writes down, before anything else, what was acknowledged."""

    RATE = 2000.0  # [transitions/s]

    def __init__(self, log: Path) -> None:
        super().__init__("sender")
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def run(self, executor: FastExecutor, stop: threading.Event) -> None:
        """Send until told to stop."""
        learner = GraphLearnerLink(
            self, executor, spec=STATE, actor_id="bench", max_lead=0, max_backlog=2000, check=lambda: None
        )
        rng = np.random.default_rng()
        sent = written = 0
        while not stop.is_set():
            if learner.backlog < 1000:
                count = int(rng.integers(1, 40))
                learner.send(numbered_chunk(STATE, sent, count, rng))
                sent += count
            executor.spin_once(20 / self.RATE)
            learner.pump()
            if learner.acknowledged > written:
                written = learner.acknowledged
                os.write(self._log, f"{learner.session} {written}\n".encode())


class PolicyEcho(Node):
    """Acts once with each policy version and says so on `policy/action`."""

    def __init__(self) -> None:
        super().__init__("policy_echo")
        self._publisher = self.create_publisher(ActionCommand, "policy/action", RELIABLE_10)

    def run(self, executor: FastExecutor, stop: threading.Event) -> None:
        """Echo until told to stop."""
        learner = GraphLearnerLink(
            self, executor, spec=STATE, actor_id="bench", max_lead=0, max_backlog=1, check=lambda: None
        )
        acted = 0
        observation = {"state": np.zeros(14, np.float32)}
        while not stop.is_set():
            executor.spin_once(0.1)
            if learner.policy_version > acted:
                acted = learner.policy_version
                action = learner.policy.act(observation, deterministic=True)
                self._publisher.publish(ActionCommand(step=acted, action=action.tolist()))


class Eyes(Node):
    """Sees what the actor sees of the cameras and answers each pair of pictures with an action of a new policy."""

    TASK = "pick_cube_vision"

    def __init__(self) -> None:
        super().__init__("eyes")
        prepare(self, "")
        from serl_rl.backends import create_agent, make_policy

        task = get_task(self.TASK)
        config = load_learning("", task)
        self._perception = make_perception(task, config, seed=0, simulated=True)
        agent = create_agent(0, self._perception.spec, config, self._perception.weights)
        self._policy = make_policy(agent.policy_snapshot())
        self._state = np.zeros(self._perception.spec.observation["state"].shape, np.float32)
        self._cameras = CameraInputs(self, task.cameras)
        self._publisher = self.create_publisher(ActionCommand, "policy/action", RELIABLE_10)

    def run(self, executor: FastExecutor, stop: threading.Event) -> None:
        """Act until told to stop."""
        encoder, acted = self._perception.encoder, None
        assert encoder is not None
        while not stop.is_set():
            executor.spin_once(0.1)
            stamp = self._cameras.newest_stamp()
            if stamp is None or stamp == acted:
                continue
            acted = stamp
            features = encoder.encode(self._cameras.pictures())
            action = self._policy.act({"state": self._state, **features}, deterministic=True)
            self._publisher.publish(ActionCommand(step=acted, action=action.tolist()))


def main() -> None:
    """Entry point of a peer process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=("store", "sender", "echo", "eyes"))
    parser.add_argument("--dir", type=Path)
    parser.add_argument("--kind", choices=tuple(SPECS), default="state")
    parser.add_argument("--log", type=Path)
    options = parser.parse_args()
    factories = {
        "store": lambda: Store(options.dir, options.kind),
        "sender": lambda: Sender(options.log),
        "echo": PolicyEcho,
        "eyes": Eyes,
    }
    run_node(factories[options.role], args=[])


if __name__ == "__main__":
    main()
