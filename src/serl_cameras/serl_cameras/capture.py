# SPDX-License-Identifier: Apache-2.0
"""Reads a source in a thread of its own, and opens it again when it is lost."""

import threading
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo

from serl_cameras.health import Health, Limits, Report
from serl_cameras.sources.source import Source, SourceError

_FIRST_DELAY = 0.25  # [s] until a lost source is tried again; doubles with each failure
_STOP_TIMEOUT = 3.0  # [s] that a source may take to give its last picture

OnPicture = Callable[[NDArray[np.uint8], CameraInfo | None], None]


class Capture:
    """One camera that is read for ever."""

    def __init__(
        self,
        source: Source,
        limits: Limits,
        on_picture: OnPicture,
        *,
        size: tuple[int, int] | None,
        longest_delay: float,
    ) -> None:
        """Prepare; `start` begins.

        Args:
            source: that is read.
            limits: when it is no longer trusted.
            on_picture: called in the capture's thread with each picture that can be trusted, and with the intrinsics
                that the source knows.
            size: width and height that every picture must have [pixels]; None: those of the first one.
            longest_delay: until a lost source is tried again [s].
        """
        self._source = source
        self._on_picture = on_picture
        self._size = size
        self._longest_delay = longest_delay
        self._health = Health(limits, time.monotonic())
        self._stop = threading.Event()
        self._error: BaseException | None = None
        # A daemon: a driver that hangs must not keep the process from its end.
        self._thread = threading.Thread(target=self._run_and_keep_error, name="capture", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """End; no picture comes after this."""
        self._stop.set()
        self._thread.join(_STOP_TIMEOUT)

    def report(self) -> Report:
        """State of the camera at this moment.

        Raises:
            Exception: what `on_picture` raised, which has ended the capture.
        """
        if self._error is not None:
            raise self._error
        return self._health.report(time.monotonic())

    def _run_and_keep_error(self) -> None:
        try:
            self._run()
        except Exception as error:  # noqa: BLE001 - raised again by report(), in the thread that can end the process
            self._error = error

    def _run(self) -> None:
        delay = _FIRST_DELAY
        while not self._stop.is_set():
            try:
                try:
                    info = self._source.open()
                    self._health.opened(time.monotonic())
                    while not self._stop.is_set():
                        self._take(self._source.read(), info)
                        delay = _FIRST_DELAY
                finally:
                    self._source.close()
            except SourceError as error:
                now = time.monotonic()
                self._health.lost(str(error), now, now + delay)
            if self._stop.wait(delay):
                return
            delay = min(2.0 * delay, self._longest_delay)

    def _take(self, picture: NDArray[np.uint8], info: CameraInfo | None) -> None:
        size = (picture.shape[1], picture.shape[0])
        self._size = self._size or size
        if size != self._size:
            raise SourceError(f"expected pictures of {self._size[0]}x{self._size[1]}, found {size[0]}x{size[1]}")
        if self._health.arrived(picture, time.monotonic()) and not self._stop.is_set():
            self._on_picture(picture, info)
