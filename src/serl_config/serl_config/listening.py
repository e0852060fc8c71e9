# SPDX-License-Identifier: Apache-2.0
"""A socket that listens, and who has a port that is taken."""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serl_config.text import printable

_LISTENS = "0A"  # state of a socket in Linux's tables


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
            why = f": {port_user(port)} uses it, {hint}" if error.errno == errno.EADDRINUSE else ""
            raise PortError(f"cannot listen on {host} port {port}{why} ({error.strerror})") from error
        made.listen()  # before anybody is told of it
        yield made


def port_user(port: int) -> str:
    """Who listens at a TCP port of this machine, as "process 123 (its command line)".

    Returns:
        "another program" where the system does not say: it is another user's, or in another container.
    """
    sockets = {f"socket:[{number}]" for number in _sockets_at(port)}
    for folder in Path("/proc").glob("[0-9]*") if sockets else ():
        try:
            if any(str(each.readlink()) in sockets for each in (folder / "fd").iterdir()):
                words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                return f"process {folder.name} ({printable(words)[:120]})"
        except OSError:  # it has ended, or is another user's
            continue
    return "another program"


def _sockets_at(port: int) -> set[str]:
    """Numbers of the sockets that listen at a port."""
    found: set[str] = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        try:
            rows = [line.split() for line in table.read_text().splitlines()[1:]]
        except OSError:
            continue
        found |= {row[9] for row in rows if row[3] == _LISTENS and int(row[1].rpartition(":")[2], 16) == port}
    return found
