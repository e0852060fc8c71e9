# SPDX-License-Identifier: Apache-2.0
"""Lets the tests of this folder and of those below import the helpers here; gives them a world."""

import sys
from pathlib import Path

import pytest
from serl_sim.world import World

from serl_tasks import get_task

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="package")
def shared_world():
    """One world for a package's tests, since building it takes longer than most of them."""
    world = World(get_task("pick_cube"))
    yield world
    world.close()


@pytest.fixture
def world(shared_world):
    """A world at the start state of seed 0."""
    shared_world.reset(0)
    return shared_world
