# SPDX-License-Identifier: Apache-2.0
"""Requests to servers that answer well, badly, slowly, or not at all."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from serl_drivers.serl_server.transport import ANSWER_LIMIT, Transport, TransportError

TIMEOUT = 0.4
PATIENCE = 60.0  # [s] with a server that answers, on a busy machine


@contextlib.contextmanager
def server(*answers: bytes, drip: float = 0.0, hang_up: bool = False) -> Iterator[int]:
    """Answers each request of a connection with the next of `answers`, a byte every `drip` seconds; then is silent."""
    listening = socket.create_server(("127.0.0.1", 0))
    end, left = threading.Event(), list(answers)

    def serve() -> None:
        while not end.is_set():
            with contextlib.suppress(OSError):
                connection, _ = listening.accept()
                with connection:
                    while connection.recv(65536) and left:
                        answer = left.pop(0)
                        for index in range(0, len(answer), 1 if drip else len(answer)):
                            connection.sendall(answer[index : index + 1] if drip else answer)
                            if end.wait(drip):
                                return
                        if hang_up:
                            break
                    else:
                        end.wait()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        end.set()
        with contextlib.suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(30.0)


def reply(content: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\n{headers}\r\n".encode() + content


def ask(port: int, path: str = "/getstate", timeout: float = PATIENCE) -> dict[str, object]:
    transport = Transport("127.0.0.1", port, timeout)
    try:
        return transport.post_for_json(path)
    finally:
        transport.close()


def test_an_answer_is_read():
    with server(reply(b'{"q": [1.5]}')) as port:
        assert ask(port) == {"q": [1.5]}


def test_a_connection_that_the_server_has_closed_meanwhile_is_made_again():
    with server(reply(b'{"q": 1}'), reply(b'{"q": 2}'), hang_up=True) as port:
        transport = Transport("127.0.0.1", port, PATIENCE)
        assert [transport.post_for_json("/getq")["q"] for _ in range(2)] == [1, 2]
        transport.close()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (reply(b"", "500 INTERNAL SERVER ERROR"), "the server answers 500 INTERNAL SERVER ERROR; its own log"),
        (reply(b"", "404 NOT FOUND"), "404 NOT FOUND"),
        (reply(b"<html>router</html>"), "is that a robot server of SERL"),
        (reply(b"[1, 2]"), "expected an object of JSON, found list"),
        (reply(b'{"q": NaN}'), "NaN"),
        (reply(b'{"q": 1, "q": 2}'), "twice"),
        (reply(b"[" * 100 + b"]" * 100), "nested"),
        (reply(b"1" * (ANSWER_LIMIT + 1)), f"at most {ANSWER_LIMIT} bytes"),
        (reply(b"1" * 9)[:-4], "no answer within"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "BadStatusLine"),
        (b"\x00\xff" * 40 + b"\r\n", "BadStatusLine"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", "more than 100 headers"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70000, "header line"),
    ],
)
def test_what_is_no_answer_is_refused_and_named(answer, said):
    with server(answer) as port, pytest.raises(TransportError, match=said) as raised:
        ask(port, timeout=TIMEOUT if said == "no answer within" else PATIENCE)
    assert "\n" not in str(raised.value)


def test_a_server_that_sends_a_byte_now_and_then_holds_nobody_up():
    start = time.monotonic()
    with server(reply(b'{"q": 1}' * 40), drip=0.05) as port:
        with pytest.raises(TransportError, match="no answer within"):
            ask(port, timeout=TIMEOUT)
        assert time.monotonic() - start < 15.0, "the whole answer would take 20 s"


def test_nobody_there_is_said():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(TransportError, match="nobody listens there"):
        ask(port)


def test_a_host_that_there_is_not_is_said():
    with pytest.raises(TransportError, match="no such host"):
        Transport("robot.invalid", 5000, TIMEOUT).post("/getq")
