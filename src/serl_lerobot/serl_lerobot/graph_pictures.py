# SPDX-License-Identifier: Apache-2.0
"""The newest picture of a camera of the running graph, for whoever is not part of it."""

from __future__ import annotations

import threading
import time
from typing import Any

from numpy.typing import NDArray
from serl_tasks.camera_view import CameraView
from serl_training.env.graph_cameras import CameraInputs
from serl_training.env.graph_connection import GraphConnection, GraphError


class GraphPictures:
    """Subscribes to one camera, in a thread of its own."""

    def __init__(self, camera: str, namespace: str, size: tuple[int, int]) -> None:
        """Subscribe to `<camera>/color/image_raw`; pictures get `size`, width and height [pixels].

        Raises:
            ValueError: the namespace is none.
        """
        self._connection = GraphConnection(None, None, namespace, lambda: None)
        self._camera, self._changed = camera, threading.Condition()
        self._count = self._taken = 0
        self._at = -float("inf")
        self._ended = False
        views = {camera: CameraView(size=size)}
        self._inputs = CameraInputs(self._connection.node, views, on_picture=self._on_picture, own_clock=False)
        self._thread = threading.Thread(target=self._spin, name=f"pictures of {camera}", daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        while not self._ended:
            self._connection.executor.spin_until(lambda: self._ended, 0.2)

    def _on_picture(self) -> None:
        with self._changed:
            self._count, self._at = self._count + 1, time.monotonic()
            self._changed.notify_all()

    def newest(self, largest_age: float) -> NDArray[Any]:
        """The newest picture, uint8 RGB (H, W, 3), no older than this [s].

        Raises:
            GraphError: there is none, it is older, or no picture.
        """
        with self._changed:
            age = time.monotonic() - self._at
            if age > largest_age:
                known = f"found one {age:.2f} s old" if self._count else "found none"
                raise GraphError(f"{self._camera}: expected a picture of the last {largest_age:g} s, {known}")
            self._taken = self._count
            return self._inputs.pictures()[self._camera]

    def next(self, timeout: float) -> NDArray[Any]:
        """A picture that was not asked for yet, uint8 RGB (H, W, 3).

        Raises:
            GraphError: none came within `timeout` [s].
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._count > self._taken, timeout):
                raise GraphError(f"{self._camera}: expected a picture within {timeout:g} s, found none")
            self._taken = self._count
            return self._inputs.pictures()[self._camera]

    def close(self) -> None:
        """Leave the graph."""
        self._ended = True
        self._thread.join(timeout=2.0)
        self._connection.close()
