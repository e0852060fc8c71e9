# SPDX-License-Identifier: Apache-2.0
"""Pictures as PNG, and pictures of bytes that may come from anyone."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from serl_config.pictures import PictureError, check_picture
from serl_rl.spec import DataError


def encode_png(picture: NDArray[np.uint8]) -> bytes:
    """PNG of a picture, RGB uint8 (H, W, 3) or grey (H, W, 1); raises DataError for any other."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] not in (1, 3):
        raise DataError("picture", "uint8 (H, W, 1) or (H, W, 3)", f"{picture.dtype} {picture.shape}")
    ordered = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) if picture.shape[2] == 3 else picture
    done, data = cv2.imencode(".png", ordered)
    if not done:
        raise DataError("picture", "one that PNG can hold", f"{picture.shape}")
    return data.tobytes()


def decode_picture(data: bytes | memoryview, shape: tuple[int, ...], where: str) -> NDArray[np.uint8]:
    """The picture uint8 (H, W, C) in PNG or JPEG data, whose head is read before anything is decoded.

    Args:
        data: that may come from anyone.
        shape: that the picture has to have, (H, W, 3) or (H, W, 1).
        where: the data come from, for errors.

    Raises:
        DataError: no picture of this shape.
    """
    try:
        head = check_picture(data)
    except PictureError as error:
        raise DataError(where, f"a picture of {shape}", str(error)) from error
    if (head.height, head.width) != shape[:2]:
        raise DataError(where, f"a picture of {shape}", f"one of {head.height}x{head.width}")
    flag = cv2.IMREAD_COLOR_RGB if shape[2] == 3 else cv2.IMREAD_GRAYSCALE
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), flag | cv2.IMREAD_IGNORE_ORIENTATION)
    if picture is None or picture.shape[:2] != shape[:2] or shape[2] not in (1, 3):
        raise DataError(where, f"a picture of {shape}", f"{len(data)} bytes that are none")
    return np.asarray(picture.reshape(shape), np.uint8)
