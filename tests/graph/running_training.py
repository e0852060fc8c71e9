# SPDX-License-Identifier: Apache-2.0
"""Watches a training that a test has started: its processes, and what it has stored so far."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serl_rl.spec import TransitionSpec
from serl_rl.storage.chunk import Chunk, decode_chunk
from serl_rl.storage.journal import read_journal
from serl_rl.storage.tombstone import Tombstone, decode_tombstone, is_tombstone


def wait_for(condition: Callable[[], Any], process: Any, timeout: float = 90.0) -> Any:
    """Wait until `condition()` is true and return what it gave; the process must live."""
    deadline = time.monotonic() + timeout
    while not (result := condition()):
        assert process.poll() is None, process.output()
        assert time.monotonic() < deadline, process.output()
        time.sleep(0.05)
    return result


def pids(run: Path, node: str) -> list[int]:
    """Process ids under which an executable of a run was started, oldest first."""
    log = (run / "log" / "launch.log").read_text()
    return [int(pid) for pid in re.findall(rf"\[{node}-\d+\]: process started with pid \[(\d+)\]", log)]


def chunks(run: Path, spec: TransitionSpec) -> list[Chunk]:
    """What the learner of a run has stored; fails on what is wrong, missing or there twice."""
    expected: dict[str, int] = {}
    found: list[Chunk] = []
    if not (run / "journal").is_dir():
        return found
    for _, record in read_journal(run / "journal", spec):
        assert record.first_sequence == expected.get(record.session_id, 0)
        expected[record.session_id] = record.first_sequence + record.count
        if not is_tombstone(record.data):
            found.append(decode_chunk(record.data, spec))
    return found


def tombstones(run: Path, spec: TransitionSpec) -> list[Tombstone]:
    """What was taken back of what the learner of a run has stored."""
    records = [record.data for _, record in read_journal(run / "journal", spec)]
    return [decode_tombstone(data) for data in records if is_tombstone(data)]


def online(run: Path, spec: TransitionSpec) -> int:
    """Online transitions that the learner of a run has stored; fails as `chunks`."""
    return sum(len(chunk) for chunk in chunks(run, spec) if not chunk.demonstration)
