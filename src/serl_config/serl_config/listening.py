# SPDX-License-Identifier: Apache-2.0
"""A socket that listens, for what serves a page."""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager


class PortError(OSError):
    """Nothing can listen where it should."""


@contextmanager
def listening(host: str, port: int, *, hint: str = "choose another port") -> Iterator[socket.socket]:
    """A socket that listens on an address; on any free port with 0.

    Args:
        host: address or name.
        port: to listen on.
        hint: what to do where another program uses it.

    Raises:
        PortError: another program does already, or there is no such address here.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((host, port))
        except OSError as error:
            why = f": another program uses it, {hint}" if error.errno == errno.EADDRINUSE else ""
            raise PortError(f"cannot listen on {host} port {port}{why} ({error.strerror})") from error
        made.listen()  # before anybody is told of it
        yield made
