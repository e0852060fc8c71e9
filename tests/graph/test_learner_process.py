# SPDX-License-Identifier: Apache-2.0
"""The learner as a process: what it takes, what it refuses, and how it ends."""

from __future__ import annotations

import os
import signal
import time
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serl_bench.graph.peers_node import number_code, numbered_chunk
from serl_config.resources import find
from serl_launch.language.packages import find_executable
from serl_rl.backends import make_policy
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.spec import TransitionSpec
from serl_rl.storage.chunk import decode_chunk, encode_chunk
from serl_rl.storage.journal import read_journal
from serl_ros.qos import LATCHED

from serl_interfaces.msg import PolicyParameters
from serl_interfaces.srv import InsertTransitions
from serl_tasks import get_task

TASK = get_task("pick_cube")
SPEC = TransitionSpec.from_spaces(TASK.observation_space, TASK.action_space)
START_TIMEOUT = 60.0


def command(run_dir: Path, **parameters: object) -> list[str]:
    """Command line of a learner."""
    parameters = {"run_dir": run_dir, "n_steps": 2, **parameters}
    arguments = [part for name, value in parameters.items() for part in ("-p", f"{name}:={value}")]
    return [str(find_executable("serl_training", "learner", os.environ)), "--ros-args", *arguments]


class Peer:
    """The other end of a learner: sends chunks, hears policies."""

    def __init__(self, ros: Any) -> None:
        self._ros = ros
        self.node = ros.node("peer")
        self.policies: list[PolicyParameters] = []
        self.node.create_subscription(PolicyParameters, "learner/policy", self.policies.append, LATCHED)
        self._client = self.node.create_client(InsertTransitions, "learner/insert")

    def insert(self, first: int, count: int, data: bytes, session: str = "s") -> InsertTransitions.Response:
        request = InsertTransitions.Request(
            actor_id="bench", session_id=session, first_sequence=first, count=count, data=array("B", data)
        )
        self._ros.spin_until(self._client.service_is_ready, START_TIMEOUT, "the service learner/insert")
        asked: list[Any] = []

        def answered() -> bool:
            # A learner that was killed counts as present for a while and answers nothing: ask again, as actors do.
            if not asked or time.monotonic() > asked[-1][0] + 2.0:
                asked.append((time.monotonic(), self._client.call_async(request)))
            return any(future.done() for _, future in asked)

        self._ros.spin_until(answered, START_TIMEOUT, "an answer of learner/insert")
        return next(future.result() for _, future in asked if future.done())

    def send(self, first: int, count: int, session: str = "s") -> InsertTransitions.Response:
        return self.insert(first, count, chunk(first, count), session)

    def wait_for_policy(self) -> PolicyParameters:
        self._ros.spin_until(lambda: self.policies, START_TIMEOUT, "a policy")
        return self.policies[-1]


def chunk(first: int, count: int) -> bytes:
    return encode_chunk(numbered_chunk(SPEC, first, count, np.random.default_rng(first)))


def stored(run_dir: Path) -> list[int]:
    """Numbers of the transitions in the journal, in order; fails on a wrong one."""
    numbers = []
    for _, record in read_journal(run_dir / "journal", SPEC):
        expected = np.arange(record.first_sequence, record.first_sequence + record.count)
        found = decode_chunk(record.data, SPEC)
        assert (found.action[:, 0] == number_code(expected)).all()
        numbers += expected.tolist()
    return numbers


def test_a_run_from_start_to_sigint(ros: Any, processes: Any, tmp_path: Path) -> None:
    learner = processes.start(*command(tmp_path / "run"))
    peer = Peer(ros)
    first = peer.wait_for_policy()
    make_policy(PolicySnapshot.from_bytes(first.data.tobytes())).check(SPEC)
    for number in range(20):
        answer = peer.send(10 * number, 10)
        assert answer.success, answer.message
        assert answer.next_expected == 10 * (number + 1)
    again = peer.send(0, 10)
    assert (again.success, again.next_expected, again.env_steps) == (True, 200, 200)
    ros.spin_until(lambda: peer.policies[-1].env_steps_trained >= 198, 60.0, "training to catch up")
    versions = [message.version for message in peer.policies]
    assert versions == sorted(set(versions))
    learner.send(signal.SIGINT)
    assert learner.wait(5.0) == 0
    assert "Traceback" not in learner.output()
    assert stored(tmp_path / "run") == list(range(200))
    assert list((tmp_path / "run" / "checkpoints").iterdir())


def test_a_policy_that_is_too_large_for_a_network_is_told(ros: Any, processes: Any, tmp_path: Path) -> None:
    learning = tmp_path / "large.yaml"
    text = find("config/learning/rlpd_state.yaml").read_text()
    learning.write_text(text.replace("hidden_sizes: [64, 64]", "hidden_sizes: [600, 600]"))
    learner = processes.start(*command(tmp_path / "run", learning=learning))
    peer = Peer(ros)
    assert len(peer.wait_for_policy().data) > 1_000_000
    ros.spin_until(lambda: "at most 1 MB" in learner.output(), 10.0, "the warning")


def damaged_chunks() -> dict[str, tuple[int, bytes]]:
    """What is wrong -> count and data of an insertion that must be refused."""
    good = numbered_chunk(SPEC, 10, 5, np.random.default_rng(0))
    good.action[2, 1] = mark = np.float32(0.12345679)
    whole = encode_chunk(good)
    assert whole.count(mark.tobytes()) == 1
    other = TransitionSpec({"state": ((3,), "float32")}, 4)
    return {
        "not a chunk": (5, b"\x80\x04\x95" + bytes(200)),
        "cut off": (5, whole[:-7]),
        "another shape": (5, encode_chunk(numbered_chunk(other, 10, 5, np.random.default_rng(0)))),
        "another count": (6, whole),
        "not a number": (5, whole.replace(mark.tobytes(), np.float32(np.nan).tobytes())),
        "out of range": (5, whole.replace(mark.tobytes(), np.float32(1.5).tobytes())),
    }


def test_bad_transitions_are_refused_and_nothing_is_stored(ros: Any, processes: Any, tmp_path: Path) -> None:
    processes.start(*command(tmp_path / "run"))
    peer = Peer(ros)
    assert peer.send(0, 10).success
    for damage, (count, data) in damaged_chunks().items():
        answer = peer.insert(10, count, data)
        assert not answer.success, damage
        assert "expected" in answer.message, damage
        assert "found" in answer.message, damage
    after = peer.send(10, 5)
    assert (after.success, after.next_expected) == (True, 15)
    assert stored(tmp_path / "run") == list(range(15))


def test_a_killed_learner_goes_on_where_it_was(ros: Any, processes: Any, tmp_path: Path) -> None:
    peer = Peer(ros)
    sent = 0
    for _ in range(3):
        learner = processes.start(*command(tmp_path / "run"))
        for _ in range(15):
            answer = peer.send(sent, 10)
            sent += 10
            assert (answer.success, answer.next_expected) == (True, sent), answer.message
        learner.send(signal.SIGKILL)
        learner.wait()
    assert stored(tmp_path / "run") == list(range(sent))


def test_a_second_learner_on_the_same_topics_says_so_and_ends(ros: Any, processes: Any, tmp_path: Path) -> None:
    first = processes.start(*command(tmp_path / "one"))
    peer = Peer(ros)
    peer.wait_for_policy()
    second = processes.start(*command(tmp_path / "two"))
    assert second.wait(START_TIMEOUT) == 2
    assert "another learner" in second.output()
    assert "Traceback" not in second.output()
    assert first.poll() is None
    assert peer.send(0, 4).success


def test_a_second_learner_on_the_same_run_says_so_and_ends(ros: Any, processes: Any, tmp_path: Path) -> None:
    processes.start(*command(tmp_path / "run"))
    Peer(ros).wait_for_policy()
    second = processes.start(*command(tmp_path / "run"), env={"ROS_DOMAIN_ID": "59"})
    assert second.wait(START_TIMEOUT) == 2
    assert "fatal:" in second.output()
    assert "another learner" in second.output()


@pytest.mark.parametrize("what", ["journal", "checkpoint", "learning"])
def test_a_damaged_run_is_refused_in_one_line_and_left_alone(
    ros: Any, processes: Any, tmp_path: Path, what: str
) -> None:
    run = tmp_path / "run"
    parameters: dict[str, object] = {}
    if what == "journal":
        victim = run / "journal" / "00000000.segment"
    elif what == "checkpoint":
        victim = run / "checkpoints" / "000000_step_10" / "manifest.json"
    else:
        victim = run / "learning.yaml"
        parameters["learning"] = victim
    victim.parent.mkdir(parents=True)
    victim.write_text("btch_size: 128\n")
    learner = processes.start(*command(run, **parameters))
    assert learner.wait(START_TIMEOUT) == 2
    lines = [line for line in learner.output().splitlines() if line.startswith("fatal:")]
    assert len(lines) == 1
    assert str(victim.parent if what == "checkpoint" else victim) in lines[0]
    assert "Traceback" not in learner.output()
    assert victim.read_text() == "btch_size: 128\n"


def test_a_full_disk_refuses_transitions_and_harms_nothing(ros: Any, processes: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    limited = processes.start("sh", "-c", 'ulimit -f 64; exec "$@"', "sh", *command(run, checkpoint_period=1e5))
    peer = Peer(ros)
    sent = 0
    answer = peer.send(0, 20)
    while answer.success:
        sent += 20
        assert sent < 10_000
        answer = peer.send(sent, 20)
    assert "cannot append" in answer.message
    limited.send(signal.SIGKILL)
    limited.wait()
    processes.start(*command(run))
    again = peer.send(sent, 20)
    assert (again.success, again.next_expected) == (True, sent + 20)
    assert stored(run) == list(range(sent + 20))
