# SPDX-License-Identifier: Apache-2.0
"""The benchmark of a fleet that is killed counts what is missing of what actors have said is acknowledged."""

from pathlib import Path

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from serl_bench.fleet.kills import listen, missing
from serl_bench.graph.peers_node import STATE, numbered_chunk
from serl_rl.storage.chunk import encode_chunk
from serl_rl.storage.journal import Journal, Record


def said(name: str, **values: object) -> DiagnosticArray:
    """What a node says of itself."""
    pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    return DiagnosticArray(status=[DiagnosticStatus(name=name, values=pairs)])


def test_what_actors_have_said_is_looked_for_by_their_sessions(tmp_path: Path) -> None:
    acknowledged: dict[str, int] = {}
    for count in (4, 8, 7):
        listen(said("/arm_0/actor: learner", session="one", acknowledged=count), acknowledged)
    listen(said("/arm_1/actor: learner", session="two", acknowledged=5), acknowledged)
    listen(said("/arm_2/actor: learner", session="three", acknowledged=2), acknowledged)
    listen(said("/learner: learner", updates=3), acknowledged)
    assert acknowledged == {"one": 8, "two": 5, "three": 2}
    rng = np.random.default_rng(0)
    with Journal(tmp_path / "journal", STATE) as journal:
        journal.append(Record("arm_0", "one", 0, 8, encode_chunk(numbered_chunk(STATE, 0, 8, rng))))
        journal.append(Record("arm_1", "two", 1, 4, encode_chunk(numbered_chunk(STATE, 1, 4, rng))))
    assert missing(tmp_path / "journal", STATE, acknowledged) == 1 + 2
