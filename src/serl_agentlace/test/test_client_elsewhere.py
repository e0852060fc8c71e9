# SPDX-License-Identifier: Apache-2.0
"""Our client at a server as agentlace has it, which keeps one number for all that send to a store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from serl_agentlace import AgentlaceError, QueuedDataStore, TrainerClient

pytest.importorskip("zmq", reason="./serl setup agentlace")
pytest.importorskip("lz4.frame", reason="./serl setup agentlace")

if TYPE_CHECKING:
    from agentlace_plain_server import PlainServer

STORE = "actor_env"


@pytest.fixture
def server() -> Iterator[PlainServer]:
    from agentlace_plain_server import PlainServer

    found = PlainServer(STORE)
    yield found
    found.close()


class Actor:
    """A client of its own queue, whose items are its name and a number."""

    def __init__(self, server: PlainServer, name: str, capacity: int = 1000) -> None:
        self.queue, self._name, self._count = QueuedDataStore(capacity), name, 0
        self.client = TrainerClient(STORE, "127.0.0.1", server.port, self.queue, timeout_ms=20_000)

    def send(self, count: int) -> bool:
        for _ in range(count):
            self.queue.insert((self._name, self._count))
            self._count += 1
        return self.client.update()

    def close(self) -> None:
        self.client.stop()


def everything(**counts: int) -> Counter[tuple[str, int]]:
    return Counter((name, number) for name, count in counts.items() for number in range(count))


def test_an_actor_that_is_started_again_loses_nothing(server: PlainServer) -> None:
    for name, count in (("before", 500), ("after", 600)):
        actor = Actor(server, name)
        assert actor.send(count)
        actor.close()
    assert Counter(server.stores[STORE]) == everything(before=500, after=600)


def test_two_actors_of_one_store_lose_nothing(server: PlainServer) -> None:
    actors = [Actor(server, "one"), Actor(server, "two")]
    for counts in ((300, 20), (1, 1), (0, 300), (300, 0)):
        for actor, count in zip(actors, counts, strict=True):
            assert actor.send(count)
    for actor in actors:
        actor.close()
    assert Counter(server.stores[STORE]) == everything(one=601, two=321)


def test_an_answer_that_is_lost_doubles_nothing(server: PlainServer) -> None:
    actor = Actor(server, "one")
    assert actor.send(10)
    server.answers_lost = 1
    assert not actor.send(10)
    assert actor.client.acknowledged(STORE) == 9
    assert actor.send(0)
    assert actor.client.acknowledged(STORE) == 19
    actor.close()
    assert Counter(server.stores[STORE]) == everything(one=20)


def test_a_server_that_is_started_again_gets_what_the_queue_has(server: PlainServer) -> None:
    actor = Actor(server, "one", capacity=15)
    assert actor.send(20)
    server.start_anew()
    assert actor.send(1)
    actor.close()
    assert server.stores[STORE] == [("one", number) for number in range(6, 21)]


def test_the_servers_own_settings_are_taken(server: PlainServer) -> None:
    client = TrainerClient("", "127.0.0.1", server.port, timeout_ms=20_000)
    assert client.config.request_types == ["send-stats"]
    assert client.serves(STORE)
    assert not client.serves("else")
    assert client.request("send-stats", {"a": 1}) == {}
    assert server.stats == [{"a": 1}]
    client.stop()


def test_who_is_no_trainer_server_is_named(server: PlainServer) -> None:
    server._config = "[1, 2]"
    with pytest.raises(AgentlaceError, match="expected the configuration of a trainer server"):
        TrainerClient("", "127.0.0.1", server.port, timeout_ms=20_000)
