# SPDX-License-Identifier: Apache-2.0
"""What agentlace's own server loses is kept here, and what it would run is read as data."""

import importlib
import io
import json
import os
import pickle
import resource
import socket
import threading
import time
from collections import Counter
from contextlib import ExitStack

import numpy as np
import pytest
from agentlace_store import ListStore
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_agentlace.config import parse_config
from serl_agentlace.frames import FrameError, decode_frame, encode_frame
from serl_agentlace.uploads import MAX_UPLOADS, Uploads

from serl_agentlace import AgentlaceError, QueuedDataStore, TrainerClient, TrainerConfig, TrainerServer

zmq = pytest.importorskip("zmq", reason="./serl setup agentlace")
lz4_frame = pytest.importorskip("lz4.frame", reason="./serl setup agentlace")
PlainClient = importlib.import_module("agentlace_plain_client").PlainClient


def transition(number: int, actor: int = 0) -> dict:
    return {
        "observations": {
            "state": np.full((1, 3), number, np.float32),
            "wrist": np.full((1, 4, 4, 3), number % 256, np.uint8),
        },
        "actions": np.array([actor, number], np.float32),
        "rewards": np.float32(number),
        "masks": 1.0,
        "dones": False,
    }


def numbers(store: ListStore) -> list[tuple[int, int]]:
    return [(int(item["actions"][0]), int(item["actions"][1])) for item in store.items]


class Heard:
    """Keeps versions of parameters; the thread that brings them may be held up."""

    def __init__(self, go_on: threading.Event | None = None) -> None:
        self.heard: list[float] = []
        self._go_on = go_on
        self._changed = threading.Condition()

    def __call__(self, params: dict) -> None:
        with self._changed:
            self.heard.append(float(params["layer"]["kernel"][0, 0]))
            self._changed.notify_all()
        if self._go_on is not None:
            assert self._go_on.wait(60)

    def wait_for(self, version: float) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: version in self.heard, 60), self.heard


def test_items_arrive_once_and_in_order(serve, config):
    store = ListStore()
    serve({"actor": store})
    client = PlainClient(config.port_number, "actor")
    for size in (1, 30, 7):
        client.items += [transition(len(client.items) + each) for each in range(size)]
        assert client.update()["success"]
        assert client.update() is None
    assert [number for _, number in numbers(store)] == list(range(38))
    first = store.items[3]
    assert first["observations"]["wrist"].dtype == np.uint8
    assert first["observations"]["state"].shape == (1, 3)
    assert first["dones"] is False
    assert first["rewards"] == np.float32(3)
    first["actions"] += 1.0  # a script may write to what it gets


def test_an_actor_that_is_started_again_begins_at_its_first_item(serve, config):
    store = ListStore()
    serve({"actor": store})
    for actor, size in enumerate((500, 600)):
        client = PlainClient(config.port_number, "actor")
        client.items += [transition(number, actor) for number in range(size)]
        client.update()
        client.close()
    assert Counter(actor for actor, _ in numbers(store)) == {0: 500, 1: 600}


def test_two_actors_of_one_store_are_two(serve, config):
    store = ListStore()
    serve({"actor": store})
    clients = [PlainClient(config.port_number, "actor") for _ in range(2)]
    for actor, (client, size) in enumerate(zip(clients, (300, 200), strict=True)):
        client.items += [transition(number, actor) for number in range(size)]
    for client in clients * 2:
        client.update()
    assert Counter(numbers(store)) == Counter(
        [(0, number) for number in range(300)] + [(1, number) for number in range(200)]
    )


@pytest.mark.parametrize("more", [0, 1, 40])
def test_connections_that_were_lost_are_gone_on_with(serve, config, more):
    """Both clients lose their connections, and nothing tells who is who but what they send."""
    store = ListStore()
    serve({"actor": store})
    clients = [PlainClient(config.port_number, "actor") for _ in range(2)]
    for actor, client in enumerate(clients):
        client.items += [transition(number, actor) for number in range(50 + 30 * actor)]
        client.update()
        client.update()
    for actor, client in enumerate(clients):
        client.reconnect()
        client.items += [transition(len(client.items) + each, actor) for each in range(more)]
    for _ in range(4):
        for client in clients:
            client.update()
    expected = [(actor, number) for actor in range(2) for number in range(50 + 30 * actor + more)]
    assert Counter(numbers(store)) == Counter(expected)


def test_what_a_server_took_is_known_to_the_next_one(config):
    stores, uploads = [ListStore(), ListStore()], Uploads()
    client = None
    for store in stores:
        server = TrainerServer(config)
        server.register_data_store("actor", store, uploads)
        server.start(threaded=True)
        client = client or PlainClient(config.port_number, "actor")
        client.items += [transition(len(client.items) + each) for each in range(20)]
        for _ in range(3):
            client.update()
        server.stop()
        uploads = Uploads.from_json(uploads.to_json())
    assert [number for _, number in numbers(stores[0])] == list(range(20))
    assert [number for _, number in numbers(stores[1])] == list(range(20, 40))


def test_a_bad_item_is_named_and_those_beside_it_are_stored(serve, config, caplog):
    store = ListStore(refuse=lambda item: item["actions"][1] == 3)
    serve({"actor": store})
    client = PlainClient(config.port_number, "actor")
    client.items += [transition(number) for number in range(6)]
    answer = client.update()
    assert not answer["success"]
    assert "1 of 6 items were refused" in answer["message"]
    assert "KeyError" in caplog.text
    client.items.append(transition(6))
    assert client.update()["success"]
    assert [number for _, number in numbers(store)] == [0, 1, 2, 4, 5, 6]


def test_items_that_fell_out_of_a_clients_queue_are_counted(serve, config, caplog):
    store = ListStore()
    server = serve({"actor": store})
    client = PlainClient(config.port_number, "actor")
    client.items += [transition(number) for number in range(100)]
    client.capacity = 60
    client.update()
    assert [number for _, number in numbers(store)] == list(range(40, 100))
    assert "40 items had fallen out" in caplog.text
    assert server.uploads("actor").clients[0].lost == 40


def test_a_slow_store_loses_and_doubles_nothing_and_holds_up_nobody_else(serve, config):
    class Slow(ListStore):
        def insert(self, data: object) -> None:
            time.sleep(0.05)
            super().insert(data)

    slow, quick = Slow(), ListStore()
    serve({"slow": slow, "quick": quick})
    queue = QueuedDataStore(100)
    client = TrainerClient("slow", "127.0.0.1", config, queue, timeout_ms=300)
    for number in range(20):
        queue.insert(transition(number))
    assert not client.update()  # no answer within the time
    other = PlainClient(config.port_number, "quick")
    other.items.append(transition(0))
    assert other.update()["success"]
    assert len(slow.items) < 20, "who fills another store does not wait for this one"
    deadline = time.monotonic() + 60
    while not client.update():
        assert time.monotonic() < deadline
    assert [number for _, number in numbers(slow)] == list(range(20))
    client.stop()


def test_parameters_reach_who_comes_late_and_the_newest_overtake(serve, config):
    server = serve({"actor": ListStore()})
    for version in range(5):
        server.publish_network({"layer": {"kernel": np.full((2, 2), version, np.float32)}})
    go_on = threading.Event()
    newest, other = Heard(go_on), Heard()
    clients = [TrainerClient("actor", "127.0.0.1", config, QueuedDataStore(10), timeout_ms=20_000) for _ in range(2)]
    for client, heard in zip(clients, (newest, other), strict=True):
        client.recv_network_callback(heard)
        heard.wait_for(4.0)
    for version in range(5, 105):
        server.publish_network({"layer": {"kernel": np.full((2, 2), version, np.float32)}})
    other.wait_for(104.0)
    go_on.set()
    newest.wait_for(104.0)
    assert len(newest.heard) < 50, "of parameters that wait, the newest are enough"
    for client in clients:
        client.stop()


def test_requests_are_answered_and_a_broken_answer_ends_nothing(serve, config):
    def answer(kind: str, payload: dict) -> dict:
        return {"kind": kind, "sum": object() if payload["a"] is None else payload["a"] + 1}

    serve({"actor": ListStore()}, request_callback=answer)
    client = TrainerClient("actor", "127.0.0.1", config, QueuedDataStore(10), timeout_ms=20_000)
    assert client.request("send-stats", {"a": 1}) == {"kind": "send-stats", "sum": 2}
    assert "KeyError" in client.request("send-stats", {})["message"]
    assert "object" in client.request("send-stats", {"a": None})["message"]  # cannot be sent
    assert client.request("send-stats", {"a": 2}) == {"kind": "send-stats", "sum": 3}
    assert client.request("other", {}) is None
    client.stop()


class Harm:
    def __reduce__(self):
        return eval, ("harm.append(1)", {"harm": harm})


harm: list[int] = []


def compressed(value: bytes) -> bytes:
    return lz4_frame.compress(value)


def _bomb() -> bytes:
    return compressed(b"\x80\x04" + b"N\x94" * 2**20 + b".")


def _laughs() -> bytes:
    """A list of ten times a list of ten times a list, and so on: 10**20 values."""
    lists = [b"]\x94(" + 10 * (b"h" + bytes([each])) + b"e" for each in range(20)]
    return compressed(b"\x80\x04(]\x94" + b"".join(lists) + b"t.")


HOSTILE = {
    "a chain of attributes": compressed(b"\x80\x04cbuiltins\ngetattr\n(cos\n_Environ\nX\x04\x00\x00\x00pathtR."),
    "os.system by its names": compressed(b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R."),
    "an object of a class": compressed(
        b"\x80\x04ccopyreg\n_reconstructor\n(cbuiltins\nobject\ncbuiltins\nobject\nNtR."
    ),
    "a list within itself": compressed(b"\x80\x04]\x94h\x00a."),
    "lists of lists": _laughs(),
    "code": compressed(pickle.dumps({"type": "hash", "payload": Harm()})),
    "a name": compressed(b"cos\nsystem\n(S'true'\ntR."),
    "no LZ4": b"\x80\x04N.",
    "a cut frame": compressed(pickle.dumps({"type": "hash"}))[:-9],
    "nothing": b"",
    "a memo of 2**31": compressed(b"\x80\x04Nr\xff\xff\xff\x7f0."),
    "content of 2**60 bytes": compressed(b"\x80\x04\x8e" + (2**60).to_bytes(8, "little") + b"abc."),
    "an array of 2**40 values": compressed(
        pickle.dumps({"type": "datastore", "payload": np.zeros(4)}).replace(b"K\x04\x85", b"K\x04K\x04\x86")
    ),
    "no request": compressed(pickle.dumps([1, 2])),
    "another type": compressed(pickle.dumps({"type": 5})),
    "deep": compressed(b"\x80\x04" + b"]" * 2000 + b"a" * 1999 + b"."),
}


@pytest.mark.parametrize("frame", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_frame_is_refused_and_the_next_request_served(serve, config, frame, caplog):
    store = ListStore()
    serve({"actor": store})
    client = PlainClient(config.port_number, "actor")
    client.socket.send(frame)
    answer = decode_frame(client.socket.recv())
    assert not answer["success"]
    assert "expected" in answer["message"]
    assert not harm
    client.items.append(transition(0))
    assert client.update()["success"]
    assert "expected" in caplog.text


def test_a_bomb_is_not_unpacked(monkeypatch):
    monkeypatch.setattr("serl_agentlace.frames.MAX_CONTENT_BYTES", 2**20)
    with pytest.raises(FrameError, match="at most 1 MiB"):
        decode_frame(_bomb())


@pytest.mark.parametrize(
    "payload",
    [
        None,
        {},
        {"data": 5, "last_id": 0},
        {"data": [1], "last_id": "0"},
        {"data": [1], "last_id": -1},
        {"data": [1, 2], "last_id": 0},
        {"data": [1], "last_id": 2**62},
        {"data": [1], "last_id": True},
    ],
)
def test_a_batch_without_numbers_is_refused(serve, config, payload):
    store = ListStore()
    serve({"actor": store})
    client = PlainClient(config.port_number, "actor")
    assert not client.ask({"type": "datastore", "store_name": "actor", "payload": payload})["success"]
    assert not store.items
    assert "one of actor" in client.ask({"type": "datastore", "store_name": "else", "payload": payload})["message"]


def test_foreign_packets_end_nothing(serve, config):
    serve({"actor": ListStore()})
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.LINGER, 0)
    dealer.connect(f"tcp://127.0.0.1:{config.port_number}")
    for parts in ([b"a"], [b"", b"", b"a"], [b"", b"a", b"b"]):
        dealer.send_multipart(parts)
    assert TrainerClient("actor", "127.0.0.1", config, QueuedDataStore(1), timeout_ms=20_000).update()
    context.destroy(linger=0)


GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)
READY = b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03REQ"


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00" * 1000,
        GREETING[:20],
        GREETING + READY[:9],
        GREETING + READY + b"\x01\x00\x02" + (5000).to_bytes(8, "big") + b"a" * 4000,
        GREETING + READY + b"\x01\x00\x02" + (2**40).to_bytes(8, "big") + b"a" * 4000,
    ],
    ids=["http", "zeros", "half a greeting", "half a command", "half a frame", "a frame of 2**40 bytes"],
)
def test_who_vanishes_in_the_middle_ends_nothing(serve, config, sent):
    store = ListStore()
    serve({"actor": store})
    client = PlainClient(config.port_number, "actor")
    for port in (config.port_number, config.broadcast_port):
        with socket.create_connection(("127.0.0.1", port), 10.0) as stranger:
            stranger.sendall(sent)
    client.items.append(transition(0))
    assert client.update()["success"]
    assert len(store.items) == 1


def test_a_thousand_connections_leave_the_one_that_sends(serve, config):
    store = ListStore()
    server = serve({"actor": store})
    client = PlainClient(config.port_number, "actor")
    client.items += [transition(number) for number in range(5)]
    assert client.update()["success"]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1000 if hard == resource.RLIM_INFINITY else min(1000, (hard - 200) // 2)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * wanted + 200), hard))
    try:
        with ExitStack() as stack:
            context = stack.enter_context(zmq.Context())
            for number in range(wanted):
                if number < MAX_UPLOADS + 10:  # as a client that begins, and never sends anything
                    stranger = stack.enter_context(context.socket(zmq.REQ))
                    stranger.connect(f"tcp://127.0.0.1:{config.port_number}")
                    stranger.send(compressed(pickle.dumps({"type": "hash"})))
                    assert stranger.poll(30_000)
                else:
                    stack.enter_context(socket.create_connection(("127.0.0.1", config.port_number), 10.0))
            client.items.append(transition(5))
            assert client.update()["success"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [number for _, number in numbers(store)] == list(range(6))
    assert len(server.uploads("actor").clients) == MAX_UPLOADS


def test_an_array_that_is_there_often_is_unpacked_once():
    array = np.zeros(2**20, np.float32)
    found = decode_frame(compressed(pickle.dumps([array] * 10_000)))
    assert len(found) == 10_000
    assert all(each is found[0] for each in found)
    found[0] += 1.0


def test_another_request_is_named(serve, config, caplog):
    serve({"actor": ListStore()})
    client = PlainClient(config.port_number, "actor")
    for kind in ("save", "", "x" * 10_000):
        assert client.ask({"type": kind, "payload": {}}) == {"success": False, "message": "Invalid type or payload"}
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3 and max(map(len, lines)) < 300
    assert lines[0] == "requests: expected one of hash, get_last_update_id, datastore, send-stats, found 'save'"


def test_another_configuration_is_named(serve, config):
    serve({"actor": ListStore()})
    config = type(config)(**{**vars(config), "version": "0.0.1"})
    with pytest.raises(AgentlaceError, match=r"version: '0.0.1' here, '0.0.2' there"):
        TrainerClient("actor", "127.0.0.1", config, QueuedDataStore(1), timeout_ms=20_000)


def test_a_port_that_is_taken_and_a_server_that_is_not_there_are_told(serve, config):
    with pytest.raises(AgentlaceError, match=f"127.0.0.1:{config.port_number}: expected a trainer server"):
        TrainerClient("actor", "127.0.0.1", config, QueuedDataStore(1), timeout_ms=50)
    serve({"actor": ListStore()})
    with pytest.raises(AgentlaceError, match=f"port {config.port_number} at 127.0.0.1: expected a free port"):
        TrainerServer(config)


def test_a_server_listens_on_loopback_alone(serve, config):
    server = serve({"actor": ListStore()})
    assert server._requests.getsockopt(zmq.LAST_ENDPOINT).startswith(b"tcp://127.0.0.1:")
    assert server._broadcast.getsockopt(zmq.LAST_ENDPOINT).startswith(b"tcp://127.0.0.1:")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None)
@given(VALUES, st.integers(2, 5))
def test_every_plain_value_arrives_as_any_pickler_wrote_it(value, protocol):
    assert decode_frame(encode_frame(value)) == value
    assert decode_frame(compressed(pickle.dumps(value, protocol=protocol))) == value


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "u1", "i4", "i8", "b1"])
def test_arrays_arrive_as_any_pickler_wrote_them(dtype, protocol):
    for array in (np.ones((2, 3), dtype), np.asfortranarray(np.eye(3, dtype=dtype)), np.zeros((0, 4), dtype)):
        found = decode_frame(compressed(pickle.dumps({"a": array, "b": [array]}, protocol=protocol)))
        np.testing.assert_array_equal(found["a"], array)
        np.testing.assert_array_equal(found["b"][0], array)
        assert found["a"].dtype == array.dtype


def test_nothing_that_would_have_to_be_run_is_sent():
    with pytest.raises(FrameError, match="found a value of type BytesIO"):
        encode_frame({"a": io.BytesIO()})
    with pytest.raises(FrameError, match="deep"):
        nested: list = []
        for _ in range(100):
            nested = [nested]
        encode_frame(nested)


def test_a_taken_port_is_named_with_the_process_that_has_it(serve, config):
    serve({"actor_env": ListStore()})
    with pytest.raises(AgentlaceError, match=rf"port {config.port_number} .* by process {os.getpid()} \("):
        TrainerServer(config)


@pytest.mark.parametrize("limit", ["often", -1, float("nan"), True, [1]])
def test_a_servers_configuration_with_another_limit_is_refused(limit):
    theirs = json.dumps({**json.loads(TrainerConfig().to_json()), "rate_limit": limit})
    with pytest.raises(AgentlaceError, match="rate_limit"):
        parse_config(theirs, "there")
