# SPDX-License-Identifier: Apache-2.0
"""Pictures in stored data: JPEG of high quality or PNG, and raw ones again of bytes that may come from anyone."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from serl_config.pictures import PictureError, check_picture

from serl_rl.spec import DataError

JPEG_QUALITY = 95
"""Quality of JPEG, with colours in full resolution (4:4:4).

In the pictures of our simulated cameras, 128 x 128, a value from 0 to 255 is then 0.6 off on average, one in a thousand
more than 12, and none more than 30.
"""

_SETTINGS = [
    *(cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
]


def encode_jpeg(picture: NDArray[np.uint8]) -> bytes:
    """JPEG of a picture, RGB uint8 (H, W, 3) or grey (H, W, 1).

    Raises:
        DataError: it has other channels, or more pixels than JPEG can hold.
    """
    return _encoded(picture, "JPEG", ".jpg", _SETTINGS)


def encode_png(picture: NDArray[np.uint8]) -> bytes:
    """PNG of a picture, RGB uint8 (H, W, 3) or grey (H, W, 1); raises DataError for any other."""
    return _encoded(picture, "PNG", ".png", [])


def decode_jpeg(data: bytes | memoryview, shape: tuple[int, ...], where: str) -> NDArray[np.uint8]:
    """The picture uint8 (H, W, C) in JPEG data. Its head is read first: what is larger than `shape` is never decoded.

    Args:
        data: that may come from anyone.
        shape: that the picture has to have, (H, W, 3) or (H, W, 1).
        where: the data come from, for errors.

    Raises:
        DataError: no JPEG picture of this shape.
    """
    return _decoded(data, shape, where, "jpeg")


def decode_picture(data: bytes | memoryview, shape: tuple[int, ...], where: str) -> NDArray[np.uint8]:
    """The picture uint8 (H, W, C) in JPEG or PNG data. Its head is read first: what is larger is never decoded.

    Args:
        data: that may come from anyone.
        shape: that the picture has to have, (H, W, 3) or (H, W, 1).
        where: the data come from, for errors.

    Raises:
        DataError: no picture of this shape.
    """
    return _decoded(data, shape, where)


def _encoded(picture: NDArray[np.uint8], kind: str, suffix: str, settings: list[int]) -> bytes:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] not in (1, 3):
        raise DataError("picture", "uint8 (H, W, 1) or (H, W, 3)", f"{picture.dtype} {picture.shape}")
    ordered = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) if picture.shape[2] == 3 else picture
    try:
        done, data = cv2.imencode(suffix, ordered, settings)
    except cv2.error:
        done, data = False, np.empty(0, np.uint8)
    if not done:
        raise DataError("picture", f"one that {kind} can hold", f"{picture.dtype} {picture.shape}")
    return data.tobytes()


def _decoded(data: bytes | memoryview, shape: tuple[int, ...], where: str, kind: str = "") -> NDArray[np.uint8]:
    expected = f"a picture of {shape}"
    if len(shape) != 3 or shape[2] not in (1, 3):
        raise DataError(where, "a shape (H, W, 1) or (H, W, 3)", f"{shape}")
    try:
        head = check_picture(data)
    except PictureError as error:
        raise DataError(where, expected, str(error)) from error
    if kind and head.kind != kind:
        raise DataError(where, f"a {kind.upper()} picture of {shape}", head.kind.upper())
    if (head.height, head.width) != shape[:2]:
        raise DataError(where, expected, f"one of {head.height}x{head.width}")
    flag = cv2.IMREAD_COLOR_RGB if shape[2] == 3 else cv2.IMREAD_GRAYSCALE
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), flag | cv2.IMREAD_IGNORE_ORIENTATION)
    if picture is None or picture.shape[:2] != shape[:2]:
        found = f"{len(data)} bytes that are no picture" if picture is None else str(picture.shape)
        raise DataError(where, expected, found)
    return np.asarray(picture.reshape(shape), np.uint8)
