# SPDX-License-Identifier: Apache-2.0
"""A video or a folder of pictures in the place of a camera, again and again from the beginning."""

import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from serl_config.files import FileError, open_file, read_bytes
from serl_config.pictures import PIXEL_LIMIT, PictureError, check_picture
from serl_config.text import printable

from serl_cameras.sources.source import SourceError, SourceSettings, SourceSettingsError

_LARGEST_PICTURE = 2**27  # [bytes]
PICTURES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


class FileSource:
    """Pictures of a file, at the rate that was asked for."""

    def __init__(self, settings: SourceSettings) -> None:
        """Look at the file.

        Raises:
            SourceSettingsError: there is none, or not one picture in it.
        """
        self._path = Path(settings.path).expanduser()
        self._period = 1.0 / settings.framerate
        self._pictures: Iterator[NDArray[np.uint8]] = iter(())
        self._due = 0.0
        if not settings.path or not self._path.exists():
            raise SourceSettingsError(
                f"path: expected a video file or a folder of pictures, found '{printable(settings.path)}'"
            )
        try:
            next(self._once())
        except SourceError as error:
            raise SourceSettingsError(f"path: {error}") from error

    def open(self) -> None:
        """See `Source`."""
        self._pictures = self._for_ever()
        self._due = time.monotonic()

    def read(self) -> NDArray[np.uint8]:
        """See `Source`."""
        picture = next(self._pictures, None)
        if picture is None:
            raise SourceError(f"{printable(self._path)}: is not open")
        now = time.monotonic()
        if self._due > now:
            time.sleep(self._due - now)
        # What is late stays late: a file must not be played faster to catch up.
        self._due = max(self._due, now) + self._period
        return picture

    def close(self) -> None:
        """See `Source`."""
        self._pictures = iter(())

    def _for_ever(self) -> Iterator[NDArray[np.uint8]]:
        while True:
            yield from self._once()

    def _once(self) -> Iterator[NDArray[np.uint8]]:
        return self._folder() if self._path.is_dir() else self._video()

    def _folder(self) -> Iterator[NDArray[np.uint8]]:
        files = sorted(file for file in self._path.iterdir() if file.suffix.lower() in PICTURES)
        if not files:
            raise SourceError(f"{printable(self._path)}: expected pictures ({', '.join(sorted(PICTURES))}), found none")
        for file in files:
            yield _as_rgb(_picture(file))

    def _video(self) -> Iterator[NDArray[np.uint8]]:
        try:
            file = open_file(self._path)  # FFmpeg would wait for a FIFO, and OpenCV crashes where a name is no UTF-8
        except FileError as error:
            raise SourceError(str(error)) from error
        capture = cv2.VideoCapture(f"/proc/self/fd/{file.fileno()}", cv2.CAP_FFMPEG)
        try:
            width, height = (capture.get(side) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
            if width * height > PIXEL_LIMIT:
                raise SourceError(
                    f"{printable(self._path)}: expected at most {PIXEL_LIMIT} pixels, found {width:.0f}x{height:.0f}"
                )
            there, pixels = capture.read()
            if not there:
                raise SourceError(f"{printable(self._path)}: is damaged, or no video")
            while there:
                yield _as_rgb(pixels)
                there, pixels = capture.read()
        finally:
            capture.release()
            file.close()


def _picture(file: Path) -> cv2.typing.MatLike:
    try:
        data = read_bytes(file, _LARGEST_PICTURE)
        check_picture(data)
    except FileError as error:
        raise SourceError(str(error)) from error
    except PictureError as error:
        raise SourceError(f"{printable(file)}: is damaged, or no picture: {error}") from error
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise SourceError(f"{printable(file)}: is damaged, or no picture")
    return pixels


def _as_rgb(pixels: cv2.typing.MatLike) -> NDArray[np.uint8]:
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]  # uint8, as it was read in colour
