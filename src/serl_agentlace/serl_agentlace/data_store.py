# SPDX-License-Identifier: Apache-2.0
"""Data stores, as agentlace has them: a client's is sent, a server's is filled."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Any


class DataStoreBase:
    """A store of items with ids that count up from 0."""

    def __init__(self, capacity: int) -> None:
        """Hold so many items at most."""
        self.capacity = capacity

    @abstractmethod
    def latest_data_id(self) -> int:
        """Id of the newest item, -1 where there was none."""

    @abstractmethod
    def get_latest_data(self, from_id: int) -> list[Any]:
        """The items behind an id, as far as the store has them still."""

    @abstractmethod
    def __len__(self) -> int:
        """How many items it holds."""

    @abstractmethod
    def insert(self, data: Any) -> None:
        """Add an item."""

    def batch_insert(self, batch_data: Sequence[Any]) -> None:
        """Add items, one by one unless a store knows better."""
        for data in batch_data:
            self.insert(data)


class QueuedDataStore(DataStoreBase):
    """A queue of the newest items, for any thread."""

    def __init__(self, capacity: int) -> None:
        """Hold so many items at most: older ones fall out, whether they were sent or not."""
        super().__init__(capacity)
        self._items: deque[Any] = deque(maxlen=capacity)
        self._latest = -1
        self._lock = threading.Lock()

    def latest_data_id(self) -> int:
        """Id of the newest item, -1 where there was none."""
        return self._latest

    def insert(self, data: Any) -> None:
        """Add an item."""
        with self._lock:
            self._latest += 1
            self._items.append(data)

    def data_after(self, from_id: int) -> tuple[list[Any], int]:
        """The items behind an id, and the id of the last of them, which belong together."""
        with self._lock:
            first = self._latest + 1 - len(self._items)
            return list(self._items)[max(0, from_id + 1 - first) :], self._latest

    def get_latest_data(self, from_id: int) -> list[Any]:
        """The items behind an id, as far as the store has them still."""
        return self.data_after(from_id)[0]

    def __len__(self) -> int:
        return len(self._items)


def items_after(store: DataStoreBase, from_id: int) -> tuple[list[Any], int]:
    """The items of any store behind an id, and the id of the last of them.

    A store that only has agentlace's two calls is asked until nothing was added in between.
    """
    if isinstance(store, QueuedDataStore):
        return store.data_after(from_id)
    while True:
        before = store.latest_data_id()
        items = store.get_latest_data(from_id)
        if store.latest_data_id() == before:
            return items, before
