# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SERVER = Path(__file__).parents[3] / "serl_agentlace" / "test" / "agentlace_plain_server.py"


@pytest.fixture
def serve() -> Iterator[Callable[..., Any]]:
    """Starts servers as agentlace's wire is described, with the stores of the given names."""
    spec = importlib.util.spec_from_file_location(SERVER.stem, SERVER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    servers: list[Any] = []

    def begin(*stores: str) -> Any:
        servers.append(module.PlainServer(*stores))
        return servers[-1]

    yield begin
    for each in servers:
        each.close()
