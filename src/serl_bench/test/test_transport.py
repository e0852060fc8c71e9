# SPDX-License-Identifier: Apache-2.0
"""What the benchmark of kills counts as lost."""

from pathlib import Path

import numpy as np
import pytest
from serl_bench.graph.peers_node import STATE, numbered_chunk
from serl_bench.graph.transport import missing
from serl_rl.storage.chunk import encode_chunk
from serl_rl.storage.journal import Journal, Record
from serl_rl.storage.tombstone import Tombstone, encode_tombstone


@pytest.mark.parametrize(("acknowledged", "lost"), [(8, 0), (11, 3)])
def test_a_tombstone_among_the_chunks_is_stored_and_nothing_that_was_lost(
    acknowledged: int, lost: int, tmp_path: Path
) -> None:
    chunk = numbered_chunk(STATE, 0, 4, np.random.default_rng(0))
    later = numbered_chunk(STATE, 5, 3, np.random.default_rng(1))
    tombstone = Tombstone(chunk.actor_id, chunk.episode, 2)
    with Journal(tmp_path / "journal", STATE) as journal:
        journal.append(Record("actor", "session", 0, 4, encode_chunk(chunk)))
        journal.append(Record("actor", "session", 4, 1, encode_tombstone(tombstone)))
        journal.append(Record("actor", "session", 5, 3, encode_chunk(later)))
    log = tmp_path / "acknowledged.txt"
    log.write_text(f"session {acknowledged}\n", encoding="utf-8")
    assert missing(tmp_path / "journal", log) == (lost, acknowledged, 1)
