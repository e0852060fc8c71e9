# SPDX-License-Identifier: Apache-2.0
"""Pictures in messages: RGB, uint8 (H, W, 3), without per-pixel Python and with no copy that can be avoided."""

from typing import Any

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image

from serl_ros.arrays import from_array

# Encodings of sensor_msgs: bytes of a pixel, and what OpenCV does to make RGB of them.
_ENCODINGS: dict[str, tuple[int, int | None]] = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
    "yuv422_yuy2": (2, cv2.COLOR_YUV2RGB_YUY2),
    "yuv422": (2, cv2.COLOR_YUV2RGB_UYVY),
}
_END_OF_JPEG = b"\xff\xd9"
_START_OF_JPEG = b"\xff\xd8"


class ImageError(ValueError):
    """A message holds no picture that we can read, or an array is none."""


def rgb_from_message(message: Image | CompressedImage) -> NDArray[np.uint8]:
    """RGB picture of a message, uint8 (H, W, 3).

    An `rgb8` image is viewed without a copy: it lives as long as the message, and what is kept must be copied. All
    others are converted into an array of their own.

    Raises:
        ImageError: unknown encoding, sizes that contradict each other, or damaged JPEG or PNG data.
    """
    if isinstance(message, CompressedImage):
        return _decompress(message)
    try:
        channels, conversion = _ENCODINGS[message.encoding]
    except KeyError:
        raise ImageError(f"encoding: expected {', '.join(_ENCODINGS)}, found {message.encoding!r}") from None
    height, width, step = message.height, message.width, message.step
    if height == 0 or width == 0:
        raise ImageError(f"expected a picture, found an empty one of {width}x{height}")
    if step < width * channels:
        raise ImageError(
            f"step: expected at least {width * channels} for {width} pixels {message.encoding}, found {step}"
        )
    if len(message.data) != step * height:
        raise ImageError(
            f"data: expected {step * height} bytes for {height} rows of {step}, found {len(message.data)} bytes"
        )
    pixels = np.ndarray((height, width, channels), np.uint8, message.data, strides=(step, channels, 1))
    if conversion is None:
        return pixels
    if message.encoding.startswith("yuv422") and width % 2:
        raise ImageError(f"width: expected an even number for {message.encoding}, found {width}")
    return _as_rgb(cv2.cvtColor(pixels, conversion))


def image_message(rgb: NDArray[np.uint8], stamp: Time, frame_id: str) -> Image:
    """`rgb8` message of an RGB picture, uint8 (H, W, 3).

    Raises:
        ImageError: `rgb` is no such picture.
    """
    height, width = _size(rgb)
    message = Image(height=height, width=width, encoding="rgb8", is_bigendian=0, step=width * 3)
    message.header.stamp = stamp
    message.header.frame_id = frame_id
    message.data.frombytes(np.ascontiguousarray(rgb).data)  # into the message's own array: one copy, no checks
    return message


def compressed_message(
    rgb: NDArray[np.uint8], stamp: Time, frame_id: str, *, jpeg_quality: int = 95
) -> CompressedImage:
    """JPEG message of an RGB picture, uint8 (H, W, 3), as image_transport publishes it below `<topic>/compressed`.

    Raises:
        ImageError: `rgb` is no such picture.
    """
    # The format names what was compressed, and the order of its channels as OpenCV's encoder took them.
    message = CompressedImage(format="rgb8; jpeg compressed bgr8")
    message.header.stamp = stamp
    message.header.frame_id = frame_id
    message.data.frombytes(encode_jpeg(rgb, jpeg_quality).data)
    return message


def encode_jpeg(rgb: NDArray[np.uint8], quality: int = 95) -> NDArray[np.uint8]:
    """JPEG file of an RGB picture, uint8 (H, W, 3), as uint8 (n,).

    Raises:
        ImageError: `rgb` is no such picture.
    """
    _size(rgb)
    done, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, quality))
    if not done:
        raise ImageError(f"OpenCV cannot compress a picture of {rgb.shape[1]}x{rgb.shape[0]}")
    return data.ravel()


def _decompress(message: CompressedImage) -> NDArray[np.uint8]:
    source, _, compression = message.format.partition(";")
    if (compression and source.strip() not in _ENCODINGS) or not any(
        word in message.format.lower() for word in ("jpeg", "jpg", "png")
    ):
        raise ImageError(f"format: expected jpeg or png of {', '.join(_ENCODINGS)}, found {message.format!r}")
    data = from_array(message.data)
    start, end = data[:2].tobytes(), data[-4096:].tobytes()  # cameras fill up with zeros
    if start == _START_OF_JPEG and _END_OF_JPEG not in end:
        raise ImageError(f"data: the JPEG picture has no end after {len(data)} bytes; it was cut off")
    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if len(data) else None
    except cv2.error as error:
        raise ImageError(f"data: {message.format!r} cannot be read: {error.err}") from error
    if pixels is None:
        raise ImageError(f"data: expected {message.format!r}, found {len(data)} bytes that are no such picture")
    # Some compress without exchanging red and blue first, and say so.
    return _as_rgb(pixels if "compressed rgb" in compression else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))


def _size(rgb: NDArray[np.uint8]) -> tuple[int, int]:
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
        raise ImageError(f"expected a picture, uint8 (H, W, 3), found {rgb.dtype} {rgb.shape}")
    return rgb.shape[0], rgb.shape[1]


def _as_rgb(pixels: Any) -> NDArray[np.uint8]:
    """OpenCV's stubs know no dtypes."""
    return pixels
