# SPDX-License-Identifier: Apache-2.0
"""No message ends a program: hostile ones for everything that the graph listens to."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
from serl_bench.fuzz.fuzz_graph import extra_nodes, fuzz_graph


@pytest.mark.graph
@pytest.mark.slow
def test_no_message_ends_a_node_moves_the_arm_wrongly_or_floods_the_log(ros_domain: Any, tmp_path: Path) -> None:
    gc.collect()  # nodes that tests before this one have left in this process would be taken for some of the graph
    report = fuzz_graph("pick_cube", 3000, tmp_path, seed=1, extras=extra_nodes("pick_cube", tmp_path))
    assert report.problems == []
    assert report.found.messages >= 3000
    assert report.found.targets > 10
    assert report.found.stops
