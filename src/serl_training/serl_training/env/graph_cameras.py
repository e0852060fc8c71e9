# SPDX-License-Identifier: Apache-2.0
"""The pictures of a task's cameras, as they come from their topics, whoever publishes them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image
from serl_ros.arrays import from_array
from serl_ros.images import ImageError, rgb_from_message
from serl_ros.incoming import subscribe
from serl_ros.log import WARN, log
from serl_ros.qos import SENSOR
from serl_tasks.camera_view import CameraView
from serl_tasks.messages import MessageError, nanoseconds

Transport = Literal["raw", "compressed"]

_OTHER_CLOCK_NS = 30_000_000_000  # further apart than clocks of machines that somebody set
_ODD_ENOUGH = 3  # pictures in a row; a simulation may begin at zero


class CameraError(RuntimeError):
    """A camera sends what cannot be used: names its topic, what was expected and what was found."""


@dataclass
class _Camera:
    """One camera and its newest picture."""

    view: CameraView
    topic: str
    message: Any = None
    stamp_ns: int = -1
    moment_ns: int = -1  # the stamp, or where it tells nothing the node's time of arrival
    received: float = field(default=-np.inf)  # local time [s]
    problem: str = ""  # with the stamps
    odd: int = 0  # pictures in a row with the problem

    def take(self, message: Any, received: float, now_ns: int, own_clock: bool) -> None:
        """Make a message the newest one, received at this local time [s] and node's time [ns]."""
        stamp_ns = nanoseconds(message.header.stamp)
        # A picture that comes again is no newer than it was; a stamp that is zero or stands still does not tell.
        stands = stamp_ns == self.stamp_ns
        silent = stamp_ns == 0 or (stands and not _same(message, self.message))
        if silent or not stands:
            self.received = received
            self.moment_ns = now_ns if silent else stamp_ns
            self._note(stamp_ns, now_ns if own_clock else 0, silent)
        self.message, self.stamp_ns = message, stamp_ns

    def _note(self, stamp_ns: int, now_ns: int, silent: bool) -> None:
        apart = abs(stamp_ns - now_ns)
        if stamp_ns == 0:
            problem = "its stamps are zero"
        elif silent:
            problem = f"its stamps stand still at {stamp_ns / 1e9:.3f} s"
        elif now_ns and apart > _OTHER_CLOCK_NS:
            problem = f"its stamps are of another clock, {apart / 1e9:.0f} s from ours"
        else:
            problem = ""
        self.odd = self.odd + 1 if problem else 0
        self.problem = problem if self.odd >= _ODD_ENOUGH else ""


def _same(a: Any, b: Any) -> bool:
    return np.array_equal(from_array(a.data), from_array(b.data))


class CameraInputs:
    """Subscribes to the cameras of a task and keeps the newest picture of each."""

    def __init__(
        self,
        node: Node,
        views: Mapping[str, CameraView],
        transport: Transport = "raw",
        on_picture: Callable[[], None] = lambda: None,
        *,
        own_clock: bool = True,
        local_time: Callable[[], float] = time.monotonic,
    ) -> None:
        """Subscribe to `<camera>/color/image_raw`, or with `transport` compressed to `.../compressed`.

        Args:
            node: that subscribes.
            views: what is seen of each camera, by its name.
            transport: which of the camera's topics.
            on_picture: called for each picture that comes, also for one that comes again.
            own_clock: whether stamps are of the node's clock. They need not be where they are compared with each other
                alone, as in lockstep.
            local_time: tells the time [s] by which pictures grow old.
        """
        self._local_time = local_time
        self._node = node
        self._own_clock = own_clock
        self._on_picture = on_picture
        suffix, kind = ("", Image) if transport == "raw" else ("/compressed", CompressedImage)
        self._cameras = {name: _Camera(view, f"{name}/color/image_raw{suffix}") for name, view in views.items()}
        self._subscriptions = [
            subscribe(node, kind, camera.topic, self._listener(camera), SENSOR, MessageError)
            for camera in self._cameras.values()
        ]

    def _listener(self, camera: _Camera) -> Any:
        def on_image(message: Any) -> None:
            known = camera.problem
            camera.take(message, self._local_time(), self._node.get_clock().now().nanoseconds, self._own_clock)
            if camera.problem and not known:
                use = "its pictures are used as they arrive; lockstep and reward from several cameras need stamps"
                log(self._node, WARN, f"{camera.topic}: {camera.problem}: {use}")
            self._on_picture()

        return on_image

    @property
    def stamps(self) -> dict[str, int]:
        """Stamp of the newest picture of each camera [ns]; -1 while there is none.

        Where a camera's stamps are zero or stand still it is the node's time at which the picture arrived.
        """
        return {name: camera.moment_ns for name, camera in self._cameras.items()}

    def problems(self) -> list[str]:
        """Topics of the cameras whose stamps tell nothing, and why."""
        return [f"{camera.topic}: {camera.problem}" for camera in self._cameras.values() if camera.problem]

    def have(self, stamp_ns: int) -> bool:
        """Whether the newest picture of every camera has this stamp."""
        return all(camera.stamp_ns == stamp_ns for camera in self._cameras.values())

    def newest_stamp(self) -> int | None:
        """Stamp [ns] of the newest pictures, None unless all cameras have the same."""
        stamps = {camera.stamp_ns for camera in self._cameras.values()}
        return stamps.pop() if len(stamps) == 1 and -1 not in stamps else None

    def are_fresh(self, max_age: float) -> bool:
        """Whether no newest picture is older than `max_age` [s], by the time of its arrival."""
        oldest = self._local_time() - max_age
        return all(camera.received >= oldest for camera in self._cameras.values())

    def without(self, stamp_ns: int) -> list[str]:
        """Topics whose newest picture has another stamp, and what is wrong with their stamps where something is."""
        return [
            f"{camera.topic} ({camera.problem})" if camera.problem else camera.topic
            for camera in self._cameras.values()
            if camera.stamp_ns != stamp_ns
        ]

    def stale(self, max_age: float) -> list[str]:
        """Topics whose newest picture is older than `max_age` [s], with its age."""
        now = self._local_time()
        ages = {camera.topic: now - camera.received for camera in self._cameras.values()}
        return [
            f"{topic} (no picture yet)" if np.isinf(age) else f"{topic} (newest picture is {age:.1f} s old)"
            for topic, age in ages.items()
            if age > max_age
        ]

    def pictures(self) -> dict[str, NDArray[np.uint8]]:
        """What the task sees of the newest pictures, uint8 (H, W, 3) by camera. May be views of the messages.

        Raises:
            CameraError: a message holds no picture.
        """
        return {name: self._picture(camera) for name, camera in self._cameras.items()}

    def _picture(self, camera: _Camera) -> NDArray[np.uint8]:
        try:
            return camera.view.apply(rgb_from_message(camera.message))
        except ImageError as error:
            raise CameraError(f"{camera.topic}: {error}") from error
