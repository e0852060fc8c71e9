# SPDX-License-Identifier: Apache-2.0
"""Who has sent what: each client of a data store by itself, also where it does not say who it is.

agentlace's clients have no identity. A server that keeps one number for each store forgets items when an actor is
started again, whose numbers begin anew, and mixes up two actors. Here each connection is told apart:

- a client that begins asks for the configuration first, so what comes from its connection starts at item 0;
- a client whose connection was lost goes on with another one, and does not begin. It is asked once more for the last
  item that was known of a client it may be: if it sends the same, it is that one; if it has none, or another, the next
  one is tried; and who is none of those is asked for everything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

MAX_UPLOADS: Final = 64
"""Clients of a store that are remembered; then one that never sent anything is forgotten, or who was silent longest."""


@dataclass
class Upload:
    """What is known of one client of a store.

    Attributes:
        number: of the client, from 0 in the order in which they came.
        last_id: id of the newest item that was taken, -1 before the first.
        digest: of that item.
        peer: connection from which it came last.
        lost: items that had fallen out of the client's own queue before they were sent.
    """

    number: int
    last_id: int = -1
    digest: str = ""
    peer: bytes = b""
    lost: int = 0


@dataclass(frozen=True)
class Taken:
    """What of a batch is new.

    Attributes:
        upload: whose it is; None while that is not known.
        items: the new ones, in order.
        note: what somebody should know, empty if nothing.
    """

    upload: Upload | None
    items: Sequence[Any] = ()
    note: str = ""


@dataclass
class Uploads:
    """The clients of one store, the one that was heard last at the end."""

    clients: list[Upload] = field(default_factory=list)
    count: int = 0
    _asked: dict[bytes, list[Upload]] = field(default_factory=dict)
    """Clients that may be at a connection that is not known, first the one whose last item was asked for."""

    def begin(self, peer: bytes) -> None:
        """A client begins at this connection: its items are counted from 0."""
        self._asked.pop(peer, None)
        self._add(peer)

    def next_after(self, peer: bytes) -> int:
        """Id behind which the client at a connection shall send its items."""
        if (upload := self._of(peer)) is not None:
            return upload.last_id
        if peer in self._asked:  # it was asked before, and had nothing: that one it is not
            self._asked[peer] = self._asked[peer][1:]
        else:
            while len(self._asked) >= MAX_UPLOADS:
                self._asked.pop(next(iter(self._asked)))
            self._asked[peer] = [each for each in reversed(self.clients) if each.last_id >= 0]
        return self._asked[peer][0].last_id - 1 if self._asked[peer] else -1

    def take(self, peer: bytes, items: Sequence[Any], last_id: int) -> Taken:
        """Take what is new of the items that came by a connection, of which the last one has the id `last_id`.

        The caller stores the items, and calls `done` when they are stored.
        """
        first = last_id - len(items) + 1
        upload = self._of(peer)
        if upload is None:
            upload = self._recognized(items, first)
            candidates = self._asked.get(peer, [])
            if upload is None and first > 0 and candidates:
                return Taken(None, (), "a client that is not known yet: it is asked for what it sent before")
            self._asked.pop(peer, None)
            if upload is None:
                upload = self._add(peer)
            upload.peer = peer
        self.clients.remove(upload)
        self.clients.append(upload)
        new = items[max(0, upload.last_id + 1 - first) :]
        gap = first - upload.last_id - 1
        if gap > 0:
            upload.lost += gap
            return Taken(upload, new, f"{gap} items had fallen out of the client's own queue before they were sent")
        return Taken(upload, new)

    def done(self, taken: Taken, last_id: int) -> None:
        """What was taken is stored: it is not asked for again."""
        upload = taken.upload
        if upload is not None and taken.items:
            upload.last_id = max(upload.last_id, last_id)
            upload.digest = digest(taken.items[-1])

    def _of(self, peer: bytes) -> Upload | None:
        return next((each for each in self.clients if each.peer == peer), None)

    def _recognized(self, items: Sequence[Any], first: int) -> Upload | None:
        digests: dict[int, str] = {}
        for upload in reversed(self.clients):
            place = upload.last_id - first
            if upload.last_id < 0 or not 0 <= place < len(items):
                continue
            if place not in digests:
                digests[place] = digest(items[place])
            if digests[place] == upload.digest:
                return upload
        return None

    def _add(self, peer: bytes) -> Upload:
        self.clients = [each for each in self.clients if each.peer != peer or each.last_id >= 0]
        for each in self.clients:  # a process that has begun again at the same connection is another client
            if each.peer == peer:
                each.peer = b""
        upload = Upload(self.count, peer=peer)
        self.count += 1
        if len(self.clients) >= MAX_UPLOADS:
            self.clients.remove(next((each for each in self.clients if each.last_id < 0), self.clients[0]))
        self.clients = [*self.clients, upload]
        return upload

    def to_json(self) -> dict[str, Any]:
        """What has to be remembered when the server is started again."""
        return {
            "count": self.count,
            "clients": [
                {"number": each.number, "last_id": each.last_id, "digest": each.digest, "lost": each.lost}
                for each in self.clients
                if each.last_id >= 0
            ],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Uploads:
        """What `to_json` gave. Raises KeyError, TypeError or ValueError where it is something else."""
        clients = [
            Upload(int(each["number"]), int(each["last_id"]), str(each["digest"]), lost=int(each["lost"]))
            for each in value["clients"]
        ]
        return cls(clients[-MAX_UPLOADS:], int(value["count"]))


def digest(item: Any) -> str:
    """A number by which an item is recognized, the same in every process."""
    value = hashlib.blake2b(digest_size=16)
    waiting = [item]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Mapping):
            for name in sorted(each, key=str):
                waiting += [each[name], str(name)]
        elif isinstance(each, list | tuple):
            waiting += each
        elif isinstance(each, np.ndarray | np.generic):
            array = np.ascontiguousarray(each)
            value.update(f"{array.dtype.str}{array.shape}".encode())
            value.update(array.reshape(-1).view(np.uint8).data if array.size else b"")
        else:
            value.update(f"{type(each).__name__}{each!r}".encode())
    return value.hexdigest()
