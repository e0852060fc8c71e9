# SPDX-License-Identifier: Apache-2.0
"""Requests to a robot server by HTTP, each with a time and a size that its answer may take."""

from __future__ import annotations

import http.client
import json
import socket
import time
from typing import Any, Final

from serl_config.strict_json import JsonError, parse_json
from serl_config.text import printable

ANSWER_LIMIT: Final = 65536
"""Largest answer [bytes]; a state is one of 1.5 KiB."""


class TransportError(Exception):
    """A request has no answer that can be used. The message is one line without the address."""


class Transport:
    """One connection, which is kept open where the server allows it. Used by one thread."""

    def __init__(self, host: str, port: int, timeout: float) -> None:
        """Name the server; nothing is sent.

        Args:
            host: its name or address.
            port: at which it listens.
            timeout: time that a request may take with its answer, from its first byte to its last [s].
        """
        self._host, self._port, self._timeout = host, port, timeout
        self._connection: _Connection | None = None

    def post(self, path: str, values: object | None = None) -> bytes:
        """Send a request and return its answer.

        An answer that does not come because the server has closed a connection that was kept open is asked for once
        more: each of the server's end points may be told the same twice.

        Args:
            path: end point, `/getstate`.
            values: that are sent as JSON.

        Raises:
            TransportError: no connection, no answer in time, an answer that says that something is wrong, or a large
                one.
        """
        deadline = time.monotonic() + self._timeout
        kept = self._connection is not None
        try:
            return self._ask(path, values, deadline)
        except (http.client.RemoteDisconnected, ConnectionError, BrokenPipeError) as error:
            self.close()
            if not kept:
                raise self._said(path, error) from error
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._said(path, error) from error
        try:
            return self._ask(path, values, deadline)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._said(path, error) from error

    def post_for_json(self, path: str, values: object | None = None) -> dict[str, Any]:
        """Send a request, and return the object of JSON that answers it.

        Raises:
            TransportError: as `post`, or the answer is none.
        """
        answer = self.post(path, values)
        try:
            tree = parse_json(answer, size=ANSWER_LIMIT, depth=4)
        except JsonError as error:
            raise TransportError(f"{path}: {error}; is that a robot server of SERL?") from error
        if not isinstance(tree, dict):
            raise TransportError(f"{path}: expected an object of JSON, found {type(tree).__name__}")
        return tree

    def close(self) -> None:
        """Hang up. The next request connects again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, path: str, values: object | None, deadline: float) -> bytes:
        if self._connection is None:
            self._connection = _Connection(self._host, self._port)
        connection = self._connection
        connection.deadline = deadline
        body = None if values is None else json.dumps(values, allow_nan=False).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        content = answer.read(ANSWER_LIMIT + 1)
        if len(content) > ANSWER_LIMIT:
            self.close()
            raise TransportError(f"{path}: expected an answer of at most {ANSWER_LIMIT} bytes, found a longer one")
        if answer.will_close:
            self.close()
        if answer.status != http.client.OK:
            reason = printable(answer.reason, 80)
            raise TransportError(f"{path}: the server answers {answer.status} {reason}; its own log says why")
        return content

    def _said(self, path: str, error: Exception) -> TransportError:
        if isinstance(error, TimeoutError):
            return TransportError(f"{path}: no answer within {self._timeout:g} s")
        if isinstance(error, ConnectionRefusedError):
            return TransportError(
                "nobody listens there; is franka_server.py running, and with --flask_url of its host?"
            )
        if isinstance(error, socket.gaierror):
            return TransportError(f"no such host: {error.strerror}")
        return TransportError(f"{path}: {type(error).__name__} {printable(error, 120)}".rstrip())


class _DeadlineSocket(socket.socket):
    """Whose every operation has to be over at a time: a server that sends a byte now and then holds nobody up."""

    deadline = 0.0

    def _limit(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0.0:
            raise TimeoutError("timed out")
        self.settimeout(left)

    def recv_into(self, *arguments: Any, **named: Any) -> int:
        self._limit()
        return super().recv_into(*arguments, **named)

    def sendall(self, *arguments: Any, **named: Any) -> None:
        self._limit()
        super().sendall(*arguments, **named)


class _Connection(http.client.HTTPConnection):
    deadline = 0.0
    _limited: _DeadlineSocket | None = None

    def connect(self) -> None:
        left = max(self.deadline - time.monotonic(), 1e-3)
        plain = socket.create_connection((self.host, self.port), left)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = self._limited = _DeadlineSocket(fileno=plain.detach())
        self._limited.deadline = self.deadline

    def request(self, *arguments: Any, **named: Any) -> None:
        if self._limited is not None:
            self._limited.deadline = self.deadline
        super().request(*arguments, **named)
