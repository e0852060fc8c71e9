# SPDX-License-Identifier: Apache-2.0
"""Keeps other web pages away from a page that a program of ours serves to the person who started it.

A browser sends on what any page asks it to. A page elsewhere could give our address a name of its own (DNS rebinding):
then `Host` has that name. It could post to us: then `Origin` is its own address and not ours. Both are refused.
"""

import ipaddress
import socket
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web

from serl_config.text import printable

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class OwnPage:
    """Middleware of an application that listens on one address.

    Args:
        listens_on: address or name that it listens on; on all of them with 0.0.0.0 or ::.
    """

    def __init__(self, listens_on: str) -> None:
        self._names = {"localhost", listens_on.lower()}
        address = _address(listens_on)
        self._everywhere = address is not None and address.is_unspecified
        if address is None or not address.is_loopback:
            self._names |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    def is_ours(self, host: str) -> bool:
        """Whether a `Host` header means us, with whatever port: it may be that of a tunnel."""
        try:
            parts = urlsplit(f"//{host}")
            name, _ = parts.hostname, parts.port
        except ValueError:
            return False
        if name is None or parts.netloc != host or "@" in host:
            return False
        address = _address(name)
        if address is not None:  # nobody else can give a name to a bare address
            return self._everywhere or address.is_loopback or name in self._names
        return name.removesuffix(".") in self._names

    @web.middleware
    async def middleware(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Answer 421 for a foreign Host, 403 for a foreign page; hand all else on."""
        hosts = request.headers.getall("Host", [])
        if len(hosts) != 1 or not self.is_ours(hosts[0]):
            shown = printable(", ".join(hosts), 80) or "none"
            raise web.HTTPMisdirectedRequest(
                text=f"Host: expected localhost or the address of this page, found {shown}"
            )
        origin = request.headers.get("Origin")
        site = request.headers.get("Sec-Fetch-Site", "none")
        if origin not in (None, f"http://{hosts[0]}") or site not in ("same-origin", "none"):
            found = origin if origin is not None else f"a {site} request"
            raise web.HTTPForbidden(text=f"Origin: expected http://{hosts[0]}, found {printable(found, 80)}")
        return await handler(request)


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
