# SPDX-License-Identifier: Apache-2.0
"""Lets the tests of this folder and of those below import the helpers here; gives them graphs around a controller."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def make_graph(ros: Any) -> Iterator[Callable[..., Any]]:
    """Makes `arm_graph.Graph`s, with its arguments, and ends them with the test."""
    from arm_graph import Graph  # needs the built workspace, which most of these tests do without

    graphs: list[Graph] = []

    def make(**options: Any) -> Graph:
        graphs.append(Graph(ros, **options))
        return graphs[-1]

    yield make
    for graph in graphs:
        graph.close()
