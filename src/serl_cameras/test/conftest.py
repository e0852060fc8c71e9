# SPDX-License-Identifier: Apache-2.0
"""Videos and folders of pictures that exist for one test."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest


def picture(number: int, width: int = 64, height: int = 48) -> np.ndarray:
    """Return an RGB picture whose grey value tells its number, with a red corner."""
    pixels = np.full((height, width, 3), 10 * number, np.uint8)
    pixels[: height // 2, : width // 2] = (200, 20, 20)
    return pixels


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """`folder(count, width, height)` writes PNG files 0.png, 1.png, ..., whose numbers `number_of` reads."""

    def write(count: int, width: int = 64, height: int = 48, first: int = 0) -> Path:
        path = tmp_path / "pictures"
        path.mkdir(exist_ok=True)
        for number in range(first, first + count):
            cv2.imwrite(str(path / f"{number}.png"), picture(number, width, height)[..., ::-1])
        return path

    return write


@pytest.fixture
def video(tmp_path: Path) -> Callable[..., Path]:
    """`video(count)` writes a video of so many pictures."""

    def write(count: int, width: int = 64, height: int = 48) -> Path:
        path = tmp_path / "video.avi"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30, (width, height))
        assert writer.isOpened()
        for number in range(count):
            writer.write(picture(number, width, height)[..., ::-1])
        writer.release()
        return path

    return write


@pytest.fixture
def number_of() -> Callable[[np.ndarray], int]:
    """Number of a picture of `folder` or `video`."""
    return lambda pixels: round(float(pixels[-8:, -8:].mean()) / 10)
