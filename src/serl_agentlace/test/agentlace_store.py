# SPDX-License-Identifier: Apache-2.0
"""A store of the tests."""

from collections.abc import Callable

from serl_agentlace import DataStoreBase


class ListStore(DataStoreBase):
    """Keeps everything; refuses what it is told to refuse."""

    def __init__(self, refuse: Callable[[object], bool] = lambda item: False) -> None:
        super().__init__(10**6)
        self.items: list[object] = []
        self.refuse = refuse

    def insert(self, data: object) -> None:
        """Add an item. Raises KeyError for one that it is told to refuse."""
        if self.refuse(data):
            raise KeyError("next_observations")
        self.items.append(data)

    def latest_data_id(self) -> int:
        """Id of the newest item."""
        return len(self.items) - 1

    def get_latest_data(self, from_id: int) -> list[object]:
        """The items behind an id."""
        return self.items[from_id + 1 :]

    def __len__(self) -> int:
        return len(self.items)
