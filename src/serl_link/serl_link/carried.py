# SPDX-License-Identifier: Apache-2.0
"""What crosses the link, and nothing else does: transitions, policies and metrics; never a command of the arm."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from hashlib import sha256

MIB = 2**20
WIRE = "serl/1"
"""What the names on the wire begin with; the number is that of this module's contents."""


@dataclass(frozen=True)
class Carried:
    """A topic or service that crosses the link, in one direction."""

    name: str
    """Relative ROS name."""
    type: str
    """Full name of the interface."""
    most_bytes: int
    """Limit of a message, or of a request or response, as CDR [bytes]."""


INSERT = Carried("learner/insert", "serl_interfaces/srv/InsertTransitions", 64 * MIB)
"""The service of the learner that the actor calls."""

POLICY = Carried("learner/policy", "serl_interfaces/msg/PolicyParameters", 64 * MIB)
"""The learner's topic, of which the newest message counts."""

METRICS = Carried("metrics", "serl_interfaces/msg/Metrics", MIB)
"""Numbers of both sides, each of which the other one hears."""

MOST_BYTES = 65 * MIB
"""Most bytes of a message that arrives; a larger one is refused before it is looked at."""


class LinkError(ValueError):
    """The link was given something that it cannot use."""


class LinkRefusal(LinkError):
    """The other side has answered that it does not take something, for what it is."""


class LinkLater(LinkError):
    """The other side has answered that it cannot take something now: no learner is there, or a fault of its own."""


LATER = "not now: "
"""What such an answer begins with."""


def wire_name(topic: str, what: str = "") -> str:
    """Name on the wire of a ROS name.

    Args:
        topic: absolute.
        what: a part of it, as `state`.
    """
    return f"{WIRE}{topic}" + (f"/@{what}" if what else "")


def digest(data: bytes) -> bytes:
    """What tells two messages apart, 16 bytes; none for no message."""
    return sha256(data).digest()[:16] if data else b""


def endpoint(text: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`, with an IPv6 address in brackets.

    Raises:
        LinkError: it is something else.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdecimal() and 0 < int(port) < 2**16):
        raise LinkError(f"link: expected HOST:PORT of the learner's machine, found {text[:80]!r}")
    return host, int(port)


class Echo:
    """Tells a message that was brought here over the link from one that somebody on this machine has sent."""

    def __init__(self, most: int = 256) -> None:
        """Remember the newest `most` messages."""
        self._brought: deque[bytes] = deque(maxlen=most)
        self._lock = threading.Lock()  # what is brought comes in a thread of its own

    def brought(self, data: bytes) -> None:
        """Note a message that is about to be published here."""
        with self._lock:
            self._brought.append(digest(data))

    def is_own(self, data: bytes) -> bool:
        """Whether a message that is heard was brought here; each is told once."""
        with self._lock:
            try:
                self._brought.remove(digest(data))  # one of them: equal messages are brought, too
            except ValueError:
                return False
        return True
